"""What a policy was before its training: a hash of its weights."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache
from pathlib import Path

from lrf.protocols import TrainingJob
from lrf_training.models import ADAPTERS, base_and_adapters
from lrf_training.processes import on_first_process
from lrf_training.settings import TrainingSettings


def identity_of(job: TrainingJob, settings: TrainingSettings) -> str:
    """SHA-256 of the policy's initial weights, or of what random ones are made from. Call it in all processes."""
    return on_first_process(lambda: _identity_of(job, settings))


def _identity_of(job: TrainingJob, settings: TrainingSettings) -> str:
    digest = hashlib.sha256()
    if settings.init is not None:
        digest.update(f"init {settings.init.model_dump_json()} {job.seed}".encode())
        return digest.hexdigest()
    assert job.model is not None
    folder = Path(job.model)
    if not folder.is_dir():
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(job.model, trust_remote_code=job.trust_remote_code)
        digest.update(f"{job.model} {config._commit_hash}".encode())
        return digest.hexdigest()
    if (base := base_and_adapters(job))[1] is not None:
        digest.update(_identity_of(replace(job, model=base[0]), settings).encode())
    for file in sorted([*folder.glob("*.safetensors"), *folder.glob("config.json"), *folder.glob(ADAPTERS)]):
        stat = file.stat()
        digest.update(f"{file.name} {_hash_of(file, stat.st_size, stat.st_mtime_ns)} ".encode())
    return digest.hexdigest()


@cache
def _hash_of(file: Path, size: int, modified: int) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
