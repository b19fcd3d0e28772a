"""uvicorn's server, ended by signals as all of lrf is: the first lets work end, the second ends at once."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn

import lrf
from lrf.errors import RunInterruptedError
from lrf_server.connection import Connection
from lrf_server.scorings import Scorings

IDLE_S = 120.0
"""Seconds that a connection may be idle: longer than clients keep theirs, or it might end just as a request is sent."""


def configured(app: Any, **options: Any) -> uvicorn.Config:
    """How uvicorn serves the application; ``options`` are its own, of TLS."""
    return uvicorn.Config(
        app, http=Connection, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False,
        proxy_headers=False, timeout_keep_alive=int(IDLE_S), **options,
    )  # fmt: skip


class Server(uvicorn.Server):
    """uvicorn's own handlers of signals raise them again afterwards, which would end the process before the journal."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def until_signalled(self, listening: socket.socket, model: lrf.RewardModel, scorings: Scorings) -> None:
        """Serve on the model's own event loop until SIGINT or SIGTERM. Blocks the main thread.

        Requests that have come are answered, and what is being scored is finished.
        """

        async def serve() -> None:
            await self.serve(sockets=[listening])
            await scorings.finish()

        before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            model.run(serve())
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.should_exit:
            os._exit(RunInterruptedError.exit_code)  # the journal is always safe
        self.should_exit = True
