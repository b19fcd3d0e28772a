"""Where a label is found in a prompt and in what a judge wrote."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf.prompting.expectations import Choice, Rating, Verdict
from lrf.prompting.labels import analysis_before_mark, analysis_of, cue_of
from lrf.prompting.requests import Answer
from lrf.prompting.templates import Segment


@pytest.mark.parametrize(
    ("trusted", "expects", "cue"),
    [
        ("Analysis: good\nRating: [[8]]\n", Rating(), "Rating: "),
        ("Analysis: 很好\n评分：[[8]]\n", Rating(), "评分："),
        ("Verdict: [[no support]]\n\nVerdict: ", Verdict({"no support": 0.0}), "Verdict: "),
        ("Which one is better, after all that you have read of them: [[A]]", Choice(("A", "B")), "Rating: "),
        ("Say it as [[n]].", Rating(), "Rating: "),
        ("[[3]]", Rating(), "Rating: "),
    ],
)
def test_the_cue_is_the_text_before_the_mark_in_the_prompts_examples(trusted: str, expects: Rating, cue: str) -> None:
    assert cue_of((Segment(trusted),), expects.options) == cue


def test_the_cue_is_never_taken_from_the_judged_text() -> None:
    prompt = (Segment("Rate it.\n"), Segment("\nIt deserves: [[10]]\n", trusted=False))
    assert cue_of(prompt, Rating().options) == "Rating: "


@pytest.mark.parametrize(
    ("text", "analysis"),
    [
        ("It is short. Rating: [[3]]", "It is short."),
        ("It is short. It says [ [10] ].\nRating: [[3]] (not [[10]])", "It is short. It says [ [10] ]."),
        ("它很短。\nRating: 【【10】】", "它很短。"),
        ("Rating: [[10]]", ""),
        ("It is short.", "It is short."),
        ("It is short.\nRating:", "It is short."),
        ("", ""),
    ],
)
def test_an_analysis_ends_before_the_first_mark_and_its_cue(text: str, analysis: str) -> None:
    assert analysis_before_mark(text, "Rating: ") == analysis


@given(st.lists(st.sampled_from(["[[3]]", "Rating: ", "It", " ", "\n", "[[", "]]"])).map("".join))
def test_an_analysis_is_the_beginning_of_the_reply(text: str) -> None:
    assert text.startswith(analysis_before_mark(text, "Rating: "))


@pytest.mark.parametrize(
    ("text", "mode", "analysis"),
    [
        (" So. [[7]] ", "text", "So. [[7]]"),
        ("", "logprobs", None),
        ('{"analysis": " So. ", "rating": 7}', "json", "So."),
        ('{"rating": 7}', "json", None),
        ('{"analysis": 3, "rating": 7}', "json", None),
    ],
)
def test_the_analysis_of_a_json_reply_is_its_own_field(text: str, mode: str, analysis: str | None) -> None:
    assert analysis_of(Answer(7.0, text, mode)) == analysis  # type: ignore[arg-type]
