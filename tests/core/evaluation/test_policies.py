"""``lrf evaluate``: two policies side by side, by judge, by reference and by people, and sheets that stay blind."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from judge_server import JudgeServer
from lrf.cli.main import invoke
from lrf.errors import DataError
from lrf.evaluation import policies, references
from lrf.evaluation.duels import Duel, Duels, read_answers
from lrf.evaluation.other_tools import read_verdicts, write_for_others
from lrf.evaluation.people import people_agreement, people_outcomes, read_sheet, write_sheet
from lrf.evaluation.policies import Outcome, by_reference, facts_of
from lrf.evaluation.references import rouge_l, token_f1
from lrf.types import Document, JudgedStatement, Judgement, Message, Sample
from project import Project


def duel(number: int, a: str = "good", b: str = "bad") -> Duel:
    return Duel(Sample(f"q{number}", f"Question {number}?", (Document("0", "text"),), reference="good"), a, b)


def rows(path: Path, *values: Any) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


def test_answers_are_read_from_lrf_alpacaeval_mt_bench_and_longbench(tmp_path: Path) -> None:
    own = rows(tmp_path / "own.jsonl", {"sample_id": "q1", "text": "x"})
    alpaca = tmp_path / "alpaca.json"
    alpaca.write_text(json.dumps([{"instruction": "Question 1?", "output": "x", "generator": "m"}]))
    bench = rows(tmp_path / "mt.jsonl", {"question_id": "q1", "choices": [{"index": 0, "turns": ["no", "x"]}]})
    long = rows(tmp_path / "pred.jsonl", {"idx": "q1", "pred": "x", "answers": ["y"]})
    run = tmp_path / "run"
    run.mkdir()
    rows(
        run / "candidates.jsonl",
        {"sample_id": "q1", "candidates": [{"text": "x"}]},
        {"sample_id": "q2", "candidates": []},
    )
    other = rows(tmp_path / "other.jsonl", {"id": "q1", "text": "other"}, {"id": "q9", "text": "no such question"})
    for path in (own, alpaca, bench, long, run):
        with Duels(path, other) as duels:
            (found,) = duels.matched(iter([duel(1).sample, duel(2).sample]))
            assert (found.a, found.b, found.references, dict(duels.counts)) == (
                "x", "other", ("good",),
                {"questions": 1, "neither": 1, "answers of b to no question of the data": 1},
            )  # fmt: skip
            (kept,) = duels
            assert (kept.sample.id, kept.sample.documents, kept.a) == ("q1", (), "x")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"text": "x"}, "expected one of sample_id, id"),
        ({"id": "q1"}, "and one of output, text"),
        ([1], "expected an object"),
    ],
)
def test_what_is_no_answer_is_named_by_line(tmp_path: Path, row: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        list(read_answers(rows(tmp_path / "a.jsonl", row)))
    twice = rows(tmp_path / "a.jsonl", *[{"id": "q1", "text": "x"}] * 2)
    with pytest.raises(DataError, match=r"a\.jsonl:2: two answers to 'q1'"):
        Duels(twice, twice)


def test_of_several_references_the_nearest_counts() -> None:
    found = by_reference([Duel(Sample("q", "?", ()), "in 1904", "never", ("burnt", "in 1904"))])
    assert {name: (of["a"].value, of["b"].value) for name, of in found.items()} == {
        "F1": (100, 0), "ROUGE-L": (pytest.approx(100), 0),
    }  # fmt: skip


def test_facts_and_factscore_are_those_of_the_judged_statements() -> None:
    def judged(*supports: float) -> dict[str, Any]:
        statements = tuple(JudgedStatement("s", "v", support) for support in supports)
        return {"faithfulness": Judgement(5.0, None, "statements", statements), "helpfulness": Judgement(5.0)}

    found = facts_of([("q1", "a", judged(*[1.0] * 10)), ("q2", "a", judged(1.0, 0.0)), ("q1", "b", judged())])
    assert {name: (of["a"].value, of["b"].value) for name, of in found.items()} == {
        "faithfulness: facts an answer": (6, 0),
        "faithfulness: FActScore": (pytest.approx((100 + 50 * 2.718281828 ** (1 - 10 / 2)) / 2), 0),
        "faithfulness: supported": (75, None),
    }


def test_answers_go_out_to_alpacaeval_and_mt_bench_and_their_verdicts_come_back(tmp_path: Path) -> None:
    samples = [duel(n).sample for n in range(4)]
    paths = [rows(tmp_path / f"{p}.jsonl", *({"id": s.id, "text": f"{p} {s.id}"} for s in samples)) for p in "ab"]
    with Duels(*paths) as duels:
        assert len(list(duels.matched(iter(samples)))) == 4
        write_for_others(tmp_path / "out", duels)
        alpaca = json.loads((tmp_path / "out/alpaca_eval/a.json").read_text())
        assert alpaca[1] == {"instruction": "Question 1?", "output": "a q1", "generator": "a", "dataset": "q1"}
        bench = [json.loads(line) for line in (tmp_path / "out/mt_bench/model_answer/b.jsonl").open()]
        assert bench[3]["choices"][0]["turns"] == ["b q3"]
        assert json.loads((tmp_path / "out/mt_bench/question.jsonl").open().readline())["turns"] == ["Question 0?"]
        generators = {"generator_1": "b", "generator_2": "a"}
        annotated = [{**generators, "instruction": f"Question {n}?", "dataset": f"q{n}", "preference": p}
                     for n, p in enumerate((2.0, 1.2, 1.5, None))]  # fmt: skip
        outcome = read_verdicts(rows(tmp_path / "annotations.jsonl", *annotated), duels)
        assert (outcome.counts, outcome.missing) == ((1, 1, 1), 1)
        models = {"model_1": "b", "model_2": "a"}
        pairs = [("model_2", "model_2"), ("model_1", "model_2"), ("model_1", "model_1"), ("error", "tie")]
        judged = [{**models, "question_id": n, "g1_winner": x, "g2_winner": y} for n, (x, y) in enumerate(pairs, 1)]
        outcome = read_verdicts(rows(tmp_path / "pair.jsonl", *judged), duels)
        assert (outcome.counts, outcome.missing) == ((1, 1, 1), 1)
        single = [{"question_id": n, "model": m, "score": s, "turn": 1}
                  for n, a, b in ((1, 9, 3), (2, 4, 4), (3, -1, 5)) for m, s in (("a", a), ("b", b))]  # fmt: skip
        outcome = read_verdicts(rows(tmp_path / "single.jsonl", *single), duels)
        assert (outcome.counts, outcome.missing, outcome.differences) == ((1, 1, 0), 1, [6, 0])
        with pytest.raises(DataError, match="question_id: '9' is none of the questions"):
            read_verdicts(rows(tmp_path / "wrong.jsonl", {**judged[0], "question_id": 9}), duels)


def test_both_turns_of_a_conversation_go_out_to_mt_bench_and_come_back(tmp_path: Path) -> None:
    turns = [Message("user", "First?"), Message("assistant", "The data's."), Message("user", "Second?")]
    samples = [Sample(f"q{n}", "Second?", (), messages=tuple(turns)) for n in range(2)]
    own = rows(
        tmp_path / "a.jsonl", *({"question_id": f"q{n}", "choices": [{"turns": ["A1", "A2"]}]} for n in range(2))
    )
    other = rows(tmp_path / "b.jsonl", {"id": "q0", "text": "B2"},
                 {"question_id": "q1", "choices": [{"turns": ["A1", "B2"]}]})  # fmt: skip
    with Duels(own, other) as duels:
        first, _ = list(duels.matched(iter(samples)))
        assert (first.a, first.b, first.before) == ("A2", "B2", ("First?", "A1", "The data's."))
        write_for_others(tmp_path / "out", duels)
        written = [json.loads(line)["turns"] for line in (tmp_path / "out/mt_bench/question.jsonl").open()]
        assert written == [["First?", "Second?"]] * 2
        answers = [json.loads(line) for line in (tmp_path / "out/mt_bench/model_answer/b.jsonl").open()]
        assert [answer["choices"][0]["turns"] for answer in answers] == [["The data's.", "B2"], ["A1", "B2"]]
        judged = [{"question_id": n, "turn": t, "model_1": "a", "model_2": "b", "g1_winner": w, "g2_winner": w}
                  for n, t, w in ((1, 1, "model_1"), (1, 2, "model_2"), (2, 1, "model_2"), (2, 2, "tie"))]  # fmt: skip
        outcome = read_verdicts(rows(tmp_path / "pair.jsonl", *judged), duels)
        assert outcome.by_question == {"q0, turn 1": 1, "q0": 0, "q1": 0.5}


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_a_sheet_goes_out_blind_and_comes_back_as_wins(tmp_path: Path, suffix: str) -> None:
    matches = [duel(n, a="=good") for n in range(40)]
    path = tmp_path / f"sheet.{suffix}"
    write_sheet(path, matches, ["helpfulness"])
    if suffix == "csv":
        with path.open(newline="", encoding="utf-8") as file:
            sheet = list(csv.DictReader(file))
        first = [row["answer_1"] for row in sheet]
        for row in sheet:
            row["preferred"] = "1" if "good" in row["answer_1"] else "2"
        sheet[0]["preferred"], sheet[1]["preferred"] = "tie", ""
        sheet[2]["preferred_helpfulness"] = sheet[2]["preferred"]
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, sheet[0])
            writer.writeheader()
            writer.writerows(sheet)
        assert not any(text.startswith("=") for row in sheet for text in row.values())
    else:
        tasks = json.loads(path.read_text())
        first = [task["data"]["answer_1"] for task in tasks]
        for task in tasks:
            side = "left" if "good" in task["data"]["answer_1"] else "right"
            task["annotations"] = [{"result": [{"value": {"selected": side}}]}]
        by_dimension = "1" if "good" in tasks[2]["data"]["answer_1"] else "2"
        tasks[2]["annotations"][0]["result"].append(
            {"from_name": "preferred_helpfulness", "value": {"choices": [by_dimension]}}
        )
        tasks[0]["annotations"] = [{"result": [{"value": {"choices": ["tie"]}}]}]
        tasks[1]["annotations"] = []
        path.write_text(json.dumps(tasks))
        assert "<Pairwise" in path.with_suffix(".xml").read_text()
    assert 8 < sum("good" in text for text in first) < 32  # neither policy is always the first
    outcomes = people_outcomes([read_sheet(path)])
    assert {name: outcome.counts for name, outcome in outcomes.items()} == {
        "people": (38, 1, 0), "people: helpfulness": (1, 0, 0),
    }  # fmt: skip


def test_a_sheet_that_says_something_else_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("sample_id,preferred\nq1,3\n")
    with pytest.raises(DataError, match=r"s\.csv:2: preferred: expected 1, 2 or tie; got '3'"):
        read_sheet(path)
    path.write_text("sample_id,preferred\nq1,\n")
    with pytest.raises(DataError, match="no row has a preferred answer"):
        read_sheet(path)


def test_people_agree_with_one_another_and_with_the_judge_as_far_as_they_do() -> None:
    one = {"preferred": {"a": 1.0, "b": 0.0, "c": 1.0}, "preferred_helpfulness": {"a": 0.0}}
    two = {"preferred": {"a": 1.0, "b": 0.0, "c": 0.0}}
    judges = {"reward": Outcome({"a": 1.0, "b": 0.0, "c": 0.5}), "helpfulness": Outcome({"a": 0.0})}
    agreement = people_agreement([one, two], judges)
    found: Any = agreement.as_json()
    assert found["with_judge"]["reward"]["value"] == pytest.approx((1 + 1 + 0.5 + 1 + 1 + 0.5) / 6)
    assert found["with_judge"]["helpfulness"]["value"] == 0
    assert found["with_judge"]["helpfulness: preferred_helpfulness"]["value"] == 1
    assert 0 < found["alpha"]["preferred"] < 1
    assert people_outcomes([one, two])["people"].counts == (1, 1, 1)
    assert len(agreement.table().rows) == 3
    assert people_agreement([one], {}).as_json()["with_judge"] == {}


@pytest.fixture
def by_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where jieba isn't installed; loading it takes seconds."""
    monkeypatch.setattr(references, "cuts_words", lambda: False)
    monkeypatch.setattr(policies, "cuts_words", lambda: False)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=60), st.text(max_size=60), st.sampled_from(["en", "zh"]))
