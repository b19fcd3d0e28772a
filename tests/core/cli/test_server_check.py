"""``lrf doctor --pipeline``: each server asked once, in this process."""

from __future__ import annotations

from typing import Any

import pytest

from judge_server import JudgeServer
from lrf.cli import server_check
from lrf.cli.server_check import check_servers
from project import Project


def sentences(project: Project, **changes: Any) -> list[str]:
    return [check.sentence() for check in check_servers(project.write(project.with_evidence(**changes)))]


def test_servers_that_work_are_shown_with_model_key_and_speed(project: Project, judge_server: JudgeServer) -> None:
    sampler = {"type": "openai", "base_url": project.base_url, "model": "sim", "api_key_env": None}
    judge, embedder, sample = sentences(project, sample=sampler)
    assert judge.startswith(f"judges.main ({project.base_url}): works; model sim, no key (OPENAI_API_KEY is not set), ")
    assert "tokens/s" in judge
    assert embedder.startswith("embedders.main (")
    assert "works; model emb" in embedder
    assert "no key (`api_key_env: null`)" in sample


@pytest.mark.parametrize(
    ("fault", "says"),
    [("401", "status 401"), ("hang", "no reply within 0.3 s"), ("html", "FAILED: ")],
)
def test_a_server_that_does_not_work_is_shown_with_the_reason(
    project: Project, judge_server: JudgeServer, monkeypatch: pytest.MonkeyPatch, fault: str, says: str
) -> None:
    monkeypatch.setattr(server_check, "DEADLINE_S", 0.3 if fault == "hang" else 60.0)
    judge_server.fault(fault, None)
    (judge, *_) = sentences(project)
    assert "FAILED: " in judge
    assert says in judge


def test_what_loads_a_model_here_is_not_asked(project: Project, judge_server: JudgeServer) -> None:
    local = {"type": "transformers", "model": "nobody/nothing"}
    (judge, *_) = sentences(project, judges={"main": local})
    assert judge == "judges.main (in this process): not asked (it loads its model in this machine's memory)"


def test_a_judge_that_only_gives_verdicts_is_asked_for_one(project: Project, judge_server: JudgeServer) -> None:
    (judge, *_) = sentences(
        project,
        judges={"main": {"type": "overlap"}},
        dimensions=[{"type": "faithfulness", "statements": "sentences"}],
    )
    assert judge.startswith("judges.main (in this process): works; model overlap, ")
