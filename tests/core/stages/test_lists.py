"""Ranked lists of a sample's candidates: who is in them, who isn't and why, and rules that give several pairs."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

import lrf
from lrf.stages.pairs.lists import answer_turns, ranked_list
from lrf.types import Candidate, Document, Preferences, Reward, Sample
from project import Project, sample_row

TEXTS = ("low", "high", "unscored", " high ", "middle")
CANDIDATES = tuple(Candidate(str(n), text) for n, text in enumerate(TEXTS))
SAMPLE = Sample("s", "?", (Document("0", "d"),), CANDIDATES)
REWARDS = [Reward("s", c.id, r, {}) for c, r in zip(CANDIDATES, (-1.0, 9.0, None, 8.0, 4.0), strict=True)]


def test_candidates_are_ranked_and_each_other_one_has_a_reason() -> None:
    ranked = ranked_list(SAMPLE, None, REWARDS)
    assert [candidate.id for candidate, _ in ranked.candidates] == ["1", "4", "0"]
    assert ranked.left_out == {"2": "unscored", "3": "same_text"}
    chosen = ranked_list(SAMPLE, (CANDIDATES[0], CANDIDATES[4]), REWARDS)
    assert [candidate.id for candidate, _ in chosen.candidates] == ["4", "0"]
    assert chosen.left_out == {"1": "not_listed", "2": "unscored", "3": "not_listed"}


def test_every_scored_candidate_of_a_run_is_in_a_list_or_counted(project: Project) -> None:
    project.write_data([sample_row(0), sample_row(1, candidates=3)])
    summary = lrf.run(project.pipeline(), runs=project.runs)
    (row,) = project.lines("lists.jsonl")
    (pair,) = project.lines("pairs.jsonl")
    assert {name: row[name] for name in ("prompt", "sample_id", "prompt_template_sha256")} == {
        name: pair[name] for name in ("prompt", "sample_id", "prompt_template_sha256")
    }
    rewards = {r["candidate_id"]: r for r in project.lines("rewards.jsonl") if r["sample_id"] == "sample-0"}
    listed = row["candidates"]
    assert [each["reward"] for each in listed] == sorted((r["reward"] for r in rewards.values()), reverse=True)
    assert all(each["ratings"] == rewards[each["id"]]["ratings"] for each in listed)
    assert listed[0]["messages"] == pair["chosen"]
    counts = summary.stages["pairs"]
    assert (counts["lists"], counts["listed"], counts["unlisted"]) == (1, 5, {"sample_left_out": 3})


class Neighbours:
    """A third party's rule: each candidate against the next best, and a list without the last."""

    def __init__(self, settings: Any) -> None: ...

    def pair(self, sample: Sample, rewards: Any) -> Preferences:
        ranked = sorted(zip(sample.candidates, rewards, strict=True), key=lambda each: -each[1].reward)
        pairs = [
            lrf.types.PreferencePair(better, worse, high.reward, low.reward)
            for (better, high), (worse, low) in pairwise(ranked)
        ]
        return Preferences(tuple(pairs), tuple(candidate for candidate, _ in ranked[:-1]))


def test_a_rule_of_a_third_party_gives_several_pairs_and_a_list_of_its_own(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lrf_pairs.best_worst.BestWorst", Neighbours)
    project.write_data([sample_row(0)])
    counts = lrf.run(project.pipeline(), runs=project.runs).stages["pairs"]
    assert (counts["pairs"], counts["lists"], counts["unlisted"]) == (4, 1, {"not_listed": 1})
    pairs = project.lines("pairs.jsonl")
    assert [row["chosen_id"] for row in pairs[1:]] == [row["rejected_id"] for row in pairs[:-1]]


def test_a_candidate_that_was_cut_off_is_marked_so_that_no_end_is_trained() -> None:
    whole, cut_off = (Candidate("a", "Text", metadata={"finish": finish}) for finish in ("stop", "length"))
    assert answer_turns(whole) == [{"role": "assistant", "content": "Text"}]
    assert answer_turns(cut_off) == [{"role": "assistant", "content": "Text", "cut_off": True}]
