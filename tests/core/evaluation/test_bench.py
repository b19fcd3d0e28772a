"""``lrf bench``: questions go through the engine, judgements become figures, and baselines show what is nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from judge_server import JudgeServer
from lrf.cli.main import invoke
from project import Project


def labelled(path: Path, n: int = 12, **changes: Any) -> Path:
    """Questions whose better answer names the right number; it is the longer one, and "a", in half of them."""
    rows = []
    for i in range(n):
        right, wrong = (
            f"It has {i} doors{' in all' if i % 2 else ''}.",
            f"It has {i + 50} doors{'' if i % 2 else ' in all'}.",
        )
        a, b = (right, wrong) if i % 3 else (wrong, right)
        rows.append({"id": f"q{i}", "query": f"How many doors has house {i}?", "context": f"House {i} has {i} doors.",
                     "answer_a": a, "answer_b": b, "preferred": "a" if i % 3 else "b", **changes})  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def knows_the_doors(prompt: str, _: float) -> str:
    """A judge that rates right numbers 9 and wrong ones 2, and prefers right answers; it reads the real material."""
    material = prompt[prompt.rindex("<question>") :]
    answers = re.findall(r"It has (\d+) doors", material)
    if "answer_a" in prompt:
        return f"Because. [[{'A' if int(answers[0]) < 50 else 'B'}]]"
    return f"Because. Rating: [[{9 if int(answers[-1]) < 50 else 2}]]"


@pytest.fixture
def pipeline(project: Project, judge_server: JudgeServer) -> str:
    judge_server.reply = knows_the_doors
    return str(project.write(project.pipeline(dimensions=["helpfulness"], pairs=None, data=None)))


def bench(*args: str, capsys: Any) -> dict[str, Any]:
    assert invoke(["bench", *args, "--json"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


@pytest.mark.parametrize("way", ["rewards", "--compare"])
def test_a_judge_that_knows_beats_every_baseline_and_a_second_run_pays_nothing(
    project: Project, pipeline: str, judge_server: JudgeServer, tmp_path: Path, capsys, way: str
) -> None:
    data = labelled(tmp_path / "d.jsonl", 24)
    args = ["pairs", "--data", str(data), "--pipeline", pipeline, "--runs", str(project.runs)]
    args += [way] if way.startswith("--") else []
    first = bench(*args, capsys=capsys)
    assert (first["accuracy"]["reward"]["value"], first["consistency"]) == (1.0, 100)
    assert first["not_better_than"] == {"reward": []}
    assert first["accuracy"]["longer wins"]["value"] == 0.5
    assert first["price"]["calls"] == judge_server.books.calls == 48
    folder = next(project.runs.iterdir())
    files = [(folder / name).read_bytes() for name in ("questions.jsonl", "rewards.jsonl")]
    again = bench(*args, capsys=capsys)
    assert judge_server.books.calls == 48
    assert again == first
    assert [(folder / name).read_bytes() for name in ("questions.jsonl", "rewards.jsonl")] == files


def test_a_plan_asks_nothing(
    project: Project, pipeline: str, judge_server: JudgeServer, tmp_path: Path, capsys
) -> None:
    data = labelled(tmp_path / "d.jsonl")
    planned = bench(
        "pairs", "--data", str(data), "-p", pipeline, "--plan", "--runs", str(project.runs), capsys=capsys
    )  # fmt: skip
    assert planned["total"]["calls"] == 24
    assert judge_server.books.calls == 0


def test_a_budget_ends_it_with_what_is_judged_and_without_it_it_goes_on(
    project: Project, pipeline: str, judge_server: JudgeServer, tmp_path: Path, capsys
) -> None:
    data = labelled(tmp_path / "d.jsonl")
    args = ["bench", "pairs", "--data", str(data), "-p", pipeline, "--runs", str(project.runs), "--json"]
    assert invoke([*args, "--budget", "calls=10"]) == 4
    stopped = json.loads(capsys.readouterr().out)
    assert judge_server.books.calls <= 10
    assert 0 < stopped["unjudged"]["reward"] < 12
    assert invoke(args) == 0
    assert json.loads(capsys.readouterr().out)["unjudged"]["reward"] == 0
    assert judge_server.books.repeated == 0


def test_unparsable_judgements_are_counted_and_neither_right_nor_wrong(
    project: Project, pipeline: str, judge_server: JudgeServer, tmp_path: Path, capsys
) -> None:
    judge_server.reply = lambda prompt, t: (
        "no idea" if re.search(r"house [67]\?", prompt) else knows_the_doors(prompt, t)
    )
    data = labelled(tmp_path / "d.jsonl", 8)
    found = bench("pairs", "--data", str(data), "-p", pipeline, "--runs", str(project.runs), capsys=capsys)
    assert found["unjudged"]["reward"] == 2
    assert (found["accuracy"]["reward"]["value"], found["judged"]) == (1.0, 75)
    assert [p.name for p in (project.runs / "run-bench-pairs/figures").iterdir()] == ["accuracy.png"]


NAMES = ("questions", "bad_rows", "duplicate_ids", "repeated_rows", "duplicate_texts")


def test_bad_rows_and_duplicates_are_named_and_a_limit_chooses_by_seed(tmp_path: Path, capsys) -> None:
    data = labelled(tmp_path / "d.jsonl")
    lines = data.read_text().splitlines()
    text = json.dumps({**json.loads(lines[0]), "id": "other"})
    data.write_text("\n".join([*lines, lines[3], lines[4].replace("q4", "q5"), text, '{"query": "?"}', "no json"]))
    rewards = tmp_path / "r.jsonl"
    rows = [{"sample_id": f"q{i}", "candidate_id": c, "reward": r} for i in range(12) for c, r in (("0", 5), ("1", 5))]
    rewards.write_text("".join(json.dumps(row) + "\n" for row in rows))
    args = ("pairs", "--data", str(data), "--recorded", str(rewards))
    found = bench(*args, capsys=capsys)
    assert {k: found["counts"][k] for k in NAMES} == {
        "questions": 14, "bad_rows": 2, "duplicate_ids": 1, "repeated_rows": 1, "duplicate_texts": 2,
    }  # fmt: skip
    assert "d.jsonl:16: preferred: missing, expected one of" in found["counts"]["problems"][0]
    assert (found["unjudged"]["reward"], found["ties"]) == (2, 100)
    limited = [bench(*args, "--limit", "5", "--seed", seed, capsys=capsys) for seed in ("1", "1", "2")]
    assert limited[0] == limited[1] != limited[2]
    assert limited[0]["counts"]["questions"] == 5


def test_a_benchmark_without_one_good_row_is_an_error_with_the_first_problems(tmp_path: Path, capsys) -> None:
    data = labelled(tmp_path / "d.jsonl", 2, preferred=None)
    (tmp_path / "r.jsonl").write_text('{"sample_id": "q0", "candidate_id": "0", "reward": 1}\n')
    assert invoke(["bench", "pairs", "--data", str(data), "--recorded", str(tmp_path / "r.jsonl")]) == 2
    assert "d.jsonl:1: preferred: null, expected one of 'a', 'b'" in capsys.readouterr().err


def test_each_dimension_is_measured_alone_and_the_others_without_it(tmp_path: Path, capsys) -> None:
    data = labelled(tmp_path / "d.jsonl", 6)
    good = {"a": ("0", "1"), "b": ("1", "0")}
    rows = [
        {"sample_id": row["id"], "candidate_id": c, "reward": 5, "ratings": {"sees": s, "blind": 5, "wrong": -s}}
        for row in map(json.loads, data.read_text().splitlines())
        for c, s in zip(good[row["preferred"]], (9, 1), strict=True)
    ]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = bench("pairs", "--data", str(data), "--recorded", str(tmp_path / "r.jsonl"), capsys=capsys)["accuracy"]
    assert {name: found[name]["value"] for name in ("only sees", "only wrong", "without wrong", "without sees")} == {
        "only sees": 1, "only wrong": 0, "without wrong": 1, "without sees": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (
            ["nonsense", "--data", "{data}", "--recorded", "{data}"],
            "unknown benchmark 'nonsense'; available: aggrefact",
        ),
        (["pairs", "--recorded", "{data}"], "--data: the benchmark's file is missing"),
        (["pairs", "--data", "{data}"], "expected either --pipeline"),
        (["pairs", "--data", "{data}", "--recorded", "{data}"], "no layout of recorded judgements is published"),
        (["pairs", "--data", "{data}", "--recorded", "{data}", "--set", "colour=red"], "its settings are path"),
        (["ratings", "--data", "{data}", "-p", "{data}", "--compare"], "more or fewer than two answers"),
        (["{data}.csv", "--run", "."], "there is no file"),
    ],
)
def test_a_mistake_in_the_command_is_named(tmp_path: Path, capsys, args: list[str], says: str) -> None:
    data = str(labelled(tmp_path / "d.jsonl"))
    assert invoke(["bench", *(arg.replace("{data}", data) for arg in args)]) == 2
    assert says in capsys.readouterr().err


def test_the_tables_can_be_had_as_markdown_that_no_name_breaks(tmp_path: Path, capsys) -> None:
    data = labelled(tmp_path / "d.jsonl", 4, group="a | b\n<script>")
    rows = [{"sample_id": f"q{i}", "candidate_id": str(c), "reward": c} for i in range(4) for c in (0, 1)]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out.md"
    args = ["bench", "pairs", "--data", str(data), "--recorded", str(tmp_path / "r.jsonl"), "--markdown", str(out)]
    assert invoke(args) == 0
    assert "| judged |" in out.read_text()
    assert "not better than these baselines" in capsys.readouterr().out


def test_a_question_that_the_recorded_outputs_lack_is_wrong_and_counted(tmp_path: Path, capsys) -> None:
    rows = [{"input": f"i{n}", "output_1": "x", "output_2": "y", "label": 1} for n in range(4)]
    (tmp_path / "d.json").write_text(json.dumps(rows))
    won = {"swap = False": {"winner": "1"}, "swap = True": {"winner": "1"}}
    (tmp_path / "r.json").write_text(json.dumps([{**row, "results": [won]} for row in rows[:2]]))
    found = bench("llmbar", "--data", str(tmp_path / "d.json"), "--recorded", str(tmp_path / "r.json"), capsys=capsys)
    assert (found["correct_average"], found["correct_both"], found["unjudged"]["recorded"]) == (50, 50, 2)
    assert found["kappa_agreement"] == 1


def test_figures_that_one_class_cannot_give_are_named(tmp_path: Path, capsys) -> None:
    rows = [{"dataset": "x", "doc": "d", "claim": f"c{n}", "label": 1} for n in range(6)]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rewards = [{"sample_id": str(n), "candidate_id": "0", "reward": 9} for n in range(6)]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rewards))
    figures = tmp_path / "figures"
    args = ["aggrefact", "--data", str(tmp_path / "d.jsonl"), "--recorded", str(tmp_path / "r.jsonl")]
    assert invoke(["bench", *args, "--figures", str(figures)]) == 0
    assert "a class, a subset or every judgement is missing: x, overall" in capsys.readouterr().out
    assert [p.name for p in figures.iterdir()] == ["accuracy.png"]
