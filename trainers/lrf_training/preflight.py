"""Tests before the first step: can a checkpoint be saved and loaded, and do the longest rows fit into memory?"""

from __future__ import annotations

import copy
import random
import resource
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from lrf.errors import StageError
from lrf.types import JSON

_GIB = 2**30
_LOGGED = ("_metrics", "_total_train_tokens", "lengths")


class Preflight(TrainerCallback):  # type: ignore[misc]  # transformers is not followed by mypy
    """A checkpoint of step 0, then one forward and backward pass of a micro-batch filled with the longest row.

    With held-out rows, also a forward pass of the longest of them.

    It runs once the model is wrapped and sharded, before the first step, and restores gradients, random generators and
    logged metrics. Set ``trainer`` after the trainer is created. Afterwards ``metrics`` has ``preflight_tokens`` and
    ``peak_memory_gib``. Raises :class:`lrf.errors.StageError` with ``advice`` when memory runs out.
    """

    def __init__(self, advice: str) -> None:
        self.advice = advice
        self.trainer: Any = None
        self.metrics: dict[str, JSON] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
        trainer = self.trainer
        if not state.global_step:
            trainer.try_export()
        row, tokens = self._longest(trainer)
        trainer.report({"phase": "preflight", "tokens": tokens})
        python, numbers, torch_numbers = random.getstate(), np.random.get_state(), torch.get_rng_state()
        gpu_numbers = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        metrics = copy.deepcopy({name: getattr(trainer, name, None) for name in _LOGGED})
        try:
            self._pass(trainer, trainer.model_wrapped, self._batch(trainer, row))
            if getattr(trainer.settings, "evaluation", None) is not None:
                row, tokens = longest_row(trainer.eval_dataset)
                trainer.model.eval()
                trainer.held_out_sums(copies(row, args.per_device_eval_batch_size))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise StageError(self._too_much(tokens, error)) from error
        finally:
            random.setstate(python)
            np.random.set_state(numbers)
            torch.set_rng_state(torch_numbers)
            torch.cuda.set_rng_state_all(gpu_numbers)
            vars(trainer).update({name: value for name, value in metrics.items() if value is not None})
        self.metrics = {"preflight_tokens": tokens, "peak_memory_gib": round(peak_bytes() / _GIB, 3)}
        trainer.report({"phase": "preflight", **self.metrics})

    def _longest(self, trainer: Any) -> tuple[dict[str, Any], int]:
        """The longest row, and its tokens."""
        return longest_row(trainer.train_dataset)

    def _batch(self, trainer: Any, row: dict[str, Any]) -> Any:
        """What the trainer's loss takes, made of copies of a row."""
        batch = trainer.data_collator(copies(row, trainer.args.per_device_train_batch_size))
        return trainer._prepare_inputs(batch)

    @staticmethod
    def _pass(trainer: Any, model: Any, batch: Mapping[str, Any]) -> None:
        model.train()
        sharded = trainer.is_deepspeed_enabled
        trainer.accelerator.gradient_state._set_sync_gradients(False)
        with trainer.compute_loss_context_manager():
            loss = trainer.compute_loss(model, batch)
        # Times 0, so that the gradients which DeepSpeed accumulates stay 0.
        trainer.accelerator.backward(loss * 0)
        if not sharded:
            model.zero_grad()

    def _too_much(self, tokens: int, error: BaseException) -> str:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return (
            f"the longest row ({tokens} tokens) doesn't fit into memory: {reason}; {peak_bytes() / _GIB:.1f} GiB were "
            f"in use at the peak. {self.advice}"
        )


def copies(row: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """``count`` copies of a row, their prompts rotated: prefix sharing would forward equal prompts once."""
    prompt = row.get("prompt_ids", [])
    return [{**row, **({"prompt_ids": prompt[n:] + prompt[:n]} if prompt else {})} for n in range(count)]


def longest_row(dataset: Any) -> tuple[dict[str, Any], int]:
    """The row with the most tokens in its columns of token ids, and their number."""
    import pyarrow.compute as pc

    table = dataset.data.table
    lists = [column for column, kind in zip(table.columns, table.schema.types, strict=True) if _is_ids(kind)]
    lengths = np.sum([pc.list_value_length(column).to_numpy() for column in lists], axis=0)
    if dataset._indices is not None:  # rows chosen from a table, held-out ones say
        lengths = lengths[dataset._indices.column(0).to_numpy()]
    where = int(lengths.argmax())
    return dataset[where], int(lengths[where])


def _is_ids(kind: Any) -> bool:
    import pyarrow as pa

    return bool((pa.types.is_list(kind) or pa.types.is_large_list(kind)) and pa.types.is_integer(kind.value_type))


def peak_bytes() -> int:
    """Peak memory in bytes so far: the GPU's if there is one, else this process's."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that the GPU's or the machine's memory ran out."""
    words = ("can't allocate memory", "out of memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(word in str(error) for word in words)
