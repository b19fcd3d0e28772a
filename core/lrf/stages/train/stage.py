"""Stage *train*: the trainer makes a better policy, in one process or in several that a launcher starts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import JsonValue

from lrf.build import check_importable, trainer_of
from lrf.config.prices import read_prices
from lrf.engine.budget import Line
from lrf.errors import GateError, StageError
from lrf.prompting.templates import Template
from lrf.protocols import TrainingJob
from lrf.settings import TrainerSettings
from lrf.stages.channel import Report
from lrf.stages.checks import check_checkpoint
from lrf.stages.context import StageContext
from lrf.stages.fingerprints import weights_fingerprint
from lrf.stages.progress import Progress
from lrf.stages.run_dir import RunDir, StageRecord, fingerprint, said_by_system
from lrf.stages.score.inputs import scoring_blocks, scoring_fingerprint
from lrf.stages.score.results import scored_fingerprint, write_scored
from lrf.stages.spending import paid
from lrf.stages.stage import FLAT, BlockingStage, PaidResult, StageResult
from lrf.stages.train.card import write_model_card
from lrf.stages.train.launch import plan_launch, prepare_launch
from lrf.stages.train.policy import lost_policy, make_room, replaced
from lrf.stages.train.prompts import prompts_fingerprint, write_prompts
from lrf.stages.train.rewards import RunRewards
from lrf.stages.train.supervise import launch
from lrf.store.cache import open_journal
from lrf.store.files import sha256_of

if TYPE_CHECKING:
    from lrf.config import ComponentBlock, Pipeline
    from lrf.types import JSON


@dataclass(frozen=True, kw_only=True)
class TrainResult(StageResult):
    """What stage *train* made. ``metrics`` are the trainer's own; in JSON they are among the other figures."""

    checkpoint: str
    metrics: Mapping[str, JsonValue] = field(default_factory=dict, metadata=FLAT)
    launcher: str
    processes: int
    train_seconds: float


@dataclass(frozen=True, kw_only=True)
class OnlineTrainResult(PaidResult, TrainResult):
    """What stage *train* made, and paid, with a trainer that asks for rewards.

    ``answers`` and ``unscored_answers`` are of this sitting; an answer that was asked for again counts again.
    """

    answers: int
    unscored_answers: int


_SENTENCES = frozenset({"note", "alarm"})
"""What a trainer reports for people to read, among its figures."""


class TrainStage(BlockingStage[TrainResult]):
    """Trains. Its process ends with the stage, so that all memory is given back."""

    name = "train"
    result: type[TrainResult] = TrainResult

    def __init__(self, block: ComponentBlock) -> None:
        self.block = block
        self.needs = ("data",) if "prompts" in self.reads else ()
        if block.spec.rewards:
            self.result = OnlineTrainResult

    @classmethod
    def of(cls, pipeline: Pipeline) -> Self | None:
        return None if pipeline.train is None else cls(pipeline.train)

    @property
    def reads(self) -> tuple[str, ...]:
        """The run's files that the training is made of: "pairs", "lists", "scored", "prompts"."""
        settings = self.block.settings
        return settings.reads if isinstance(settings, TrainerSettings) else ("pairs",)

    def blocks(self, pipeline: Pipeline) -> Sequence[ComponentBlock]:
        return [self.block, *(scoring_blocks(pipeline) if self.block.spec.rewards else ())]

    def check(self, pipeline: Pipeline, run: RunDir) -> None:
        plan_launch(pipeline, run)
        check_importable(pipeline, self.name, *self.blocks(pipeline))

    def own_process(self, pipeline: Pipeline) -> bool:
        return True

    def fingerprint(self, context: StageContext) -> str:
        made_of: dict[str, Callable[[], str | None]] = {
            "pairs": lambda: sha256_of(context.run_dir.pairs),
            "lists": lambda: sha256_of(context.run_dir.lists),
            "scored": lambda: scored_fingerprint(context),
            "prompts": lambda: prompts_fingerprint(context),
        }
        return fingerprint("train", *(made_of[name]() for name in self.reads), self._settings(context))

    def _settings(self, context: StageContext) -> str:
        """A hash of all that the policy depends on besides its data."""
        policy = context.pipeline.policy
        weights = weights_fingerprint(policy.model)
        rewards = [scoring_fingerprint(context)] if self.block.spec.rewards else []
        return fingerprint(
            context.component(self.block), policy.model_dump(mode="json"), weights, context.pipeline.seed, *rewards
        )

    def vain(self, context: StageContext, *, outdated: bool) -> str | None:
        policy = context.run_dir.policy(self.block.type)
        settings = None if outdated else self._settings(context)
        return None if context.replace else lost_policy(policy, settings=settings)

    def finished(self, context: StageContext) -> TrainResult | None:
        result = super().finished(context)
        return result if result and (context.run_dir.path / result.checkpoint).exists() else None

    def work(self, context: StageContext) -> TrainResult:
        """Return when the training has ended. Raises :class:`lrf.errors.LrfError`."""
        try:
            return self._train(context)
        except OSError as error:
            where = said_by_system(error, context.run_dir.path)
            raise StageError(f"{where}; what was saved is kept. Mend that, and run the same command again") from error

    def _train(self, context: StageContext) -> TrainResult:
        run, pipeline = context.run_dir, context.pipeline
        if "prompts" in self.reads:
            write_prompts(context)
        for name in self.reads:
            _check(name, run)
        if "scored" in self.reads:
            write_scored(context)
        made_of = self.fingerprint(context)
        back = make_room(run.policy(self.block.type), made_of, self._settings(context), replace=context.replace)
        if back and (done := self.finished(context)) is not None:
            return done
        plan = prepare_launch(pipeline, run).plan

        def report(progress: Mapping[str, JsonValue]) -> None:
            figures = {name: value for name, value in progress.items() if name not in _SENTENCES}
            for name in _SENTENCES.intersection(progress):  # they stay on the screen, and in the log
                context.log.warning(name, text=progress[name])
                context.report(Progress(stage=self.name, note=f"{self.name}: {progress[name]}").as_json())
            if figures:
                context.report(Progress(stage=self.name, figures=figures).as_json())

        began = time.monotonic()
        trained = launch(plan, run.launch, report) if plan.argv else train_here(pipeline, self.block, run, report)
        metrics: dict[str, JSON] = dict(trained)
        costs = metrics.pop("costs", None)
        result = TrainResult(
            checkpoint=str(metrics.pop("checkpoint")),
            metrics=metrics,
            launcher=pipeline.launcher.type if pipeline.launcher else "local",
            processes=plan.world,
            train_seconds=round(time.monotonic() - began, 3),
        )
        kept = self.keep(context, made_of, [], result if costs is None else with_costs(context, result, costs))
        replaced(run.policy(self.block.type))
        return kept

    def gate(self, context: StageContext, result: TrainResult) -> None:
        limit = context.pipeline.max_unscored
        if isinstance(result, OnlineTrainResult) and result.unscored_answers > limit * result.answers:
            share = result.unscored_answers / result.answers
            raise GateError(
                f"{result.unscored_answers:,} of {result.answers:,} answers are unscored ({share:.0%}), more than "
                f"`max_unscored: {limit:g}` allows; the policy has learnt from the others and is kept. "
                f"{context.run_dir.log} has the reason of each; a larger `max_unscored` accepts them"
            )

    def record(self, run: RunDir) -> StageRecord:
        """Each trainer's own, so that the policies of two trainers are both known to be finished."""
        return run.record(f"{self.name}-{self.block.type}")

    def card(self, context: StageContext, result: TrainResult) -> None:
        card = context.run_dir.path / result.checkpoint / "README.md"
        if card.parent.is_dir() and not card.exists():
            write_model_card(card, context.pipeline, result)

    def files(self, run: RunDir) -> Mapping[str, Path]:
        return {"policy": run.policy(self.block.type)}


