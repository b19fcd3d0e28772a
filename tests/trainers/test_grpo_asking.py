"""Rewards while a judge comes and goes, and how they become numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from lrf.errors import BudgetError, JudgeSilentError, RunInterruptedError
from lrf.protocols import Answers
from lrf.types import Reward, Unscored
from lrf_grpo.asking import PatientRewards, Weighing
from lrf_grpo.patience import Patience

TWO = [Answers(0, ["a", "b"]), Answers(1, ["c", "d"])]
AWAY = JudgeSilentError("judges.main has served nothing for 300 s")


def reward(value: float | None, *, transient: bool = False) -> Reward:
    unscored = None if value is not None else Unscored("d", "judge_unavailable", "503", transient)
    return Reward("s", "c", value, {"d": value}, unscored)


def lost() -> Reward:
    return reward(None, transient=True)


class Script:
    """Gives these outcomes, one a call: values by answer, or an error. Time passes only in pauses."""

    dimensions = ("d",)

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes, self.asked, self.now = list(outcomes), list[list[int]](), 0.0
        self.notes: list[str] = []

    def score(self, answers: Sequence[Answers]) -> list[tuple[Reward, ...]]:
        self.asked.append([one.place for one in answers])
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return [tuple(outcome[one.place]) for one in answers]

    def costs(self) -> dict[str, Any]:
        return {}

    def patient(self, patience: float = 600) -> PatientRewards:
        def sleep(seconds: float) -> None:
            self.now += seconds

        note = self.notes.append
        report = lambda message: note(str(message["note"]))  # noqa: E731
        return PatientRewards(self, Patience("the judge", patience, report, sleep, lambda: self.now))


def values(scored: list[list[Reward]]) -> list[list[float | None]]:
    return [[one.reward for one in rewards] for rewards in scored]


GOOD = {0: [reward(1), reward(2)], 1: [reward(3), reward(4)]}


@pytest.mark.parametrize("served", [0, 2], ids="it had served {}".format)
def test_a_judge_that_is_away_for_a_while_pauses_training_and_nothing_is_unscored(served: int) -> None:
    went = {0: [reward(1), reward(2)] if served else [lost(), lost()], 1: [lost(), lost()]}
    script = Script(went, went, AWAY, AWAY, GOOD)
    assert values(script.patient().score(TWO)) == [[1, 2], [3, 4]]
    assert script.now > 0
    assert [note.split(",")[0] for note in script.notes] == [
        "training waits for the judge",
        "the judge serves again; training goes on",
    ]


@pytest.mark.parametrize("outcome", [AWAY, {0: [lost(), lost()], 1: [lost(), lost()]}], ids=["silent", "refusing"])
def test_a_judge_that_stays_away_ends_training_when_patience_does(outcome: Any) -> None:
    script = Script(outcome)
    with pytest.raises(JudgeSilentError, match=r"served nothing|judge_unavailable: 503"):
        script.patient(600).score(TWO)
    assert 500 <= script.now <= 600


def test_who_stops_a_training_that_waits_need_not_wait_for_patience() -> None:
    script = Script(AWAY)
    patient = script.patient()
    patient.patience.stopping = lambda: script.now > 20
    with pytest.raises(RunInterruptedError, match="stopped while it waited for the judge"):
        patient.score(TWO)
    assert script.now < 23


def test_answers_that_a_server_fails_at_while_it_serves_others_stay_unscored() -> None:
    script = Script({0: [reward(1), lost()], 1: [reward(3), reward(4)]})
    assert values(script.patient().score(TWO)) == [[1, None], [3, 4]]
    assert script.asked == [[0, 1], [0]]  # once more, and no longer
    assert script.now == 0


def test_an_answer_that_cannot_be_scored_is_not_asked_for_again() -> None:
    script = Script({0: [reward(1), reward(None)], 1: [reward(3), reward(4)]})
    assert values(script.patient().score(TWO)) == [[1, None], [3, 4]]
    assert script.asked == [[0, 1]]


def test_an_error_that_stays_is_raised_at_once() -> None:
    with pytest.raises(BudgetError):
        Script(BudgetError("the next call could cross the budget")).patient().score(TWO)


def test_an_answer_without_a_weighed_rating_is_unscored_whatever_else_is_rated() -> None:
    half = Reward("s", "c", None, {"a": 4.0, "b": None}, Unscored("b", "unreadable"))
    weighing = Weighing(("a", "b"), {"a": 2.0, "b": 1.0})
    assert weighing.columns == ("a", "b")
    assert weighing.column_weights == [2.0, 1.0]
    assert all(map(math.isnan, weighing.row(half)))
    assert Weighing(("a", "b"), {"a": 1.0}).row(half)[0] == 4.0
    assert all(map(math.isnan, Weighing(("a", "b")).row(half)))


def test_without_weights_the_pipelines_reward_counts_and_dimensions_are_beside_it() -> None:
    whole = Reward("s", "c", 3.0, {"a": 4.0, "b": 2.0})
    weighing = Weighing(("a", "b"))
    assert dict(zip(weighing.columns, weighing.row(whole), strict=True)) == {"reward": 3.0, "a": 4.0, "b": 2.0}
    assert weighing.column_weights == [1.0, 0.0, 0.0]