def test_figures_against_a_reference_are_within_nought_and_one_and_f1_is_symmetric(
    by_characters: None, a: str, b: str, language: str
) -> None:
    assert 0 <= rouge_l(a, b, language) <= 1
    assert 0 <= token_f1(a, b, language) <= 1
    assert token_f1(a, b, language) == token_f1(b, a, language)


def test_f1_and_rouge_are_those_of_longbench() -> None:
    """What its metrics.py gives, with the packages ``rouge`` 1.0.1 and ``jieba`` 0.42.1."""
    assert token_f1("The mill, in 1820!", "mill 1820", "en") == pytest.approx(0.8)
    theirs = rouge_l("The cat sat. It was red and old.", "A red cat sat there. It was old, red and fat.", "en")
    assert theirs == pytest.approx(0.6666666617283951, abs=1e-12)
    assert token_f1("", "mill", "en") == rouge_l("", "", "en") == rouge_l("no", "yes", "en") == 0


def test_chinese_is_cut_into_characters_without_jieba_and_the_figures_say_so(by_characters: None) -> None:
    assert token_f1("建于一八二零年。", "一八二零年", "zh") == pytest.approx(2 * 5 / 12)
    found = by_reference([Duel(Sample("q", "?", ()), "一八二零年\n不", "不", ("一八二零年",), "zh", "lsht")])
    assert {name: of["a"].value for name, of in found.items()} == {
        "F1 (Chinese by characters)": 100, "ROUGE-L (Chinese by characters)": pytest.approx(100),
    }  # fmt: skip


