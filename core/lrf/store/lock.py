"""One process a run directory."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path
from types import TracebackType

from lrf.errors import RunError


class RunLock:
    """An advisory lock on a run directory, held until it is closed or its last holder dies.

    A child process that inherits ``fileno()`` (``pass_fds``) keeps the lock alive after its parent's death, so an
    orphaned stage and a new run never write to one directory at the same time.

    Raises :class:`lrf.errors.RunError`, naming the holder, when another process has it.
    """

    def __init__(self, run_dir: Path) -> None:
        path = run_dir / "lock"
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise RunError(f"{path}: the run directory can't be locked: {error.strerror}") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if not isinstance(error, BlockingIOError):
                os.close(self._fd)
                raise RunError(
                    f"{path}: this filesystem can't lock files ({error.strerror}); choose another `--runs`"
                ) from error
            holder = os.read(self._fd, 200).decode("utf-8", "replace").strip() or "another process"
            os.close(self._fd)
            raise RunError(
                f"{run_dir} is in use by {holder}; wait for it to end, or choose another `name:` or `--runs` folder"
            ) from error
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> RunLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
