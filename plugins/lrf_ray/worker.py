"""What runs in a worker: the component itself, and what the run's machine must know of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lrf.errors import LrfError
from lrf.protocols import Capabilities, Detachable
from lrf.text.redaction import redact
from lrf.types import JSON


@dataclass(frozen=True, slots=True)
class Description:
    """The members of a component that aren't calls; see its protocol. None for what its kind doesn't have.

    ``detaches``: its server works on when nobody waits (:class:`lrf.protocols.Detachable`).
    """

    identity: Mapping[str, JSON]
    max_concurrency: int
    capabilities: Capabilities | None
    request_timeout_s: float | None
    per_call: int | None
    batch_size: int | None
    detaches: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """An error of the component, as a value: an exception would be wrapped, and written to a log of Ray's."""

    error: LrfError


class Worker:
    """One component at work. Made again by Ray when its process died, and then it makes its component again."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._component: Any = None

    def _made(self) -> Any:
        if self._component is None:
            self._component = self._make()
        return self._component

    async def describe(self) -> Description | Failure:
        try:
            component = self._made()
            capabilities = getattr(component, "capabilities", None)
            return Description(
                identity=dict(component.identity),
                max_concurrency=component.max_concurrency,
                capabilities=capabilities,
                request_timeout_s=getattr(component, "request_timeout_s", None),
                per_call=getattr(component, "per_call", None),
                batch_size=getattr(component, "batch_size", None),
                detaches=isinstance(component, Detachable) and capabilities is not None and not capabilities.steady,
            )
        except LrfError as error:
            return Failure(_redacted(error))

    async def call(self, method: str, arguments: tuple[Any, ...]) -> Any:
        """What the component's method gives; a :class:`Failure` for an error of lrf's."""
        try:
            return await getattr(self._made(), method)(*arguments)
        except LrfError as error:
            return Failure(_redacted(error))

    async def metrics(self) -> Mapping[str, JSON]:
        report = getattr(self._made(), "metrics", None)
        try:
            return {} if report is None else await report()
        except LrfError:
            return {}

    async def aclose(self) -> None:
        if self._component is not None:
            await self._component.aclose()


def _redacted(error: LrfError) -> LrfError:
    """The error without keys in its texts, and without the frames and causes that can't travel."""
    error.args = tuple(redact(part) if isinstance(part, str) else part for part in error.args)
    for name, value in vars(error).items():
        if isinstance(value, str):
            setattr(error, name, redact(value))
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
