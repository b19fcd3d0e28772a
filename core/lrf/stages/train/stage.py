"""Stage *train*: the trainer makes a better policy. Runs in one child process or several, since trainers own theirs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lrf.build import trainer_of
from lrf.errors import GateError, StageError
from lrf.prompting.templates import Template
from lrf.protocols import TrainingJob
from lrf.settings import TrainerSettings
from lrf.stages.context import StageContext
from lrf.stages.progress import Progress
from lrf.stages.run_dir import RunDir, said_by_system
from lrf.stages.score.results import scored_fingerprint, write_scored
from lrf.stages.train.launch import prepare_launch
from lrf.stages.train.supervise import launch
from lrf.store.files import sha256_of
from lrf.types import JSON

if TYPE_CHECKING:
    from lrf.config import Pipeline


def reads(pipeline: Pipeline) -> tuple[str, ...]:
    """The run's files that the training is made of: "pairs", "scored"."""
    assert pipeline.train is not None
    settings = pipeline.train.settings
    return settings.reads if isinstance(settings, TrainerSettings) else ("pairs",)


def train_finished(context: StageContext) -> Mapping[str, JSON] | None:
    """The counts of the stage if it has been done with this data, policy and settings."""
    counts = context.run_dir.record("train").finished(_fingerprint(context))
    if counts is not None and not (context.run_dir.path / counts["checkpoint"]).exists():
        return None
    return counts


def train_stage(context: StageContext) -> Mapping[str, JSON]:
    """Counts of the stage. Blocks until the training has ended. Raises :class:`lrf.errors.LrfError`."""
    try:
        return _train(context)
    except OSError as error:
        where = said_by_system(error, context.run_dir.path)
        raise StageError(f"{where}; what was saved stays as it is. See to it, and run the command again") from error


def _train(context: StageContext) -> Mapping[str, JSON]:
    run, pipeline = context.run_dir, context.pipeline
    for name in reads(pipeline):
        _check(name, run)
    if "scored" in reads(pipeline):
        write_scored(context)
    fingerprint = _fingerprint(context)
    plan = prepare_launch(pipeline, run).plan
    make_room(run.policy, fingerprint)

    def report(progress: Mapping[str, JSON]) -> None:
        context.report(Progress(stage="train", figures=progress).as_json())

    began = time.monotonic()
    result = launch(plan, run.launch, report) if plan.argv else train_here(pipeline, run, report)
    processes = {"launcher": pipeline.launcher.type if pipeline.launcher else "local", "processes": plan.world}
    counts = {**result, **processes, "train_seconds": round(time.monotonic() - began, 3)}
    run.record("train").write(fingerprint, [], counts)
    return counts


def make_room(policy: Path, fingerprint: str) -> None:
    """A policy of other data or settings gives way; one of these stays untouched, for the trainer to go on from."""
    mark = policy / "fingerprint"
    if mark.exists() and mark.read_text() == fingerprint:
        return
    if policy.exists():
        shutil.rmtree(policy)
    policy.mkdir()
    mark.write_text(fingerprint)


def train_here(
    pipeline: Pipeline,
    run: RunDir,
    report: Callable[[Mapping[str, JSON]], None],
    *,
    rank: int = 0,
    local_rank: int = 0,
    world: int = 1,
) -> dict[str, JSON]:
    """Train in this process, one of ``world``. Returns the checkpoint's path in the run, and the trainer's figures."""
    policy = pipeline.policy
    job = TrainingJob(
        pairs=run.pairs,
        scored=run.scored,
        output=run.policy,
        model=policy.model,
        seed=pipeline.seed,
        prompt_template_sha256=Template(policy.prompt_template, ("context", "question")).sha256,
        trust_remote_code=policy.trust_remote_code,
        report=report,
        rank=rank,
        local_rank=local_rank,
        world=world,
    )
    result = trainer_of(pipeline).train(job)
    return {"checkpoint": str(result.checkpoint.relative_to(run.path)), **result.metrics}


def _fingerprint(context: StageContext) -> str:
    made_of = {"pairs": lambda: sha256_of(context.run_dir.pairs), "scored": lambda: scored_fingerprint(context)}
    return context.train_fingerprint(*(made_of[name]() for name in reads(context.pipeline)))


def _check(name: str, run: RunDir) -> None:
    path, made_by = {"pairs": (run.pairs, "pairs"), "scored": (run.rewards, "score")}[name]
    if not path.exists():
        raise StageError(f"{path} is not there; run the stage before first (`--from {made_by}`)")
    if not path.stat().st_size:
        why = f"; {run.left_out} says why" if name == "pairs" else ""
        raise GateError(f"{path} is empty, so there is nothing to train on{why}")
