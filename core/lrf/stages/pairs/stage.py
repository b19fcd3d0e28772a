"""Stage *pairs*: from rewards to preference pairs in the format TRL reads, and to ranked lists of all candidates.

A sample without a pair has a reason in ``left_out.jsonl``; a candidate that isn't ranked has one in its sample's list.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from lrf.build import check_importable, pairing_of
from lrf.errors import GateError, StageError
from lrf.prompting.templates import Template
from lrf.stages.checks import check_pairs
from lrf.stages.context import StageContext
from lrf.stages.pairs.card import write_dataset_card
from lrf.stages.pairs.forecast import check_pairs_possible
from lrf.stages.pairs.lists import NO_LIST, SAMPLE_LEFT_OUT, answer_turns, list_row, prompt_origin, ranked_list
from lrf.stages.pairs.parquet import write_parquet
from lrf.stages.progress import Progress
from lrf.stages.reading import good_samples, policy_prompt, prompt_template
from lrf.stages.run_dir import RunDir, fingerprint
from lrf.stages.sample.source import sampled, sampled_source
from lrf.stages.score.results import check_used_up, rewards_by_sample, rewards_of_sample
from lrf.stages.stage import BlockingStage, StageResult
from lrf.store.files import dump, replacing, sha256_of
from lrf.types import JSON, Candidate, LeftOut, PreferencePair, Reward, Sample

if TYPE_CHECKING:
    from lrf.config import ComponentBlock, Pipeline

REPORT_EVERY = 200


@dataclass(frozen=True, kw_only=True)
class PairsResult(StageResult):
    """Samples, pairs and samples without one, these by reason too; ranked lists, and candidates that are in none."""

    samples: int
    pairs: int
    left_out: int
    reasons: Mapping[str, int]
    lists: int = 0
    listed: int = 0
    unlisted: Mapping[str, int] = field(default_factory=dict)
    prompt_template_sha256: str


class PairsStage(BlockingStage[PairsResult]):
    """Chooses pairs by the rewards, or by the candidates' sources where nothing is scored."""

    name = "pairs"
    result = PairsResult

    def __init__(self, block: ComponentBlock) -> None:
        self.block = block

    @classmethod
    def of(cls, pipeline: Pipeline) -> Self | None:
        return None if pipeline.pairs is None else cls(pipeline.pairs)

    def blocks(self, pipeline: Pipeline) -> Sequence[ComponentBlock]:
        return [self.block]

    def check(self, pipeline: Pipeline, run: RunDir) -> None:
        check_importable(pipeline, self.name, *self.blocks(pipeline))
        if self.name not in pipeline.python:
            check_pairs_possible(pipeline, run)

    def fingerprint(self, context: StageContext) -> str:
        run, pipeline = context.run_dir, context.pipeline
        if pipeline.dimensions and not run.rewards.exists():
            raise StageError(f"{run.rewards} is not there; run the stage before first (`--from score`)")
        rewards = sha256_of(run.rewards) if _scored(context) else None
        parts = context.component(self.block), pipeline.policy.prompt_template, pipeline.seed
        return fingerprint("pairs and lists", sampled(context).sha256, rewards, *parts)

    def work(self, context: StageContext) -> PairsResult:
        """Raises :class:`lrf.errors.StageError` when the rewards are not those of this data."""
        run, samples = context.run_dir, sampled(context).samples
        writer = _PairWriter(context)
        writer.write()
        counts = writer.counts
        of_candidates = counts["listed"] + writer.unlisted.total() != counts["candidates"]
        if counts["samples"] != counts["paired"] + counts["left_out"] or counts["samples"] != samples or of_candidates:
            raise GateError(f"samples don't add up: {samples} went in, {dict(counts)} came out")
        write_parquet(run.pairs, run.pairs_parquet, agentic=writer.agentic)
        result = PairsResult(
            samples=samples,
            pairs=counts["pairs"],
            left_out=counts["left_out"],
            reasons=dict(writer.reasons.most_common()),
            lists=counts["lists"],
            listed=counts["listed"],
            unlisted=dict(writer.unlisted.most_common()),
            prompt_template_sha256=writer.template.sha256,
        )
        writer.report()
        files = [run.pairs, run.left_out, run.pairs_parquet, run.lists]
        return self.keep(context, self.fingerprint(context), files, result)

    def card(self, context: StageContext, result: PairsResult) -> None:
        """A card that the user changed after the pairs were made is left alone."""
        pairs, card = context.run_dir.pairs, context.run_dir.path / "README.md"
        if pairs.exists() and (not card.exists() or card.stat().st_mtime_ns < pairs.stat().st_mtime_ns):
            write_dataset_card(card, context.pipeline, result)

    def files(self, run: RunDir) -> Mapping[str, Path]:
        return {"pairs": run.pairs, "lists": run.lists, "left_out": run.left_out}


