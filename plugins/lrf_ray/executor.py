"""The executor: workers of a Ray cluster, which is joined, or started on this machine."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayError

from lrf.errors import StageError
from lrf_ray.pool import Pool
from lrf_ray.remote import RemoteEmbedder, RemoteJudge, RemoteSampler
from lrf_ray.settings import RaySettings

CONNECTING_S = 10.0
"""Seconds until a cluster's address that doesn't answer is given up."""

_REMOTE = {"judge": RemoteJudge, "sampler": RemoteSampler, "embedder": RemoteEmbedder}
_TITLES = {"judge": "judges.{}", "sampler": "sample", "embedder": "embedders.{}"}


class RayExecutor:
    """See :class:`lrf.protocols.Executor`."""

    def __init__(self, settings: RaySettings) -> None:
        self._settings = settings
        self._pools = 0
        self._started = False

    def place(self, kind: str, name: str, make: Callable[[], Any]) -> Any:
        """See :class:`lrf.protocols.Executor`. What works on when nobody waits (a batch API) stays here."""
        if kind == "embedder" and not self._settings.embedders:
            return make()
        self._join()
        self._pools += 1
        try:
            pool = Pool(_TITLES[kind].format(name), make, self._settings, self._left)
        except BaseException:
            self._left()
            raise
        if pool.description.detaches:
            pool.end()
            self._left()
            return make()
        return _REMOTE[kind](pool)

    def _join(self) -> None:
        """Join the cluster, or start one. A process that is in a cluster already stays in it."""
        if ray.is_initialized():
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
        address = self._settings.address
        try:
            _check_listening(address)
            with _own_signals():
                ray.init(
                    address=address or "local", include_dashboard=False, log_to_driver=False, logging_level="error"
                )
        except (OSError, RayError, RuntimeError, ValueError) as error:
            where = f"the Ray cluster at {address} can't be joined" if address else "Ray can't start on this machine"
            token = "; a cluster that wants a token takes it where RAY_AUTH_MODE=token is set" if address else ""
            raise StageError(f"{where}: {type(error).__name__}: {error}{token}") from None
        self._started = True

    def _left(self) -> None:
        """One pool less; with the last one, the cluster that was joined or started is left."""
        self._pools -= 1
        if self._pools == 0 and self._started:
            self._started = False
            ray.shutdown()


def _check_listening(address: str | None) -> None:
    """Raises OSError where nothing listens: Ray itself would wait for minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), CONNECTING_S).close()


@contextmanager
def _own_signals() -> Iterator[None]:
    """Signal handlers are afterwards as they were: Ray sets its own, which would end a run at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
