"""The workers of one component: where a call goes, and what becomes of it when its worker dies."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import lru_cache, partial
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from lrf.errors import StageError, UnavailableError
from lrf.types import JSON
from lrf_ray.settings import RaySettings
from lrf_ray.worker import Description, Failure, Worker

CLOSING_S = 10.0
"""Seconds that a component may take to close before its worker is ended."""


class Pool:
    """Workers that each have the same component.

    Parameters
    ----------
    title: the component's name in messages: "judges.main".
    make: makes the component in a worker.
    settings: how many workers there are, and what each may use.
    on_closed: called when all workers are gone.

    Raises :class:`lrf.errors.StageError` when no worker starts in time, and what ``make`` raises.
    """

    def __init__(
        self, title: str, make: Callable[[], Any], settings: RaySettings, on_closed: Callable[[], object]
    ) -> None:
        self._title = title
        self._on_closed = on_closed
        cores = settings.cpus if settings.address else 0  # alone on this machine, all workers share what it has
        actor = ray.remote(Worker).options(
            num_cpus=cores, num_gpus=settings.gpus, max_restarts=-1, scheduling_strategy="SPREAD"
        )
        self._workers = [actor.remote(make) for _ in range(settings.workers)]
        self._busy = [0] * settings.workers
        self._ready = {0}
        try:
            self.description = self._described(settings)
        except BaseException:
            self.end()
            raise
        for place in range(1, settings.workers):
            self._await(place)

    def _described(self, settings: RaySettings) -> Description:
        try:
            described = ray.get(self._workers[0].describe.remote(), timeout=settings.start_timeout_s)
        except GetTimeoutError:
            wanted = f"{settings.cpus:g} CPU cores and {settings.gpus:g} GPUs"
            raise StageError(
                f"{self._title}: no worker started within {settings.start_timeout_s:g} s (`start_timeout_s`); does a "
                f"machine of the cluster have {wanted} free? `ray status` says what there is"
            ) from None
        except RayError as error:
            raise StageError(f"{self._title}: its worker can't start: {_first_line(error)}") from None
        if isinstance(described, Failure):
            raise described.error
        assert isinstance(described, Description)
        return described

    def _await(self, place: int) -> None:
        """Send no call to this worker until it has made its component."""
        self._ready.discard(place)
        self._workers[place].describe.remote().future().add_done_callback(partial(self._started, place))

    def _started(self, place: int, described: Future[Description | Failure]) -> None:
        if described.exception() is None:
            self._ready.add(place)

    @property
    def workers(self) -> int:
        return len(self._workers)

    async def call(self, method: str, *arguments: Any, near: bytes | None = None) -> Any:
        """What the component's method gives. Calls with the same ``near`` go to the same worker while it has room.

        Raises what the method raises, and :class:`lrf.errors.UnavailableError` when the worker is lost.
        """
        place = self._place(near)
        was_ready = place in self._ready
        self._busy[place] += 1
        reference = self._workers[place].call.remote(method, arguments)
        try:
            result = await reference
        except asyncio.CancelledError:
            ray.cancel(reference)
            raise
        except RayTaskError as error:
            raise error.as_instanceof_cause() from None
        except RayError as error:
            if self._workers:
                self._await(place)
            raise UnavailableError(f"worker {place} of {self._title}: {_first_line(error)}", sent=was_ready) from None
        finally:
            self._busy[place] -= 1
        if isinstance(result, Failure):
            raise result.error
        return result

    def _place(self, near: bytes | None) -> int:
        """The worker that a call goes to: the first in the order of ``near`` with room, else the one with least to do.

        While all are being made again, it is any: the call then waits for it.
        """
        ready = self._ready.copy() or set(range(self.workers))
        if near is not None:
            for place in _order(near, self.workers):
                if place in ready and self._busy[place] < self.description.max_concurrency:
                    return place
        return min(ready, key=self._busy.__getitem__)

    async def metrics(self) -> Mapping[str, JSON]:
        """The figures of each worker that has some and answers, by its number."""
        metrics = await asyncio.gather(*(worker.metrics.remote() for worker in self._workers), return_exceptions=True)
        return {f"worker {n}": figures for n, figures in enumerate(metrics) if isinstance(figures, Mapping) and figures}

    async def aclose(self) -> None:
        """Close the components and end the workers. May be called more than once."""
        if not self._workers:
            return
        closing = [worker.aclose.remote() for worker in self._workers]
        await asyncio.to_thread(ray.wait, closing, num_returns=len(closing), timeout=CLOSING_S)
        self.end()
        await asyncio.to_thread(self._on_closed)

    def end(self) -> None:
        """End the workers at once."""
        for worker in self._workers:
            ray.kill(worker)
        self._workers = []


@lru_cache(maxsize=4096)
def _order(near: bytes, workers: int) -> tuple[int, ...]:
    """All workers, in an order that follows from ``near`` alone; one worker less moves only what was its own."""
    return tuple(sorted(range(workers), key=lambda n: hashlib.blake2b(near + b"%d" % n, digest_size=8).digest()))


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
