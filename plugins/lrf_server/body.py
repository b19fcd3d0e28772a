"""A request's body: JSON of a bounded length, within a bounded time, and few long ones at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from lrf.rows.values import finite, refuse_constant

BODY_S = 60.0
"""Seconds that a body may take to arrive."""
LARGE = 100_000
"""Bytes of a body, or characters of its texts, from which on it is read beside the event loop."""
AT_ONCE = 64
"""Large bodies that are read at once; others wait in the network, so that memory doesn't grow with the connections."""


class RequestError(Exception):
    """A request that gets an error: the status and a sentence."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


@dataclass(slots=True)
class Bodies:
    """Reads bodies of at most ``most_bytes``."""

    most_bytes: int
    _large: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def json(self, request: Request) -> dict[str, Any]:
        """The body's object. Raises :class:`RequestError`."""
        length = self._length(request)
        async with contextlib.nullcontext() if length is not None and length < LARGE else self._large:
            raw = await self._read(request)
            try:
                body = await asyncio.to_thread(_parsed, raw) if len(raw) > LARGE else _parsed(raw)
            except RecursionError:
                raise RequestError(400, "the body is nested too deeply") from None
            except ValueError as error:
                raise RequestError(400, f"the body is not JSON: {str(error)[:200]}") from None
        if not isinstance(body, dict):
            raise RequestError(422, "the body must be a JSON object")
        return body

    def _length(self, request: Request) -> int | None:
        """What the head says of the body's length; None where it says nothing (chunks)."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise RequestError(415, "Content-Type: expected application/json")
        length = request.headers.get("content-length")
        if length is None:
            return None
        if not length.isascii() or not length.isdigit():
            raise RequestError(400, "Content-Length: expected a whole number")
        if len(length) > 18 or int(length) > self.most_bytes:
            raise self._too_large()
        return int(length)

    async def _read(self, request: Request) -> bytes:
        parts, size = [], 0
        try:
            async with asyncio.timeout(BODY_S):
                while True:
                    message = await request.receive()
                    if message["type"] == "http.disconnect":
                        raise RequestError(400, "the client left before its request was complete")
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > self.most_bytes:
                        raise self._too_large()
                    if not message.get("more_body"):
                        return b"".join(parts)
        except TimeoutError:
            says = f"the body took more than {BODY_S:g} s to arrive"
            raise RequestError(408, says, {"connection": "close"}) from None

    def _too_large(self) -> RequestError:
        says = f"the body is longer than {self.most_bytes} bytes (`--max-body-mb`)"
        return RequestError(413, says, {"connection": "close"})


def _parsed(raw: bytes) -> Any:
    return json.loads(raw, parse_constant=refuse_constant, parse_float=finite)
