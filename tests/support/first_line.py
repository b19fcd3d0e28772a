"""Standard output of a command that runs in this process."""

from __future__ import annotations

import io
from concurrent.futures import Future


class FirstLine(io.StringIO):
    """Standard output, whose first line another thread waits for: the address of a server, say."""

    def __init__(self) -> None:
        super().__init__()
        self.line: Future[str] = Future()

    def write(self, text: str) -> int:
        written = super().write(text)
        if text.strip() and not self.line.done():
            self.line.set_result(text.strip())
        return written
