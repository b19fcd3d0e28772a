"""The protocol of executors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Executor(Protocol):
    """Says where judges, embedders and the sampler work: in other processes, on other machines.

    The engine stays where it is, with the journal and the budget: it asks what :meth:`place` returns as it would ask
    the component itself. So one process writes the journal, and a run gives the same files wherever its models work.

    >>> class Here:
    ...     def __init__(self, settings): ...
    ...     def place(self, kind, name, make):
    ...         return make()
    """

    def place(self, kind: str, name: str, make: Callable[[], Any]) -> Any:
        """A component of the same protocol, ``identity`` and ``capabilities`` that works elsewhere.

        Parameters
        ----------
        kind: "judge", "embedder" or "sampler".
        name: what the pipeline calls it; of the sampler, its type.
        make: makes the component, in any process that has the same packages; it can be pickled and holds no key.

        Its ``max_concurrency`` is that of all places together. A place that is lost is an
        :class:`lrf.errors.UnavailableError` of the call, which is then made again. ``aclose`` gives all places up.
        Raises :class:`lrf.errors.LrfError` when there is no place, or when the component can't be made there.
        """
        ...
