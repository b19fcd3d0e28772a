"""A trial before the first step: what is saved at the end can be saved, and loaded again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lrf.errors import StageError
from lrf_training.processes import on_first_process, rank, wait_for_all


def try_export(write: Callable[[Path], None], checkpoint: Path, check: Callable[[Path], None]) -> None:
    """Write the checkpoint of step 0 beside ``checkpoint``, check it on rank 0 and remove it. Called in all processes.

    Raises :class:`lrf.errors.StageError` if either fails, for whatever reason: at the end everything would be lost.
    """
    folder, failure = checkpoint.with_name("checkpoint.trial"), None
    if rank() == 0:
        shutil.rmtree(folder, ignore_errors=True)
    try:
        write(folder)
    except Exception as error:
        failure = error
    if failure is not None and rank():  # at once: the others may be waiting for this process inside ``write``
        raise StageError(_cant_be(checkpoint, failure)) from failure
    wait_for_all()

    def examine() -> None:
        try:
            if failure is not None:
                raise failure
            check(folder)
        except Exception as error:
            raise StageError(_cant_be(checkpoint, error)) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    on_first_process(examine)


def _cant_be(checkpoint: Path, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    free = shutil.disk_usage(checkpoint.parent).free
    return (
        f"{checkpoint}: a checkpoint of this training can't be saved and loaded, as was tried before its first step: "
        f"{reason} ({free / 2**30:.1f} GiB free). Make room, leave out lora.merge, or set preflight: false to train "
        "without this trial"
    )


def check_weights(model_type: type[Any], folder: Path, trust_remote_code: bool) -> None:
    """Load a model's checkpoint without memory for its weights. Raises ValueError if weights are missing or others."""
    from lrf_training.architecture import aside

    with aside():
        _, report = model_type.from_pretrained(
            folder, device_map="meta", output_loading_info=True, trust_remote_code=trust_remote_code
        )
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if names := sorted(map(str, report[what])):
            raise ValueError(f"loaded again it has {what.replace('_', ' ')}: {', '.join(names[:3])}")


def check_adapters(model: Any, folder: Path) -> None:
    """Compare saved adapters with the model's. Raises ValueError if one is missing."""
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
        saved = set(file.keys())
    if lost := sorted(set(get_peft_model_state_dict(model)) - saved):
        raise ValueError(f"adapters are missing: {', '.join(lost[:3])}")
