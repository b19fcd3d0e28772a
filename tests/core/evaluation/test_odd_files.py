"""Files of rewards, verdicts, labels and sheets as people and other tools write them, and what is made of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from judge_server import JudgeServer
from lrf.cli.judging import added, left_of
from lrf.cli.main import invoke
from lrf.config import parse_pipeline
from lrf.errors import ConfigError, DataError
from lrf.evaluation.duels import Duels
from lrf.evaluation.judgements import (
    REWARD,
    decision_of,
    has_judgement,
    judged_as_recorded,
    judged_by,
    read_recorded,
    read_rewards,
    says,
)
from lrf.evaluation.labels import known_labels, read_labels
from lrf.evaluation.other_tools import read_verdicts
from lrf.evaluation.people import read_sheet
from lrf.evaluation.pipelines import budget_block, judging_pipeline
from lrf.evaluation.policies import by_comparison, by_rewards, means_of, means_table, outcome_table
from lrf.evaluation.statistics import mean_by_t
from lrf.plugin.catalog import load_catalog
from lrf.protocols import BenchmarkItem, Recorded
from lrf.types import Candidate, Document, Message, Sample
from project import Project


def written(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def item(*candidates: str) -> BenchmarkItem:
    made = tuple(Candidate(name, name) for name in candidates)
    return BenchmarkItem(Sample("q", "?", (Document("0", "text"),), candidates=made), "a")


def reward(reward: Any, candidate: str = "a", **ratings: Any) -> dict[str, Any]:
    return {"sample_id": "q", "candidate_id": candidate, "reward": reward, "ratings": ratings}


def test_rewards_are_read_with_what_each_dimension_alone_and_all_others_say(tmp_path: Path) -> None:
    rows = [reward(5.0, x=4, y=6, z=5), reward("", "b", x=1, y=None, z=3), reward(7, "c"), reward(None, "d", x=1)]
    scores = read_rewards(written(tmp_path / "r.jsonl", *rows))
    assert scores[REWARD] == {"q": {"a": 5.0, "c": 7.0}}
    assert scores["only y"] == {"q": {"a": 6.0}}
    assert scores["without x"] == {"q": {"a": 5.5}}
    assert scores["without y"] == {"q": {"a": 4.5, "b": 2.0}}
    assert says(scores)["reward"](item("a", "b")).scores == (5.0, None)


REWARD_MISTAKES: list[tuple[list[Any], str]] = [
    (["{"], ":1: "),
    ([{"sample_id": "q", "reward": 1}], ":1: expected the fields sample_id, candidate_id and reward"),
    ([[1]], ":1: expected the fields"),
    ([reward(1), reward(2)], ":2: candidate 'a' of 'q' has two rewards"),
    ([reward(True)], "expected a finite number as reward; got 'True'"),
    ([reward("much")], "expected a finite number as reward; got 'much'"),
    ([reward("1e999")], "expected a finite number as reward; got '1e999'"),
    ([reward(10**400)], "expected a finite number as reward; got '1000000000"),
]


@pytest.mark.parametrize(("rows", "problem"), REWARD_MISTAKES, ids=[problem for _, problem in REWARD_MISTAKES])
def test_what_is_no_reward_is_named(tmp_path: Path, rows: list[Any], problem: str) -> None:
    with pytest.raises(DataError) as error:
        read_rewards(written(tmp_path / "r.jsonl", *rows))
    assert problem in str(error.value)


def test_a_comparison_is_two_decisions_and_a_tie_is_one(tmp_path: Path) -> None:
    assert judged_by({"q": {"given": 8.0, "swapped": 8.0}}, item()).decisions == ("1", "2")
    assert judged_by({"q": {"given": 5.0}}, item()).decisions == ("tie", None)
    assert decision_of(2.0, "1", "2") == "2"
    assert not has_judgement(judged_by({"q": {"given": 5.0}}, item()))
    assert has_judgement(judged_by({"q": {"a": 1.0}}, item("a")))
    assert not has_judgement(judged_by({}, item()))


def test_a_question_that_was_not_recorded_has_no_judgement_of_the_recorded_kind(tmp_path: Path) -> None:
    assert judged_as_recorded({"other": Recorded("other", decisions=("1", "2"))}, item("a")).decisions == (None, None)
    assert judged_as_recorded({"other": Recorded("other", (1.0,))}, item("a", "b")).scores == (None, None)
    assert judged_as_recorded({"q": Recorded("q", (1.0, 2.0))}, item("a", "b")).scores == (1.0, 2.0)

    class NoRecords:
        def recorded(self, path: Path) -> list[Recorded]:
            return []

    with pytest.raises(DataError, match="no judgement in it"):
        read_recorded(NoRecords(), written(tmp_path / "r.jsonl", {"x": 1}))  # type: ignore[arg-type]
    assert set(read_recorded(NoRecords(), written(tmp_path / "r.jsonl", reward(1)))) == {"reward"}  # type: ignore[arg-type]


@pytest.fixture
def duels(tmp_path: Path) -> Any:
    """A question, and a conversation whose first turns are the same."""
    answers = [{"id": "q0", "text": "x"}, {"question_id": "q1", "choices": [{"turns": ["same", "x"]}]}]
    turns = (Message("user", "First?"), Message("assistant", "same"), Message("user", "Then?"))
    samples = [
        Sample("q0", "Question?", (Document("0", "text"),)),
        Sample("q1", "Then?", (Document("0", "text"),), messages=turns),
    ]
    with Duels(written(tmp_path / "a.jsonl", *answers), written(tmp_path / "b.jsonl", *answers)) as duels:
        assert len(list(duels.matched(iter(samples)))) == 2
        yield duels


ALPACA = {"dataset": "q0", "generator_1": "a", "generator_2": "b", "preference": 1.0}
PAIR = {"question_id": 1, "model_1": "a", "model_2": "b", "g1_winner": "model_1", "g2_winner": "model_1"}
SINGLE = {"question_id": 1, "model": "a", "score": 7}


@pytest.mark.parametrize(
    ("rows", "result"),
    [
        ([ALPACA], 1.0),
        ([ALPACA | {"generator_1": "b", "generator_2": "a"}], 0.0),
        ([ALPACA | {"preference": 1.5}], 0.5),
        ([ALPACA | {"preference": None}], None),
        ([ALPACA | {"dataset": "?", "instruction": "Question?"}], 1.0),
        ([PAIR], 1.0),
        ([PAIR | {"g2_winner": "model_2"}], 0.5),
        ([PAIR | {"g2_winner": "tie"}], 0.5),
        ([PAIR | {"g1_winner": "error"}], None),
        ([SINGLE, SINGLE | {"model": "b", "score": 3}], 1.0),
        ([SINGLE, SINGLE | {"model": "b"}], 0.5),
        ([SINGLE, SINGLE | {"model": "b", "score": -1}], None),
    ],
)
def test_verdicts_of_other_tools_are_results_of_the_first_policy(
    tmp_path: Path, duels: Duels, rows: list[Any], result: float | None
) -> None:
    outcome = read_verdicts(written(tmp_path / "v.jsonl", *rows), duels)
    assert (outcome.by_question, outcome.missing) == (({}, 1) if result is None else ({"q0": result}, 0))


VERDICT_MISTAKES: list[tuple[Any, str]] = [
    ([1], "expected an object"),
    ("{", "v.jsonl:1: "),
    ({"x": 1}, "expected AlpacaEval's annotations"),
    (ALPACA | {"dataset": "?"}, "neither is one of the questions"),
    (ALPACA | {"generator_1": "c"}, "generator_1, generator_2: expected the models a and b"),
    (PAIR | {"model_1": "b"}, "model_1, model_2: expected the models a and b"),
    (PAIR | {"question_id": 9}, "'9' is none of the questions"),
    (PAIR | {"question_id": 2, "turn": 1}, "no verdict in it"),  # both policies have the data's own answer there
    (SINGLE | {"question_id": 2, "turn": 1}, "no verdict in it"),
]


@pytest.mark.parametrize(("row", "problem"), VERDICT_MISTAKES, ids=[problem for _, problem in VERDICT_MISTAKES])
def test_what_is_no_verdict_is_named(tmp_path: Path, duels: Duels, row: Any, problem: str) -> None:
    with pytest.raises(DataError) as error:
        read_verdicts(written(tmp_path / "v.jsonl", row), duels)
    assert problem in str(error.value)


LABEL_MISTAKES: list[tuple[str, str, str]] = [
    ("l.csv", "sample_id,preferred,other,rating\n", "columns of preferences and of ratings in one file"),
    ("l.csv", "sample_id,sample_id\n", "the column 'sample_id' is given twice"),
    ("l.csv", "sample_id;preferred;other\n", "separated by commas"),
    ("l.csv", "sample,preferd\n", "did you mean"),
    ("l.csv", "", "got nothing"),
    ("l.csv", "sample_id,preferred,other\n\n", "no rows after the first line"),
    ("l.csv", "sample_id,preferred,other\nq,a\n", ":2: expected 3 columns, as in the first line; got 2"),
    ("l.csv", "sample_id,preferred,other\nq,a,a\n", "the same candidate as preferred"),
    ("l.csv", "sample_id,preferred,other\nq,,a\n", "preferred: empty"),
    ("l.csv", "sample_id,candidate_id,rating\nq,a,1_0\n", "expected a finite number; got '1_0'"),
    ("l.csv", 'sample_id,preferred,other\n"q"x,a,b\n', "no valid CSV"),
    ("none.csv", "-", "can't be read"),
    ("latin.csv", "-", "not UTF-8 text (byte 0)"),
    (
        "l.jsonl",
        '{"sample_id": "q", "preferred": "a", "other": "b"}\n{"more": 1}\n',
        ":2: more: no key of the first row",
    ),
    ("l.jsonl", "[1]\n", ":1: no object"),
    ("l.jsonl", "{\n", ":1: "),
]


@pytest.mark.parametrize(("name", "text", "problem"), LABEL_MISTAKES, ids=[p for _, _, p in LABEL_MISTAKES])
def test_what_is_no_label_is_named(tmp_path: Path, name: str, text: str, problem: str) -> None:
    if name == "latin.csv":
        (tmp_path / name).write_bytes(b"\xe9")
    elif text != "-":
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as error:
        read_labels(tmp_path / name)
    assert problem in str(error.value)


def test_labels_of_candidates_that_the_run_has_not_are_mistakes_or_passed_over(tmp_path: Path) -> None:
    rows = [{"sample_id": s, "candidate_id": c, "rating": 1} for s, c in (("q", "a"), ("q", "aa"), ("r", "a"))]
    labels = read_labels(written(tmp_path / "l.jsonl", *rows))
    with pytest.raises(DataError, match="sample 'q' has no candidate 'aa' in the run; did you mean"):
        known_labels(labels, {"q": ["a", "ab"]})
    kept = known_labels(labels, {"q": ["a"]}, skip_unknown=True)
    assert (len(kept.ratings), kept.skipped) == (1, 2)
    with pytest.raises(DataError, match="none of the 3 rows is of this run"):
        known_labels(labels, {}, skip_unknown=True)


def sheet_of(path: Path, *rows: Mapping[str, Any]) -> Path:
    path.write_text(json.dumps(rows))
    return path


def test_a_sheet_is_read_as_people_and_label_studio_leave_it(tmp_path: Path) -> None:
    def result(**value: Any) -> list[Any]:
        return [{"result": [{"value": value}]}]

    studio = [
        {"data": {"sample_id": "q1"}, "annotations": result(selected="left")},
        {"data": {"sample_id": "q2"}, "annotations": result(choices=["tie"])},
        {"data": {"sample_id": "q3"}, "annotations": []},
        {"sample_id": "'q4", "preferred": "2"},
    ]
    sheet = read_sheet(sheet_of(tmp_path / "s.json", *studio))["preferred"]
    assert set(sheet) == {"q1", "q2", "q4"}
    assert sheet["q2"] == 0.5
    for rows, problem in (
        ([{"preferred": "1"}], "sample_id: missing"),
        ([{"sample_id": "q", "preferred": "3"}], "expected 1, 2 or tie; got '3'"),
        ([{"sample_id": "q", "preferred": "1"}] * 2, "'q' comes twice"),
        ([{"sample_id": "q", "preferred": None}], "no row has a preferred answer"),
    ):
        with pytest.raises(DataError, match=problem):
            read_sheet(sheet_of(tmp_path / "s.json", *rows))


def test_a_budget_of_the_command_line_is_money_calls_or_tokens() -> None:
    assert budget_block("5") == {"money": 5.0}
    assert budget_block("calls=200, tokens=1e6") == {"calls": 200, "tokens": 1_000_000}
    for odd in ("calls", "0", "calls=inf", "days=3", "calls=-1"):
        with pytest.raises(ConfigError, match="--budget: expected money=N, calls=N or tokens=N"):
            budget_block(odd)


def test_a_judging_pipeline_keeps_what_decides_how_a_judge_is_asked_and_nothing_else(tmp_path: Path) -> None:
    judge = {"type": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "m"}
    given = {"name": "run", "data": {"type": "jsonl", "path": "d.jsonl"}, "judges": {"main": judge}}
    catalog = load_catalog()
    base = parse_pipeline(
        {**given, "dimensions": ["helpfulness", "logicality"], "aggregator": {"type": "mean"}, "pairs": "best_worst"},
        catalog,
        folder=tmp_path,
    )
    make: Callable[..., Any] = lambda base=base, **more: judging_pipeline(  # noqa: E731
        base, catalog, name="judging", rows=tmp_path / "rows.jsonl", **more
    )
    made = make(dimensions=["logicality"], budget="calls=3", cached=False)
    assert [block.name for block in made.dimensions] == ["logicality"]
    assert (made.pairs, made.max_unscored, made.budget.calls) == (None, 1.0, 3)
    assert [block.type for block in make(comparison="").dimensions] == ["comparison"]
    with pytest.raises(ConfigError, match="no dimension 'logic'; it has helpfulness, logicality"):
        make(dimensions=["logic"])
    with pytest.raises(ConfigError, match="no `dimensions:`, so it judges nothing"):
        make(parse_pipeline(given, catalog, folder=tmp_path))


def test_an_outcome_is_of_what_both_have_and_counts_the_rest_as_missing() -> None:
    scores = {
        "reward": {"q0": {"a": 6.0, "b": 5.0, "given": 2.0, "swapped": 9.0}, "q1": {"a": 5.0, "given": 8.0}},
        "only x": {"q0": {"a": 5.0, "b": 5.0}},
        "without x": {"q0": {"a": 1.0, "b": 5.0}},
    }
    outcomes = by_rewards(["q0", "q1"], scores, 0.5)
    assert {name: (of.counts, of.missing) for name, of in outcomes.items()} == {
        "reward": ((1, 0, 0), 1),
        "x": ((0, 1, 0), 1),
    }
    compared = by_comparison(["q0", "q1"], scores)
    assert (compared.counts, compared.missing) == ((0, 0, 1), 1)
    means = means_of(["q0", "q1"], scores)
    assert (means["reward"]["a"].value, means["reward"]["b"].value) == (5.5, 5.0)
    assert set(means) == {"reward", "x"}
    assert "| reward | 5.500 \\[5.000, 6.000\\] | 5.000 |" in means_table("means", means).markdown()
    assert "| x | 0.00 | 1.00 | 0.00 |" in outcome_table(outcomes).markdown()


def test_an_interval_of_student_needs_two_values() -> None:
    assert mean_by_t([]).value is None
    assert (mean_by_t([3.0]).value, mean_by_t([3.0]).low) == (3.0, None)
    assert mean_by_t([2.0, 4.0]).value == 3.0


def test_prices_add_up_by_unit_and_what_is_left_of_a_budget_is_a_budget() -> None:
    first = {"calls": 3, "tokens": None, "money": {"USD": 1.0}}
    both = added(added({}, first), {"calls": 2, "tokens": None, "money": {"USD": 0.5, "EUR": 2.0}})
    assert both == {"calls": 5, "tokens": None, "money": {"USD": 1.5, "EUR": 2.0}}
    assert added(both, {"money": None, "calls": None}) == both
    assert left_of(None, both) is None
    assert left_of("calls=9,money=4", both) == "calls=4,money=0.5"
    assert left_of("calls=5", both) == ""


def evaluation(project: Project, tmp_path: Path) -> list[str]:
    """The command for two policies with answers to two questions that have references."""
    project.write_data([{"id": f"q{n}", "context": "Text.", "query": "What?", "reference": "seven"} for n in range(2)])
    pipeline = project.write(project.pipeline(pairs=None))
    a = written(tmp_path / "a.jsonl", *({"id": f"q{n}", "text": "seven"} for n in range(2)))
    b = written(tmp_path / "b.jsonl", *({"id": f"q{n}", "text": "two"} for n in range(2)))
    return ["evaluate", str(pipeline), "-a", str(a), "-b", str(b), "--runs", str(project.runs)]


def test_policies_are_compared_by_people_and_tools_alone_and_the_files_for_them_are_written(
    project: Project, judge_server: JudgeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*evaluation(project, tmp_path), "--no-judge"]
    sheet = written(tmp_path / "s.jsonl", {"sample_id": "q0", "preferred": "tie"})
    verdicts = written(tmp_path / "v.jsonl", ALPACA)
    out, folder = tmp_path / "out.md", tmp_path / "export"
    more = ["--people", str(sheet), "--verdicts", str(verdicts), "--markdown", str(out), "--export", str(folder)]
    assert invoke([*command, *more]) == 0
    shown = capsys.readouterr().out
    assert "people: 1, of" in shown
    assert "v.jsonl" in shown
    assert "| F1 | 100.000 | 0.000 |" in out.read_text()
    assert json.loads((folder / "alpaca_eval" / "a.json").read_text())[0]["output"] == "seven"
    assert judge_server.books.calls == 0
    assert invoke([*command, "--plan"]) == 2
    assert "there is nothing to plan" in capsys.readouterr().err


def test_answers_to_no_common_question_and_a_judge_that_refuses_end_the_command(
    project: Project, judge_server: JudgeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = evaluation(project, tmp_path)
    judge_server.fault("401", None)
    assert invoke(command) == 2
    assert "status 401" in capsys.readouterr().err
    written(tmp_path / "b.jsonl", {"id": "q9", "text": "y"})
    assert invoke(command) == 2
    assert "have no answers to the same question" in capsys.readouterr().err


def test_documents_that_can_not_be_read_end_an_audit_with_their_name(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = str(project.write(project.pipeline(pairs=None)))
    for content, problem in ((b"\xff", "not UTF-8 text (byte 0)"), (b"a\0b", "NUL")):
        (tmp_path / "d.txt").write_bytes(content)
        assert invoke(["audit", pipeline, "-d", str(tmp_path / "d.txt"), "--runs", str(project.runs)]) == 2
        assert problem in capsys.readouterr().err


def test_a_judge_that_refuses_ends_an_audit_before_anything_is_measured(
    project: Project, judge_server: JudgeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = str(project.write(project.pipeline(pairs=None)))
    judge_server.fault("401", None)
    assert invoke(["audit", pipeline, "--limit", "1", "--runs", str(project.runs)]) == 2
    assert "status 401" in capsys.readouterr().err
