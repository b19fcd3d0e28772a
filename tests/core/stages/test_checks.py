"""Pairing rules and trainers that return what no protocol allows are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lrf.errors import StageError
from lrf.stages.checks import check_checkpoint, check_pairs
from lrf.types import Candidate, Document, PreferencePair, Preferences, Sample

ONE, TWO, EDITED, FOREIGN = Candidate("1", "a"), Candidate("2", "b"), Candidate("2", "B"), Candidate("3", "c")
SAMPLE = Sample("s", "?", (Document("0", "d"),), (ONE, TWO))


class Faulty: ...


@pytest.mark.parametrize(
    ("outcome", "problem"),
    [
        (PreferencePair(ONE, ONE, 2, 1), "pair of candidate '1' with itself"),
        (PreferencePair(ONE, EDITED, 2, 1), "'2' with a text that no candidate"),
        (PreferencePair(ONE, FOREIGN, 2, 1), "'3' with a text that no candidate"),
        (None, "gave a NoneType"),
        (Preferences(()), "without a pair and a list"),
        (
            Preferences((PreferencePair(ONE, TWO, 2, 1), PreferencePair(TWO, ONE, 1, 2))),
            "the pair of '1' and '2' twice",
        ),
        (Preferences((None,)), "gave a NoneType among its pairs"),  # type: ignore[arg-type]
        (Preferences((), (ONE, TWO, ONE)), "gave '1' twice in its list"),
        (Preferences((), (ONE, FOREIGN)), "'3' with a text that no candidate"),
    ],
)
def test_a_pair_that_is_not_of_two_candidates_of_the_sample_is_refused(outcome: Any, problem: str) -> None:
    pair = PreferencePair(ONE, TWO, 2, 1)
    with pytest.raises(StageError, match=rf"pairs \(Faulty of tests\) .*{problem}.*sample s"):
        check_pairs(Faulty(), SAMPLE, outcome)
    assert check_pairs(Faulty(), SAMPLE, pair) == Preferences((pair,))


def test_a_checkpoint_that_is_not_there_or_outside_of_the_run_is_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "policy").mkdir(parents=True)
    with pytest.raises(StageError, match=r"train \(Faulty of tests\) gave the checkpoint .*not there"):
        check_checkpoint(Faulty(), run / "nothing", run)
    with pytest.raises(StageError, match="outside of"):
        check_checkpoint(Faulty(), tmp_path, run)
    assert check_checkpoint(Faulty(), run / "policy", run) == "policy"
