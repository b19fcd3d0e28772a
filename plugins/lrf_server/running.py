"""uvicorn's server, ended by signals as all of lrf is: the first lets work end, the second ends at once."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from lrf.errors import RunInterruptedError
from lrf_server.scorings import Scorings


class Server(uvicorn.Server):
    """uvicorn's own handlers of signals raise them again afterwards, which would end the process before the journal."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def until_signalled(self, listening: socket.socket, scorings: Scorings) -> None:
        """Serve until SIGINT or SIGTERM. Requests that have come are answered, and what is being scored is finished."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop)
        await self.serve(sockets=[listening])
        await scorings.finish()

    def _stop(self) -> None:
        if self.should_exit:
            os._exit(RunInterruptedError.exit_code)  # the journal is always safe
        self.should_exit = True