def _scored(context: StageContext) -> bool:
    return bool(context.pipeline.dimensions) or context.run_dir.rewards.exists()


@dataclass(slots=True)
class _PairWriter:
    """Writes the stage's files. ``agentic``: whether a prompt has tools or calls them."""

    context: StageContext
    template: Template = field(init=False)
    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    unlisted: Counter[str] = field(default_factory=Counter)
    agentic: bool = False

    def __post_init__(self) -> None:
        self.template = prompt_template(self.context.pipeline)

    def write(self) -> None:
        context, run = self.context, self.context.run_dir
        pairing, scored = pairing_of(context.pipeline), _scored(context)
        groups: Iterator[tuple[str, list[Reward]]] = rewards_by_sample(run.rewards) if scored else iter(())
        with replacing(run.pairs) as pairs, replacing(run.lists) as lists, replacing(run.left_out) as left_out:
            for sample in good_samples(sampled_source(context)):
                rewards = rewards_of_sample(sample, groups, run.rewards) if scored else _without_rewards(sample)
                outcome = check_pairs(pairing, sample, pairing.pair(sample, rewards))
                self.counts["candidates"] += len(sample.candidates)
                if isinstance(outcome, LeftOut):
                    self._left_out(sample, outcome, left_out.write)
                else:
                    self.counts["paired"] += 1
                    for pair in outcome.pairs:
                        self._pair(sample, pair, rewards, pairs.write)
                    self._list(sample, outcome.listed, rewards, lists.write)
                self.counts["samples"] += 1
                if self.counts["samples"] % REPORT_EVERY == 0:
                    self.report()
                if context.stop:
                    raise context.stop
            check_used_up(groups, run.rewards)

    def report(self) -> None:
        counts = self.counts
        progress = Progress(
            stage="pairs", samples=counts["samples"], pairs=counts["pairs"], left_out=counts["left_out"]
        )
        self.context.report(progress.as_json())

    def _left_out(self, sample: Sample, outcome: LeftOut, write: Callable[[str], object]) -> None:
        self.counts["left_out"] += 1
        self.reasons[outcome.reason] += 1
        self.unlisted[SAMPLE_LEFT_OUT] += len(sample.candidates)
        write(dump({"sample_id": sample.id, "reason": outcome.reason, "detail": outcome.detail}) + "\n")

    def _pair(
        self, sample: Sample, pair: PreferencePair, rewards: list[Reward], write: Callable[[str], object]
    ) -> None:
        self.counts["pairs"] += 1
        row = pair_row(sample, pair, rewards, self.template)
        self.agentic = self.agentic or "tools" in row or any(len(turn) > 2 for turn in row["prompt"])
        write(dump(row) + "\n")

    def _list(
        self, sample: Sample, listed: Sequence[Candidate] | None, rewards: list[Reward], write: Callable[[str], object]
    ) -> None:
        ranked = ranked_list(sample, listed, rewards)
        self.unlisted.update(ranked.left_out.values())
        if len(ranked.candidates) < 2:
            self.unlisted[NO_LIST] += len(ranked.candidates)
            return
        self.counts["lists"] += 1
        self.counts["listed"] += len(ranked.candidates)
        write(dump(list_row(sample, ranked, self.template)) + "\n")


def pair_row(sample: Sample, pair: PreferencePair, rewards: list[Reward], template: Template) -> Mapping[str, JSON]:
    """A row of ``pairs.jsonl``: TRL's conversational preference format, with the rewards alongside.

    The prompt is the sample's own messages if it has any (``prompt_template_sha256`` is null then), else one user
    message made by ``policy.prompt_template``. The key ``tools`` exists only if the sample has tools.
    """
    ratings = {r.candidate_id: dict(r.ratings) for r in rewards}
    return {
        "prompt": [m.as_row() for m in policy_prompt(sample, template)],
        "chosen": answer_turns(pair.chosen),
        "rejected": answer_turns(pair.rejected),
        "sample_id": sample.id,
        "chosen_id": pair.chosen.id,
        "rejected_id": pair.rejected.id,
        "chosen_reward": pair.chosen_reward,
        "rejected_reward": pair.rejected_reward,
        "chosen_ratings": ratings.get(pair.chosen.id, {}),
        "rejected_ratings": ratings.get(pair.rejected.id, {}),
        **prompt_origin(sample, template),
    }


def _without_rewards(sample: Sample) -> list[Reward]:
    return [Reward(sample.id, c.id, None, {}) for c in sample.candidates]