@pytest.mark.slow
def test_chinese_is_cut_into_words_by_jieba_as_longbench_does() -> None:
    assert token_f1("《红楼梦》的作者是曹雪芹，写于清代。", "作者为曹雪芹。", "zh") == pytest.approx(4 / 11)
    one, other = "北京市2008年举办了奥运会", "2008 年，奥运会在北京举行！"
    assert rouge_l(one, other, "zh") == pytest.approx(0.4285714236734694, abs=1e-12)


def test_an_outcome_without_questions_has_no_rate() -> None:
    assert Outcome().win_rate().value is None
    assert Outcome().cells()[0] == "0.00"


@pytest.mark.parametrize("way", [[], ["--compare"]])
def test_the_better_policy_wins_by_reward_dimension_comparison_and_reference(
    project: Project, judge_server: JudgeServer, tmp_path: Path, capsys, way: list[str]
) -> None:
    def reply(prompt: str, _: float) -> str:
        material = prompt[prompt.rindex("<question>") :]
        if "answer_a" in prompt:
            return f"So. [[{'A' if material.index('GOOD') < material.index('BAD') else 'B'}]]"
        return f"So. Rating: [[{9 if 'GOOD' in material else 4}]]"

    judge_server.reply = reply
    data = [{"id": f"q{n}", "context": f"Text {n}.", "query": f"What {n}?", "reference": "GOOD one"} for n in range(8)]
    project.write_data(data)
    pipeline = str(project.write(project.pipeline(pairs=None)))
    a = rows(tmp_path / "a.jsonl", *({"id": f"q{n}", "text": f"GOOD {n}"} for n in range(8)))
    b = rows(tmp_path / "b.jsonl", *({"id": f"q{n}", "text": f"BAD {n}"} for n in range(1, 9)))
    sheet = tmp_path / "sheet.csv"
    args = ["evaluate", pipeline, "-a", str(a), "-b", str(b), "--runs", str(project.runs), "--json", *way]
    assert invoke([*args, "--plan"]) == 0
    assert judge_server.books.calls == 0
    capsys.readouterr()
    assert invoke([*args, "--sheet", str(sheet)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["counts"] == {"only a": 1, "questions": 7, "answers of b to no question of the data": 1}
    expected = {"comparison"} if way else {"reward", "helpfulness", "logicality"}
    assert set(found["outcomes"]) == expected
    assert {(o["win"], o["tie"], o["loss"]) for o in found["outcomes"].values()} == {(7, 0, 0)}
    assert found["references"]["F1"]["a"]["value"] > found["references"]["F1"]["b"]["value"] == 0
    filled = sheet.read_text().replace(",\n", ",1\n").replace(",\r\n", ",1\r\n")
    sheet.write_text(filled)
    assert invoke([*args, "--people", str(sheet), "--people", str(sheet)]) == 0
    people = json.loads(capsys.readouterr().out)
    assert people["people"]["alpha"]["preferred"] in (1, None)
    assert judge_server.books.repeated == 0
    assert people["outcomes"]["people"]["win"] + people["outcomes"]["people"]["loss"] == 7
