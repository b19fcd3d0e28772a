"""Checkpoints that are whole or not there: the exported model, and the state that a training goes on from."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lrf.errors import StageError
from lrf_training.processes import on_first_process, rank, wait_for_all

COMPLETE = "complete.json"
"""Written into a training state when all the rest of it is on the disk."""


def export(write: Callable[[Path], None], folder: Path) -> None:
    """Let ``write`` make the files beside ``folder``, then rename them into place. Called in all processes.

    The checkpoint that was there stays valid until the new one is whole. Raises :class:`lrf.errors.StageError` when
    it can't be written.
    """
    new, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    if rank() == 0:
        recover(folder)
    trouble = _attempt(lambda: write(new))

    def rename() -> None:
        if trouble is None:
            for file in new.iterdir():
                fsync_path(file)
            if folder.exists():
                folder.rename(old)
            new.rename(folder)
            fsync_path(folder.parent)
            shutil.rmtree(old, ignore_errors=True)
            return
        recover(folder)
        kept = f"the last good checkpoint is still in {folder}" if folder.exists() else "there is no checkpoint yet"
        raise StageError(_cant_save(folder, trouble, kept))

    on_first_process(rename)


def recover(folder: Path) -> None:
    """Clear away what a killed save left behind; the last whole checkpoint comes back if it had been moved aside."""
    new, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    shutil.rmtree(new, ignore_errors=True)
    if old.exists():
        if folder.exists():
            shutil.rmtree(old)
        else:
            old.rename(folder)


@dataclass(frozen=True)
class TrainingStates:
    """Training states in ``folder``: weights, optimizer, scheduler, random numbers, the place in the data.

    ``fingerprint`` names what decides the training (settings, data, model): a state of another is of no use. ``world`` says
    how many processes hold it, ``sharded`` whether each holds a part that no other number of processes can read.
    """

    folder: Path
    fingerprint: str
    world: int
    sharded: bool

    def latest(self) -> Path | None:
        """The last whole state, None where there is none. The others are cleared away.

        Raises :class:`lrf.errors.StageError` when another number of processes saved it and this one can't read it.
        """
        return on_first_process(self._latest)

    def _latest(self) -> Path | None:
        states = sorted(self.folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
        whole = [path for path in states if self._is_whole(path)]
        for path in states:
            if path not in whole[-1:]:
                shutil.rmtree(path)
        if not whole:
            return None
        saved = json.loads((whole[-1] / COMPLETE).read_text())
        if saved["world"] != self.world and (self.sharded or saved["sharded"]):
            raise StageError(
                f"{whole[-1]}: {saved['world']} processes saved this training's state, each its part of it, and "
                f"{self.world} can't go on from it; run with {saved['world']} processes, or remove {self.folder} to "
                "start the training anew"
            )
        return whole[-1]

    def _is_whole(self, path: Path) -> bool:
        try:
            saved = json.loads((path / COMPLETE).read_text())
        except (OSError, ValueError):
            return False
        return bool(saved["fingerprint"] == self.fingerprint and saved["files"] == _sizes(path))

    def save(self, write: Callable[[], None], path: Path) -> None:
        """Let ``write`` make the state ``path``, mark it whole, and only then remove the one before. In all processes.

        Raises :class:`lrf.errors.StageError` when any process can't write its part; the state before stays.
        """
        trouble = _attempt(write)
        if trouble is not None and rank():  # at once: the others may wait for this process in the middle of their part
            raise StageError(_cant_save(path, trouble, "the state before it stays, if there is one"))
        wait_for_all()

        def complete() -> None:
            if trouble is not None:
                shutil.rmtree(path, ignore_errors=True)
                kept = any(map(self._is_whole, self.folder.glob("checkpoint-*")))
                raise StageError(
                    _cant_save(path, trouble, "the state before it stays" if kept else "there is no state before it")
                )
            for file in path.rglob("*"):
                fsync_path(file)
            mark = {
                "fingerprint": self.fingerprint,
                "world": self.world,
                "sharded": self.sharded,
                "files": _sizes(path),
            }
            (path / f"{COMPLETE}.new").write_text(json.dumps(mark))
            fsync_path(path / f"{COMPLETE}.new")
            (path / f"{COMPLETE}.new").rename(path / COMPLETE)
            fsync_path(path)
            for other in self.folder.glob("checkpoint-*"):
                if other != path:
                    shutil.rmtree(other)

        on_first_process(complete)


def _attempt(write: Callable[[], None]) -> Exception | None:
    from safetensors import SafetensorError

    try:
        write()
    except (OSError, SafetensorError, RuntimeError) as error:  # torch.save says RuntimeError on a full disk
        return error
    return None


def _cant_save(path: Path, error: Exception, kept: str) -> str:
    free = shutil.disk_usage(path.parent).free if path.parent.exists() else 0
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        f"{path}: the checkpoint can't be saved: {reason} ({free / 2**30:.1f} GiB free); {kept}. Make room and run the "
        "command again"
    )


def _sizes(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(COMPLETE)
    }


def fsync_path(path: Path) -> None:
    """Return when the file, or the folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
