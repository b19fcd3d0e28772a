"""Settings to ``TrainingArguments``."""

from __future__ import annotations

import hashlib
import os
import warnings
from pathlib import Path
from typing import Any

from lrf.protocols import TrainingJob
from lrf_training import deepspeed, processes
from lrf_training.identity import identity_of
from lrf_training.settings import TrainingSettings
from lrf_training.trackers import tracker_arguments


def silence_libraries() -> None:
    """Turn off telemetry and known warnings, and use one GPU without a launcher. Call before torch is imported."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # TRL uses names of before v6
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if processes.world() == 1:
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")


def training_arguments(settings: TrainingSettings, job: TrainingJob) -> dict[str, Any]:
    """Keyword arguments of ``TrainingArguments``, ``DPOConfig`` and ``SFTConfig``.

    Create the arguments before the model is loaded: they set up the process group and, with ZeRO-3, sharded loading.
    Raises :class:`lrf.errors.StageError`.
    """
    import torch

    gpu = torch.cuda.is_available()
    fused = settings.optimizer == "auto" and gpu
    arguments = {
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
        "include_num_input_tokens_seen": "non_padding",  # for tokens a second in the log
        "save_strategy": "steps" if settings.save_every else "no",
        "save_steps": settings.save_every or 500,
        "optim": "adamw_torch_fused" if settings.optimizer == "adamw_fused" or fused else "adamw_torch",
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        **tracker_arguments(settings, job),
    }
    if (evaluation := getattr(settings, "evaluation", None)) is not None:
        from lrf_training.evaluation import evaluation_arguments

        arguments |= evaluation_arguments(evaluation, settings.micro_batch)
    return arguments | deepspeed.arguments(settings)


def training_fingerprint(settings: TrainingSettings, job: TrainingJob, tokens: Path) -> str:
    """SHA-256 of everything that decides a training's outcome: settings, initial weights, seed and token ids.

    How the training is launched and sharded is not part of it. Call it in all processes.
    """
    digest = hashlib.sha256(settings.model_dump_json(exclude=set(settings.not_fingerprinted)).encode())
    digest.update(f"{identity_of(job, settings)} {job.seed} ".encode())
    with tokens.open("rb") as file:
        digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
