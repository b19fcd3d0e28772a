"""A judge whose replies can't be read stops the run early."""

from __future__ import annotations

import pytest

from lrf.engine.readability import FIRST, Readability


def test_the_run_is_stopped_after_the_first_questions_with_three_replies_shown() -> None:
    readability = Readability("judges.main")
    for n in range(FIRST - 1):
        assert readability.unread("rating", "the reply has no rating", f"Fine. {n}") is None
    error = str(readability.unread("rating", "the reply has no rating", "Fine. Rating: 3"))
    assert "judges.main: of the first 20 paid questions for a rating, 0 could be read" in error
    assert [line for line in error.splitlines() if line.startswith('  "')] == [
        '  "Fine. 17" (the reply has no rating)',
        '  "Fine. 18" (the reply has no rating)',
        '  "Fine. Rating: 3" (the reply has no rating)',
    ]
    assert "`structured`" in error
    assert "lrf rescore PIPELINE --failed" in error


@pytest.mark.parametrize("read", [2, 10, 20])
def test_a_judge_whose_replies_are_readable_to_a_tenth_is_not_stopped(read: int) -> None:
    readability = Readability("judges.main")
    for _ in range(read):
        readability.read("rating")
    assert not any(readability.unread("rating", "no rating", "x") for _ in range(1_000))


def test_each_kind_of_question_is_watched_by_itself() -> None:
    readability = Readability("judges.main")
    for _ in range(100):
        readability.read("statements")
    assert any(readability.unread("verdict", "no verdict", "x") for _ in range(FIRST))
