"""Where rewards come from: a server's address or a pipeline's path, opened once in each process."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, TypeVar

import lrf
from lrf.errors import LrfError, RunError
from lrf.rows.asked import sample_asked
from lrf.rows.document_store import DocumentStore

T = TypeVar("T")

FOREVER_S = 3600.0


class MissingRewardError(LrfError):
    """An answer has no reward, and the stack that asked has no other way of saying so."""


class Outcome(NamedTuple):
    """The outcome of an answer: its reward and ratings, or why there is none."""

    reward: float | None
    ratings: Mapping[str, float | None]
    why: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """A server or a pipeline. It is a name only: whatever holds it can be forked and pickled.

    Parameters
    ----------
    where: ``http://…`` or ``https://…`` for a server, else the path of a pipeline file.
    runs: the folder of run directories, for a pipeline.
    deadline_s: seconds until an answer without a reward counts as missing; None: an hour.
    on_missing: "error", "missing" (the stack's own word) or a number that stands in for a missing reward.

    A server's token is taken from the environment variable LRF_SERVE_TOKEN.
    """

    where: str
    runs: str = "runs"
    deadline_s: float | None = None
    on_missing: str | float = "error"

    async def outcomes(self, requests: Sequence[Mapping[str, Any]]) -> list[list[Outcome]]:
        """The outcome of each answer of each request (:mod:`lrf.rows.asked`), from any event loop."""
        return await asyncio.wrap_future(self._submit(requests))

    def outcomes_sync(self, requests: Sequence[Mapping[str, Any]]) -> list[list[Outcome]]:
        """:meth:`outcomes` for synchronous code."""
        return self._submit(requests).result()

    def value(self, outcome: Outcome, missing: T) -> float | T:
        """The reward, or what ``on_missing`` says; ``missing`` is the stack's own word.

        Raises :class:`MissingRewardError`.
        """
        if outcome.reward is not None:
            return outcome.reward
        if self.on_missing == "missing":
            return missing
        if isinstance(self.on_missing, str):
            raise MissingRewardError(f"no reward: {outcome.why}")
        return self.on_missing

    def _submit(self, requests: Sequence[Mapping[str, Any]]) -> Future[list[list[Outcome]]]:
        opened = _opened(self.where, self.runs)
        deadline_s = self.deadline_s or FOREVER_S

        async def all_of_them() -> list[list[Outcome]]:
            return await asyncio.gather(*(opened.client.outcomes(request, deadline_s) for request in requests))

        return opened.submit(all_of_them())


class Client(Protocol):
    """What answers requests, on the event loop of its own thread."""

    async def outcomes(self, request: Mapping[str, Any], deadline_s: float) -> list[Outcome]: ...

    async def aclose(self) -> None: ...


class LocalClient:
    """A pipeline in this process, with the journal of its run."""

    def __init__(self, pipeline: str, runs: str) -> None:
        try:
            self._model = lrf.RewardModel.from_pipeline(pipeline, runs=runs, share_s=60.0)
        except RunError as error:
            raise RunError(
                f"{error}. A pipeline's path is for one process; for several, start `lrf serve {pipeline}` and give "
                "its address"
            ) from error
        self._store = DocumentStore()

    async def outcomes(self, request: Mapping[str, Any], deadline_s: float) -> list[Outcome]:
        sample = await asyncio.to_thread(sample_asked, request, self._store, self._model.prompt_template)
        alone = [replace(sample, candidates=(candidate,)) for candidate in sample.candidates]
        tasks = [asyncio.ensure_future(self._model.score_sample(one)) for one in alone]
        await asyncio.wait(tasks, timeout=deadline_s)
        return [self._outcome(task, deadline_s) for task in tasks]

    async def aclose(self) -> None:
        self._model.close()  # at the end of the process, when no other thread can begin; nothing else works here then

    @staticmethod
    def _outcome(task: asyncio.Future[tuple[lrf.Reward, ...]], deadline_s: float) -> Outcome:
        if not task.done():
            return Outcome(None, {}, f"not scored within {deadline_s:g} s")
        (reward,) = task.result()
        unscored = reward.unscored
        return Outcome(reward.reward, reward.ratings, f"{unscored.reason}: {unscored.detail}" if unscored else "")


class _Opened:
    """A client with the event loop that it works on, in a thread of its own."""

    def __init__(self, where: str, runs: str) -> None:
        self.client: Client
        if where.startswith(("http://", "https://")):
            from lrf_doors.remote import RemoteClient

            self.client = RemoteClient(where)
        else:
            self.client = LocalClient(where, runs)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="lrf-doors", daemon=True).start()
        self._process = os.getpid()
        atexit.register(self._close)

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _close(self) -> None:
        if os.getpid() == self._process:  # a forked process has neither the thread nor the connections
            self.submit(self.client.aclose()).result()


_open: dict[tuple[str, str], _Opened] = {}
_lock = threading.Lock()


def _opened(where: str, runs: str) -> _Opened:
    """The client of this process."""
    with _lock:
        if (where, runs) not in _open:
            _open[where, runs] = _Opened(where, runs)
        return _open[where, runs]


def _forget() -> None:
    """A process that was forked has none of its parent's threads, so it opens everything anew."""
    global _lock
    _lock = threading.Lock()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
