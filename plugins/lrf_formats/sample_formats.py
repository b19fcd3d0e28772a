"""Samples with their rewards in the forms of other tools: a sample of a run in, rows of the form out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from lrf.prompting.templates import Template
from lrf.types import JSON, Sample

Row = Mapping[str, Any]


class Made(NamedTuple):
    """What a sample becomes: rows, and by id why something has none."""

    rows: Sequence[Row]
    left_out: Sequence[tuple[str, str]]


class About(NamedTuple):
    """The run that a sample is of: its name, and how prompts are made."""

    run: str
    template: Template

    def prompt(self, sample: Sample) -> list[JSON]:
        """The policy's prompt, as turns."""
        if sample.messages is not None:
            return [message.as_row() for message in sample.messages]
        text = self.template.render({"context": sample.context, "question": sample.query})
        return [{"role": "user", "content": text}]


def rewards(scored: Any, about: About) -> Made:
    """A table of rewards: a row for each candidate, unscored ones with their reason."""
    prompt, rows = about.prompt(scored.sample), []
    for one in scored.candidates:
        unscored = one.reward.unscored
        rows.append({
            "sample_id": scored.id, "candidate_id": one.id, "prompt": prompt, "completion": one.text,
            "reward": one.reward.reward, "ratings": dict(one.reward.ratings), "rank": one.rank,
            "unscored": None if unscored is None else f"{unscored.dimension}: {unscored.reason}",
        })  # fmt: skip
    return Made(rows, [])


def ranked(scored: Any, about: About) -> Made:
    """Ranked lists: the scored answers to a prompt with their rewards, the best first."""
    there = [one for one in scored.candidates if one.reward.reward is not None]
    left_out = [(f"{scored.id}/{one.id}", "unscored") for one in scored.candidates if one.reward.reward is None]
    if len(there) < 2:
        return Made([], [*left_out, *((f"{scored.id}/{one.id}", "alone: nothing to rank") for one in there)])
    row = {
        "prompt": about.prompt(scored.sample),
        "completions": [one.text for one in there],
        "rewards": [one.reward.reward for one in there],
        "candidate_ids": [one.id for one in there],
        "sample_id": scored.id,
    }
    return Made([row], left_out)


def inspect(scored: Any, about: About) -> Made:
    """inspect_ai's ``precomputed_scores``: an epoch is a candidate, in the data's order; unscored ones have no row."""
    by_id = {one.id: one for one in scored.candidates}
    rows, left_out = [], []
    for epoch, candidate in enumerate(scored.sample.candidates, start=1):
        reward = by_id[candidate.id].reward
        if reward.reward is None:
            left_out.append((f"{scored.id}/{candidate.id}", f"unscored: {reward.unscored.reason}"))
            continue
        about_it = {"candidate_id": candidate.id, "ratings": dict(reward.ratings)}
        row = {"id": scored.id, "epoch": epoch, "value": reward.reward, "answer": candidate.text, "metadata": about_it}
        rows.append(row)
    return Made(rows, left_out)


def prompts(scored: Any, about: About) -> Made:
    """Prompts to sample from while training, with what the doors of `lrf serve` need to know in ``label``."""
    sample = scored.sample
    named = _named(sample)
    row = {"prompt": about.prompt(sample), "label": json.dumps(named, ensure_ascii=False), **named}
    return Made([{**row, "sample_id": sample.id}], [])


def verl(scored: Any, about: About) -> Made:
    """verl's prompts: ``extra_info`` names document and question for ``lrf_doors.verl``."""
    sample = scored.sample
    row = {
        "data_source": about.run,
        "prompt": [{"role": turn["role"], "content": turn["content"]} for turn in about.prompt(sample)],
        "reward_model": {"style": "model", "ground_truth": sample.reference or ""},
        "extra_info": {"index": sample.id, **_named(sample)},
    }
    return Made([row], [])


def _named(sample: Sample) -> dict[str, JSON]:
    """The question and the documents, as a request for rewards has them."""
    return {
        "query": sample.query,
        "context": [{"id": d.id, "title": d.title, "text": d.text} for d in sample.documents],
    }


SAMPLE_FORMATS: Mapping[str, Callable[[Any, About], Made]] = {
    "rewards": rewards,
    "ranked": ranked,
    "inspect": inspect,
    "prompts": prompts,
    "verl": verl,
}


def made(run: Any, format_: str) -> Iterator[Made]:
    """What each sample of the run becomes."""
    policy = run.settings.get("policy") or {}
    template = Template(policy.get("prompt_template", "<<context>>\n\n<<question>>"), ("context", "question"))
    about = About(run.name, template)
    for scored in run:
        yield SAMPLE_FORMATS[format_](scored, about)
