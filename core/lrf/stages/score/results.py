"""Reads rewards along with the data they belong to, and writes answers with prompts and ratings for a trainer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path

from lrf.errors import StageError
from lrf.stages.context import StageContext
from lrf.stages.reading import good_samples, policy_prompt, prompt_template
from lrf.stages.run_dir import fingerprint
from lrf.stages.sample.source import sampled, sampled_source
from lrf.stages.score.rows import reward_rows, rewards_of
from lrf.store.files import dump, replacing, sha256_of
from lrf.types import JSON, Candidate, Message, Reward, Sample

SCORE_FIRST = "score first (`--from score`)"


def rewards_by_sample(path: Path) -> Iterator[tuple[str, list[Reward]]]:
    """(sample's id, its rewards) in the file's order. Raises :class:`lrf.errors.RunError` for a damaged file."""
    for sample_id, rows in groupby(reward_rows(path), key=lambda row: row["sample_id"]):
        yield sample_id, rewards_of(rows)


def rewards_of_sample(sample: Sample, groups: Iterator[tuple[str, list[Reward]]], path: Path) -> list[Reward]:
    """The next rewards, one a candidate. Raises :class:`lrf.errors.StageError` when they are another sample's."""
    if not sample.candidates:
        return []
    sample_id, rewards = next(groups, (None, []))
    if sample_id != sample.id or [r.candidate_id for r in rewards] != [c.id for c in sample.candidates]:
        raise StageError(
            f"{path} doesn't belong to this data: expected the candidates of sample {sample.id!r}, found those of "
            f"{sample_id!r}; {SCORE_FIRST}"
        )
    return rewards


def check_used_up(groups: Iterator[tuple[str, list[Reward]]], path: Path) -> None:
    """Raise :class:`lrf.errors.StageError` when there are rewards of samples that the data no longer has."""
    left = next(groups, None)
    if left is not None:
        raise StageError(f"{path} doesn't belong to this data: it has no sample {left[0]!r}; {SCORE_FIRST}")


def scored_fingerprint(context: StageContext) -> str | None:
    """A hash of what ``scored.jsonl`` is made of; None where there are no rewards."""
    if context.run_dir.record("data").last() is None or not context.run_dir.rewards.exists():
        return None
    parts = sampled(context).sha256, prompt_template(context.pipeline).sha256
    return fingerprint("scored", sha256_of(context.run_dir.rewards), *parts)


def write_scored(context: StageContext) -> None:
    """Write ``scored.jsonl``: a row for each answer in the data's order, with or without ratings."""
    path, template = context.run_dir.rewards, prompt_template(context.pipeline)
    groups = rewards_by_sample(path)
    with replacing(context.run_dir.scored) as rows:
        for sample in good_samples(sampled_source(context)):
            prompt = policy_prompt(sample, template)
            made_with = None if sample.messages is not None else template.sha256
            for candidate, reward in zip(sample.candidates, rewards_of_sample(sample, groups, path), strict=True):
                row = scored_row(prompt, candidate, reward, made_with)
                tools = {"tools": [dict(tool) for tool in sample.tools]} if sample.tools else {}
                rows.write(dump({**row, **tools}) + "\n")
        check_used_up(groups, path)


def scored_row(
    prompt: tuple[Message, ...], candidate: Candidate, reward: Reward, made_with: str | None
) -> Mapping[str, JSON]:
    """A row of ``scored.jsonl``. ``made_with`` is the hash of the prompt's template, None for the sample's messages."""
    return {
        "prompt": [m.as_row() for m in prompt],
        "answer": [{"role": "assistant", "content": candidate.text}],
        "sample_id": reward.sample_id,
        "candidate_id": reward.candidate_id,
        "reward": reward.reward,
        "ratings": dict(reward.ratings),
        "prompt_template_sha256": made_with,
    }
