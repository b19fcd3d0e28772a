"""``lrf audit``: errors planted in the user's documents are asked about as in a run, within a budget, and resumed."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from judge_server import JudgeServer
from lrf.cli.main import invoke
from project import Project

DOCUMENTS = Path(__file__).parents[3] / "examples/quickstart/documents"


def reads_closely(prompt: str, _: float) -> str:
    """A judge that looks whether the answer's words stand in the document, in one piece."""
    material = prompt[prompt.rindex("<question>") :] if "<question>" in prompt else prompt
    if "answer_a" in prompt:
        return "Because. [[tie]]"
    if "<statement>" in prompt:
        return f"It is so that {prompt[prompt.index('<statement>') + 12 : prompt.index('</statement>') - 1]}"
    start, end = material.find("<answer>"), material.find("</answer>")
    answer = material[start + len("<answer>") : end].strip()
    sentences = [s.strip(" -\n") for s in answer.split(".") if s.strip(" -\n")]
    known = sum(s in KNOWN for s in sentences) / max(1, len(sentences))
    return f"Because. Rating: [[{round(10 * known)}]]"


KNOWN = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS.glob("*.md"))


@pytest.fixture
def pipeline(project: Project, judge_server: JudgeServer) -> str:
    judge_server.reply = reads_closely
    shutil.copytree(DOCUMENTS, project.folder / "documents")
    names = ("archive-handbook.md", "how-scoring-works.md")
    project.write_data([{"id": n, "context": {"path": f"documents/{n}"}, "query": "What?"} for n in names])
    return str(project.write(project.pipeline(dimensions=["helpfulness"], pairs=None)))


def test_an_audit_ends_with_tables_and_three_figures_and_a_second_one_pays_nothing(
    project: Project, pipeline: str, judge_server: JudgeServer, capsys
) -> None:
    markdown = project.folder / "audit.md"
    args = ["audit", pipeline, "--runs", str(project.runs), "--limit", "8", "--markdown", str(markdown)]
    args += ["--reword", "main"]
    assert invoke(args) == 0
    out = capsys.readouterr().out
    assert "verdict: balanced accuracy 0." in out
    assert {p.name for p in (project.runs / "run-audit/figures").iterdir()} == {
        "reliability.png", "accuracy.png", "length.png",
    }  # fmt: skip
    calls = judge_server.books.calls
    figures = [p.read_bytes() for p in sorted((project.runs / "run-audit/figures").iterdir())]
    assert invoke([*args, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert judge_server.books.calls == calls == result["price"]["calls"]
    assert figures == [p.read_bytes() for p in sorted((project.runs / "run-audit/figures").iterdir())]
    assert result["pairwise"]["value"] > 0.6  # it knows what stands there word for word
    assert result["probes"]["position"]["value"] == 0
    assert result["probes"]["own words"]["n"] == result["probes"]["verbosity"]["n"] >= 6
    assert set(result["by"]["form"]) == {"verbatim", "paraphrased", "reworded"}
    assert result == json.loads((project.runs / "run-audit/audit.json").read_text())
    assert set(result["judges"]) == {"reward", "overlap", "longer wins", "random", "always true"}
    assert "| single statements" not in markdown.read_text()
    assert "## single statements" in markdown.read_text()


def test_the_budget_holds_over_all_runs_of_an_audit(
    project: Project, pipeline: str, judge_server: JudgeServer, capsys
) -> None:
    args = ["audit", pipeline, "--runs", str(project.runs), "--limit", "3", "--noise", "2", "--json"]
    assert invoke([*args, "--budget", "calls=20"]) == 4
    assert judge_server.books.calls <= 20
    stopped = json.loads(capsys.readouterr().out)
    assert "the run was not finished, so nothing more was asked" in stopped["notes"]
    assert invoke([*args, "--budget", "calls=62"]) == 0
    assert judge_server.books.calls <= 62
    assert "not asked, since the budget is used up" in " ".join(json.loads(capsys.readouterr().out)["notes"])
    assert invoke(args) == 0
    finished = json.loads(capsys.readouterr().out)
    assert (finished["noise"]["value"], finished["noise"]["margin"], finished["flip_rate"]["value"]) == (0, 0, 0)


def test_a_plan_asks_nothing_and_an_audit_of_nothing_is_named(
    project: Project, pipeline: str, judge_server: JudgeServer, capsys
) -> None:
    assert invoke(["audit", pipeline, "--runs", str(project.runs), "--limit", "2", "--plan", "--json"]) == 0
    without = json.loads(capsys.readouterr().out)
    assert without["total"]["calls"] > 10
    more = ["--reword", "main", "--noise", "2"]
    assert invoke(["audit", pipeline, "--runs", str(project.runs), "--limit", "2", "--plan", "--json", *more]) == 0
    planned = {name: of["calls"] for name, of in json.loads(capsys.readouterr().out)["dimensions"].items()}
    main, rating = without["dimensions"]["helpfulness"]["calls"], "helpfulness"
    assert planned == {
        "reword: rewriting": 4, rating: main + 4, "compare: comparison": 4,
        f"again-1: {rating}": planned[f"again-2: {rating}"], f"again-2: {rating}": planned[f"again-1: {rating}"],
    }  # fmt: skip
    assert 0 < planned[f"again-1: {rating}"] < planned[rating]
    assert judge_server.books.calls == 0
    (project.folder / "empty.txt").write_text("Too short.")
    assert invoke(["audit", pipeline, "-d", str(project.folder / "empty.txt")]) == 2
    assert "no errors can be planted in these documents" in capsys.readouterr().err
    assert invoke(["audit", pipeline, "--lengths", "4k,long"]) == 2
    assert "--lengths: expected numbers of tokens" in capsys.readouterr().err
    assert invoke(["audit", pipeline, "--budget", "calls=none", "--limit", "1"]) == 2
    assert "--budget: expected money=N, calls=N or tokens=N" in capsys.readouterr().err
    assert invoke(["audit", pipeline, "--reword", "mian"]) == 2
    assert "--reword: the pipeline's judges are main; did you mean" in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_audit_continues_and_pays_for_nothing_twice(
    project: Project, pipeline: str, judge_server: JudgeServer
) -> None:
    judge_server.delay_s = 0.1
    args = ["audit", pipeline, "--runs", str(project.runs), "--limit", "6", "--json"]
    killed = subprocess.Popen([sys.executable, "-m", "lrf", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert judge_server.wait_for_calls(30)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    done = subprocess.run([sys.executable, "-m", "lrf", *args], capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    assert result["unscored"] == 0
    # asked again: calls in flight when it was killed, and those before them in the same slots, not yet committed
    assert judge_server.books.calls - result["price"]["calls"] <= 16