def train_here(
    pipeline: Pipeline,
    block: ComponentBlock,
    run: RunDir,
    report: Report,
    *,
    rank: int = 0,
    local_rank: int = 0,
    world: int = 1,
) -> dict[str, JsonValue]:
    """Train in this process, one of ``world``. Returns the checkpoint's path in the run, and the trainer's figures.

    A trainer that asks for rewards has them from an engine in the process of rank 0, whose ``costs`` are returned, too.
    """
    with RunRewards(pipeline, run) if block.spec.rewards and not rank else nullcontext() as rewards:
        job = _job(pipeline, block, run, report, rewards=rewards, rank=rank, local_rank=local_rank, world=world)
        trainer = trainer_of(pipeline)
        result = trainer.train(job)
        costs = {"costs": dict(rewards.costs())} if rewards else {}
    if rank:  # only the first process writes it, maybe on another machine
        return {"checkpoint": str(result.checkpoint), **result.metrics}
    return {"checkpoint": check_checkpoint(trainer, result.checkpoint, run.path), **result.metrics, **costs}


def _job(pipeline: Pipeline, block: ComponentBlock, run: RunDir, report: Report, **process: Any) -> TrainingJob:
    policy = pipeline.policy
    return TrainingJob(
        pairs=run.pairs,
        lists=run.lists,
        scored=run.scored,
        prompts=run.prompts,
        output=run.policy(block.type),
        model=policy.model,
        seed=pipeline.seed,
        prompt_template_sha256=Template(policy.prompt_template, ("context", "question")).sha256,
        trust_remote_code=policy.trust_remote_code,
        report=report,
        **process,
    )


def with_costs(context: StageContext, trained: TrainResult, costs: Mapping[str, JSON]) -> OnlineTrainResult:
    """The result with what this sitting paid (``costs``), and what all did by the run's journal."""
    journal = open_journal(context.run_dir.journal, context.pipeline.cache)
    try:
        spending = paid(journal, context.pipeline)
    finally:
        journal.close()
    return OnlineTrainResult(
        checkpoint=trained.checkpoint,
        metrics=trained.metrics,
        launcher=trained.launcher,
        processes=trained.processes,
        train_seconds=trained.train_seconds,
        transient=0,
        answers=costs["answers"],
        unscored_answers=costs["unscored_answers"],
        usage=Line(**costs["usage"]),
        embedding_calls=costs["embedding_calls"],
        embedded_texts=costs["embedded_texts"],
        by_dimension={name: Line(**line) for name, line in costs["by_dimension"].items()},
        all_sittings=spending.all_sittings(sampling=False),
        money=spending.money_at(read_prices(context.pipeline.prices)),
    )


def _check(name: str, run: RunDir) -> None:
    files = {
        "pairs": (run.pairs, "pairs"),
        "lists": (run.lists, "pairs"),
        "scored": (run.rewards, "score"),
        "prompts": (run.prompts, "data"),
    }
    path, made_by = files[name]
    if not path.exists():
        raise StageError(f"{path} is not there; run the stage before first (`--from {made_by}`)")
    if not path.stat().st_size:
        why = f"; {run.left_out} says why" if made_by == "pairs" else ""
        raise GateError(f"{path} is empty, so there is nothing to train on{why}")
