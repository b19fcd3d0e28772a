"""From settings to a Trainer's arguments."""

from __future__ import annotations

import hashlib
import os
import warnings
from pathlib import Path
from typing import Any

from lrf.protocols import TrainingJob
from lrf_training import deepspeed, processes
from lrf_training.models import identity_of
from lrf_training.settings import TrainingSettings


def silence_libraries() -> None:
    """Before torch and the hub's client are imported: no telemetry; without a launcher, no second GPU."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # TRL uses names of before v6
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if processes.world() == 1:
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")


def training_arguments(settings: TrainingSettings, job: TrainingJob) -> dict[str, Any]:
    """Keyword arguments of transformers' ``TrainingArguments`` and what TRL makes of them.

    Make these before the model is loaded: several processes find one another, and with ZeRO-3 each loads its own part.
    Raises :class:`lrf.errors.StageError`.
    """
    import torch

    gpu = torch.cuda.is_available()
    fused = settings.optimizer == "auto" and gpu
    found = {
        "output_dir": str(job.output / "training"),
        "use_cpu": not gpu,
        "bf16": settings.dtype == "bfloat16" or (settings.dtype == "auto" and gpu),
        "seed": job.seed,
        "data_seed": job.seed,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": settings.scheduler if settings.scheduler != "constant" else "constant_with_warmup",
        "warmup_steps": settings.warmup,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "num_train_epochs": settings.epochs,
        "max_steps": settings.max_steps or -1,
        "per_device_train_batch_size": settings.micro_batch,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "dataloader_pin_memory": gpu,
        "logging_steps": 1,
        "save_strategy": "steps" if settings.save_every else "no",
        "save_steps": settings.save_every or 500,
        "optim": "adamw_torch_fused" if settings.optimizer == "adamw_fused" or fused else "adamw_torch",
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "disable_tqdm": True,
    }
    return found | deepspeed.arguments(settings)


def training_fingerprint(settings: TrainingSettings, job: TrainingJob, tokens: Path) -> str:
    """A hash of what decides a training's outcome: settings, weights, seed and token ids, but not how it is launched.

    Call it in all processes.
    """
    digest = hashlib.sha256(settings.model_dump_json(exclude=set(settings.not_fingerprinted)).encode())
    digest.update(f"{identity_of(job, settings)} {job.seed} ".encode())
    with tokens.open("rb") as file:
        digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
