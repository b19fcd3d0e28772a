"""Coordination of the processes of a training."""

from __future__ import annotations

import atexit
import gc
import os
import time
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

from lrf.errors import StageError

T = TypeVar("T")


def rank() -> int:
    """This process's rank, from 0 (``RANK``)."""
    return int(os.environ.get("RANK", 0))


def world() -> int:
    """Number of processes (``WORLD_SIZE``)."""
    return int(os.environ.get("WORLD_SIZE", 1))


def on_first_process(work: Callable[[], T]) -> T:
    """Run ``work`` on rank 0 and return its result, or raise its :class:`lrf.errors.StageError`, in all processes.

    Needs the process group, which creating ``TrainingArguments`` sets up.
    """
    if world() == 1:
        return work()
    from torch import distributed

    outcome: list[Any] = [None, None]
    if rank() == 0:
        try:
            outcome = [work(), None]
        except StageError as error:
            outcome = [None, str(error)]
    distributed.broadcast_object_list(outcome, src=0, group=_patient_group())
    if outcome[1] is not None:
        raise StageError(outcome[1])
    result: T = outcome[0]
    return result


def wait_for_all() -> None:
    """Wait until all processes have reached this call."""
    if world() > 1:
        from torch import distributed

        distributed.barrier(group=_patient_group())


def any_process(here: bool) -> bool:
    """Whether it is so in any process. Called in all processes."""
    if world() == 1:
        return here
    import torch
    from torch import distributed

    count = torch.tensor(int(here))
    distributed.all_reduce(count, group=_patient_group())
    return bool(count)


def summed(values: list[float]) -> list[float]:
    """Each value's sum over all processes, in float64. Called in all processes, with as many values."""
    if world() == 1:
        return values
    import torch
    from torch import distributed

    sums = torch.tensor(values, dtype=torch.float64)
    distributed.all_reduce(sums, group=_patient_group())
    return [float(each) for each in sums]


@cache
def _patient_group() -> Any:
    """A gloo group with a timeout of a day: tokenising and saving can outlast NCCL's ten minutes."""
    from torch import distributed

    atexit.register(_leave)
    return distributed.new_group(backend="gloo", timeout=timedelta(days=1))


def _leave() -> None:
    """End the process groups and their threads before the interpreter ends.

    A thread that lets go of a tensor while the interpreter ends aborts the process (pytorch#179291). Groups join their
    threads when nothing holds them; the default one is also held within torch, so its threads get a moment.
    """
    from torch import distributed

    _patient_group.cache_clear()
    if distributed.is_initialized():
        distributed.destroy_process_group()
    gc.collect()
    time.sleep(0.1)
