"""Several processes train one model: what only the first of them does, and what all must wait for."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

from lrf.errors import StageError

T = TypeVar("T")


def rank() -> int:
    """This process's number, from 0, as the launcher gave it."""
    return int(os.environ.get("RANK", 0))


def world() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", 1))


def on_first_process(work: Callable[[], T]) -> T:
    """What ``work`` gives in the first process, in all of them; a :class:`lrf.errors.StageError` likewise.

    Call it after the process group is there (a TrainingArguments has been made).
    """
    if world() == 1:
        return work()
    from torch import distributed

    told: list[Any] = [None, None]
    if rank() == 0:
        try:
            told = [work(), None]
        except StageError as error:
            told = [None, str(error)]
    distributed.broadcast_object_list(told, src=0, group=_patient_group())
    if told[1] is not None:
        raise StageError(told[1])
    result: T = told[0]
    return result


def wait_for_all() -> None:
    """Return when every process has come here."""
    if world() > 1:
        from torch import distributed

        distributed.barrier(group=_patient_group())


@cache
def _patient_group() -> Any:
    """Tokenising and saving take longer than the ten minutes after which NCCL gives up."""
    from torch import distributed

    return distributed.new_group(backend="gloo", timeout=timedelta(days=1))
