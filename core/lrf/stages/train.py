"""Stage *train*: the trainer makes a policy of the pairs. Runs in a child process, since trainers own theirs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping

from lrf.build import trainer_of
from lrf.errors import GateError, StageError
from lrf.protocols import TrainingJob
from lrf.stages.context import StageContext
from lrf.store.filesystem import sha256_of
from lrf.templates import Template
from lrf.types import JSON


def train_finished(context: StageContext) -> Mapping[str, JSON] | None:
    """The counts of the stage if it has been done with these pairs, policy and settings."""
    fingerprint = context.train_fingerprint(sha256_of(context.run_dir.pairs))
    counts = context.run_dir.record("train").finished(fingerprint)
    if counts is not None and not (context.run_dir.path / counts["checkpoint"]).exists():
        return None
    return counts


def train_stage(context: StageContext) -> Mapping[str, JSON]:
    """Counts of the stage. Blocks until the training has ended."""
    run, policy = context.run_dir, context.pipeline.policy
    if not run.pairs.exists():
        raise StageError(f"{run.pairs} is not there; run the stage before first (`--from pairs`)")
    fingerprint = context.train_fingerprint(sha256_of(run.pairs))
    if not run.pairs.stat().st_size:
        raise GateError(f"{run.pairs} holds no pair, so there is nothing to train on; {run.left_out} says why")
    # A finished policy of other pairs gives way; a half-done one of these pairs may be resumed by the trainer.
    mark = run.policy / "fingerprint"
    if run.policy.exists() and (not mark.exists() or mark.read_text() != fingerprint):
        shutil.rmtree(run.policy)
    run.policy.mkdir(exist_ok=True)
    mark.write_text(fingerprint)
    job = TrainingJob(
        pairs=run.pairs,
        output=run.policy,
        model=policy.model,
        seed=context.pipeline.seed,
        prompt_template_sha256=Template(policy.prompt_template, ("context", "question")).sha256,
        trust_remote_code=policy.trust_remote_code,
        report=lambda progress: context.report({"stage": "train", **progress}),
    )
    began = time.monotonic()
    result = trainer_of(context.pipeline).train(job)
    checkpoint = str(result.checkpoint.relative_to(run.path))
    counts = {"checkpoint": checkpoint, **result.metrics, "train_seconds": round(time.monotonic() - began, 3)}
    run.record("train").write(fingerprint, [], counts)
    return counts
