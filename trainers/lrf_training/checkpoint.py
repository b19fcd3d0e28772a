"""Checkpoints that are whole or not there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from lrf.errors import StageError


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write weights (safetensors), tokenizer and chat template beside ``folder``, then rename them into place.

    The checkpoint that was there stays valid until the new one is whole. Raises :class:`lrf.errors.StageError` when
    it can't be written.
    """
    from safetensors import SafetensorError

    new, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    recover(folder)
    try:
        new.mkdir(parents=True)
        model.save_pretrained(new)
        tokenizer.save_pretrained(new)
        for file in new.iterdir():
            _to_disk(file)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        _to_disk(folder.parent)
    except (OSError, SafetensorError) as error:
        free = shutil.disk_usage(folder.parent).free if folder.parent.exists() else 0
        recover(folder)
        kept = f"the last good checkpoint is still in {folder}" if folder.exists() else "there is no checkpoint yet"
        raise StageError(
            f"{folder}: the checkpoint can't be saved: {error} ({free / 2**30:.1f} GiB free); {kept}. Make room and "
            "run the command again"
        ) from error
    shutil.rmtree(old, ignore_errors=True)


def recover(folder: Path) -> None:
    """Clear away what a killed save left behind; the last whole checkpoint comes back if it had been moved aside."""
    new, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    shutil.rmtree(new, ignore_errors=True)
    if old.exists():
        if folder.exists():
            shutil.rmtree(old)
        else:
            old.rename(folder)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
