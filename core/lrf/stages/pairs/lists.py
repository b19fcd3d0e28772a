"""A sample's candidates ranked by their rewards: a row of ``lists.jsonl``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lrf.prompting.templates import Template
from lrf.stages.reading import policy_prompt
from lrf.types import JSON, Candidate, Reward, Sample

UNSCORED = "unscored"
SAME_TEXT = "same_text"
NOT_LISTED = "not_listed"
NO_LIST = "no_list"
SAMPLE_LEFT_OUT = "sample_left_out"
"""Why a candidate is in no list: it has no reward; it says what a better one says; the pairing rule left it out; no
other candidate is left; its sample is in ``left_out.jsonl``."""


@dataclass(frozen=True, slots=True)
class RankedList:
    """Candidates with their rewards, the best first, and why each of the sample's others isn't among them, by id."""

    candidates: Sequence[tuple[Candidate, Reward]]
    left_out: Mapping[str, str]


def ranked_list(sample: Sample, listed: Sequence[Candidate] | None, rewards: Sequence[Reward]) -> RankedList:
    """Rank the candidates that the pairing rule ``listed`` (None: all). Equal rewards keep the data's order."""
    ids = None if listed is None else {candidate.id for candidate in listed}
    ranked: list[tuple[Candidate, Reward]] = []
    left_out: dict[str, str] = {}
    texts: set[str] = set()
    both = zip(sample.candidates, rewards, strict=True)
    for candidate, reward in sorted(both, key=lambda each: -(each[1].reward or 0.0)):
        text = candidate.text.strip()  # chat templates may take white space off
        if reward.reward is None:
            left_out[candidate.id] = UNSCORED
        elif ids is not None and candidate.id not in ids:
            left_out[candidate.id] = NOT_LISTED
        elif text in texts:
            left_out[candidate.id] = SAME_TEXT
        else:
            texts.add(text)
            ranked.append((candidate, reward))
    return RankedList(ranked, left_out)


def list_row(sample: Sample, ranked: RankedList, template: Template) -> Mapping[str, JSON]:
    """A row of ``lists.jsonl``: the prompt as in ``pairs.jsonl``, and the candidates from the best to the worst."""
    return {
        "prompt": [m.as_row() for m in policy_prompt(sample, template)],
        "candidates": [
            {
                "id": candidate.id,
                "messages": answer_turns(candidate),
                "reward": reward.reward,
                "ratings": dict(reward.ratings),
            }
            for candidate, reward in ranked.candidates
        ],
        "left_out": [{"id": id_, "reason": reason} for id_, reason in ranked.left_out.items()],
        "sample_id": sample.id,
        **prompt_origin(sample, template),
    }


def answer_turns(candidate: Candidate) -> list[dict[str, JSON]]:
    """A candidate as chat messages. ``cut_off`` says that it has no end, so that none is trained."""
    cut_off: dict[str, JSON] = {"cut_off": True} if candidate.metadata.get("finish") == "length" else {}
    return [{"role": "assistant", "content": candidate.text, **cut_off}]


def prompt_origin(sample: Sample, template: Template) -> dict[str, JSON]:
    """The template that made the prompt (null for the sample's own messages), and the sample's tools if it has any."""
    return {
        "prompt_template_sha256": None if sample.messages is not None else template.sha256,
        **({"tools": [dict(tool) for tool in sample.tools]} if sample.tools else {}),
    }
