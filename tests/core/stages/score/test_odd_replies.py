"""Runs against servers that refuse, break off, cut prompts, or can't be read: what becomes final, and what stops."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lrf.cli.main import invoke
from odd_server import OddServer, completion
from project import Project, sample_row

REFUSED = {"error": {"message": "Provider returned error", "code": 403, "metadata": {"raw": "PERMISSION_DENIED"}}}


@pytest.fixture
def server() -> Iterator[OddServer]:
    server = OddServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def odd_project(tmp_path: Path, server: OddServer, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setattr("lrf.engine.retries.backoff_s", lambda attempts: 0.0)
    project = Project(tmp_path, server.base_url)
    project.write_data(6)
    return project


def run(project: Project, **changes: object) -> int:
    file = project.write(project.pipeline(**{"dimensions": ["helpfulness"], **changes}))
    return invoke(["run", str(file), "--runs", str(project.runs)])


def unscored(project: Project) -> list[dict[str, str]]:
    return [row["unscored"] for row in project.lines("rewards.jsonl") if row["unscored"]]


@pytest.mark.parametrize("number", [0, 3, 5])
def test_a_refused_sample_fails_alone_wherever_it_is_in_the_data(
    odd_project: Project, server: OddServer, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    query = sample_row(number)["query"]
    server.odd = lambda prompt: (403, REFUSED) if query in prompt else None
    assert run(odd_project) == 3
    reasons = unscored(odd_project)
    assert [reason["reason"] for reason in reasons] == ["judge_rejected"] * 5
    assert "status 403: Provider returned error: PERMISSION_DENIED" in reasons[0]["detail"]
    said = capsys.readouterr().err
    assert f"of sample sample-{number}" in said
    assert "API_KEY" not in said
    server.odd = lambda _: None
    assert run(odd_project) == 0  # the same command asks again
    assert not unscored(odd_project)


def test_a_server_that_refuses_everything_stops_the_run_with_its_words_and_the_setting(
    odd_project: Project, server: OddServer, capsys: pytest.CaptureFixture[str]
) -> None:
    odd_project.write_data(60)
    error = {"message": "parameter.enable_thinking must be set to false", "code": "invalid_parameter_error"}
    server.odd = lambda _: (400, {"error": error})
    assert run(odd_project) == 2
    assert server.odd_calls <= 30  # of five samples, and those that were in flight
    said = capsys.readouterr().err
    assert "judges.main refuses all requests" in said
    assert "enable_thinking must be set to false; check `extra_body`" in said
    server.odd = lambda _: None
    assert run(odd_project) == 0
    assert not unscored(odd_project)


def test_a_budget_holds_although_no_reply_can_be_read(odd_project: Project, server: OddServer) -> None:
    usage = {"prompt_tokens": 4241, "completion_tokens": 512}
    server.odd = lambda _: (200, {"choices": [], "usage": usage})
    assert run(odd_project, budget={"calls": 3}) == 4
    assert server.odd_calls == 3
    assert run(odd_project, budget={"calls": 3}) == 4
    assert server.odd_calls == 3
    score = json.loads((odd_project.run_dir / "summary.json").read_text())
    assert "budget of 3 calls" in json.dumps(score)


def test_a_reply_that_broke_off_is_not_final(odd_project: Project, server: OddServer) -> None:
    server.odd = lambda _: (200, completion("It is on", "ERROR"))
    odd_project.write_data(1)
    assert run(odd_project) == 3
    assert {reason["reason"] for reason in unscored(odd_project)} == {"judge_unavailable"}
    server.odd = lambda _: None
    assert run(odd_project) == 0


def test_a_judge_that_can_not_be_read_stops_the_run_early(
    odd_project: Project, server: OddServer, capsys: pytest.CaptureFixture[str]
) -> None:
    odd_project.write_data(60)
    server.odd = lambda _: (200, completion("Fine.\nRating: 7"))
    assert run(odd_project) == 1
    assert server.odd_calls < 200
    said = capsys.readouterr().err
    assert "of the first 20 paid questions for a rating, 0 could be read" in said
    assert said.count('"Fine. Rating: 7"') == 3


def test_a_cut_prompt_leaves_the_candidate_unscored_and_raises_an_alarm(
    odd_project: Project, server: OddServer
) -> None:
    odd_project.write_data([{**sample_row(0), "query": "Which fee does contract 100 name? " * 600}])
    server.odd = lambda _: (200, completion("Rating: [[7]]"))
    assert run(odd_project) == 3
    assert {reason["reason"] for reason in unscored(odd_project)} == {"prompt_cut"}
    assert "counted 700 tokens" in unscored(odd_project)[0]["detail"]
    summary = (odd_project.run_dir / "summary.json").read_text()
    assert '"prompt_cut"' in summary


ENDS = {"fnord": 'ended with "fnord", which lrf does not know', None: "came without a reason", 7: 'ended with "7"'}


@pytest.mark.parametrize("word", ENDS)
def test_an_unknown_reason_of_a_replys_end_is_shown_by_every_later_run_too(
    odd_project: Project, server: OddServer, word: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    odd_project.write_data([sample_row(0)])
    server.odd = lambda _: (200, completion("Rating: [[7]]", word))
    assert run(odd_project) == 0
    assert f"alarm: judges.main: 5 replies {ENDS[word]}" in capsys.readouterr().out
    (odd_project.run_dir / "stages" / "score.json").unlink()
    server.odd = lambda _: (500, {})
    assert run(odd_project) == 0  # of the journal's replies
    alarms = json.loads((odd_project.run_dir / "summary.json").read_text())["alarms"]
    assert [(alarm["alarm"], alarm["of"]) for alarm in alarms if alarm["alarm"] == "unknown_finish"] == [
        ("unknown_finish", 5)
    ]


def test_doctor_asks_each_server_once_and_says_what_works(
    odd_project: Project, server: OddServer, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(odd_project.write(odd_project.with_evidence()))
    assert invoke(["doctor", file]) == 0
    said = capsys.readouterr().out
    assert f"judges.main ({server.base_url}): works; model sim, no key (OPENAI_API_KEY is not set)" in said
    assert f"embedders.main ({server.base_url}): works" in said
    assert server.books.calls == 1
    server.odd = lambda _: (401, {"error": {"message": "Incorrect API key"}})
    assert invoke(["doctor", file, "--json"]) == 1
    checks = json.loads(capsys.readouterr().out)["servers"]
    assert [bool(check["error"]) for check in checks] == [True, False]
    assert "status 401: Incorrect API key" in checks[0]["error"]
