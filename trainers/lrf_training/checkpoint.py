"""Atomic checkpoints: the exported model, and the training state from which a training resumes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrf.errors import StageError
from lrf_training.processes import on_first_process, rank, wait_for_all

COMPLETE = "complete.json"
"""File that marks a training state as complete; written after all others are on the disk."""


@contextmanager
def files_named(folder: Path) -> Iterator[None]:
    """An error of the system in the block is a :class:`lrf.errors.StageError` that names the file, or the folder."""
    try:
        yield
    except OSError as error:
        raise StageError(f"{error.filename or folder}: {error.strerror or error}") from error


def export(write: Callable[[Path], None], folder: Path) -> None:
    """Replace the checkpoint ``folder`` atomically. Called in all processes.

    ``write`` fills a new folder, which is then renamed; the old checkpoint stays valid until then. Raises
    :class:`lrf.errors.StageError` if the checkpoint can't be written.
    """
    new, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    if rank() == 0:
        recover(folder)
    failure = _attempt(lambda: write(new))

    def rename() -> None:
        if failure is None:
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
        raise StageError(_cant_save(folder, failure, kept))

    on_first_process(rename)


def recover(folder: Path) -> None:
    """Clean up after a save that was killed: remove the partial checkpoint, restore one that had been renamed."""
    new, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    shutil.rmtree(new, ignore_errors=True)
    if old.exists():
        if folder.exists():
            shutil.rmtree(old)
        else:
            old.rename(folder)


@dataclass(frozen=True)
class TrainingStates:
    """Training states in ``folder``: weights, optimizer, scheduler, random generators and position in the data.

    Parameters
    ----------
    folder: contains a folder ``checkpoint-STEP`` for each state.
    fingerprint: of the training; a state of another training is never resumed.
    world: number of processes.
    sharded: each process saves its own shard, which only the same number of processes can load.
    """

    folder: Path
    fingerprint: str
    world: int
    sharded: bool

    def latest(self) -> Path | None:
        """The last complete state of this training, or None.

        Complete states of other trainings are set aside, in ``folder / "others"``, until this one is complete; partial
        ones are removed. Raises :class:`lrf.errors.StageError` if it was saved by a number of processes that can't be
        loaded here.
        """
        return on_first_process(self._latest)

    def notes(self) -> list[str]:
        """What a person should know of states that were found and aren't resumed."""
        others = sorted(self._others.glob("*/checkpoint-*"))
        if not others:
            return []
        steps = ", ".join(path.name.split("-")[1] for path in others)
        return [
            f"training states of other settings, rows or weights (step {steps}) don't fit this training; they are kept "
            f"in {self._others} until it is complete"
        ]

    @property
    def _others(self) -> Path:
        return self.folder / "others"

    def _latest(self) -> Path | None:
        self._set_others_aside()
        states = sorted(self.folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
        complete_states = [path for path in states if self._is_complete(path)]
        for path in states:
            if path not in complete_states[-1:]:
                shutil.rmtree(path)
        if not complete_states:
            return None
        saved = json.loads((complete_states[-1] / COMPLETE).read_text())
        if saved["world"] != self.world and (self.sharded or saved["sharded"]):
            raise StageError(
                f"{complete_states[-1]}: {saved['world']} processes saved this training's state, each its part of it, "
                f"and {self.world} can't resume from it; run with {saved['world']} processes, or remove {self.folder} "
                "to start again from the beginning"
            )
        return complete_states[-1]

    def _set_others_aside(self) -> None:
        """Move complete states of other trainings away, and those of this one back."""
        for path in self.folder.glob("checkpoint-*"):
            other = _mark(path).get("fingerprint", self.fingerprint)
            if other != self.fingerprint:
                _move(path, self._others / other[:16] / path.name)
        for path in (self._others / self.fingerprint[:16]).glob("checkpoint-*"):
            _move(path, self.folder / path.name)

    def _is_complete(self, path: Path) -> bool:
        saved = _mark(path)
        return bool(saved and saved["fingerprint"] == self.fingerprint and saved["files"] == _sizes(path))

    def save(self, write: Callable[[], None], path: Path) -> None:
        """Save a state with ``write``, mark it complete, then remove the previous one. Called in all processes.

        Raises :class:`lrf.errors.StageError` if any process can't write its part; the previous state stays.
        """
        failure = _attempt(write)
        if failure is not None and rank():  # at once: the others may be waiting for this process inside ``write``
            raise StageError(_cant_save(path, failure, "the previous state is kept, if there was one"))
        wait_for_all()

        def complete() -> None:
            if failure is not None:
                shutil.rmtree(path, ignore_errors=True)
                kept = any(map(self._is_complete, self.folder.glob("checkpoint-*")))
                raise StageError(
                    _cant_save(path, failure, "the previous state is kept" if kept else "there is no previous state")
                )
            for file in path.rglob("*"):
                fsync_path(file)
            mark = {
                "fingerprint": self.fingerprint,
                "world": self.world,
                "sharded": self.sharded,
                "files": _sizes(path),
            }
            write_whole(path / COMPLETE, json.dumps(mark))
            fsync_path(path)
            for other in self.folder.glob("checkpoint-*"):
                if other != path:
                    shutil.rmtree(other)

        on_first_process(complete)


def _mark(path: Path) -> dict[str, Any]:
    """The mark of a complete state; empty if it has none."""
    try:
        mark: dict[str, Any] = json.loads((path / COMPLETE).read_text())
    except (OSError, ValueError):
        return {}
    return mark


def _move(path: Path, to: Path) -> None:
    shutil.rmtree(to, ignore_errors=True)
    to.parent.mkdir(parents=True, exist_ok=True)
    path.rename(to)


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


def write_whole(path: Path, text: str) -> None:
    """Write a file that is there as a whole or not at all, whenever the process or the machine ends."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text, encoding="utf-8")
    fsync_path(new)
    new.rename(path)


def fsync_path(path: Path) -> None:
    """fsync a file, or a folder's directory entries."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
