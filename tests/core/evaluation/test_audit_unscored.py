"""``lrf audit`` with a judge that can't be read: it says why, what helps, and that it failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from judge_server import JudgeServer
from lrf.cli.main import invoke
from project import Project

HANDBOOK = Path(__file__).parents[3] / "examples/quickstart/documents/archive-handbook.md"


def test_an_audit_in_which_nothing_is_scored_says_why_and_what_helps(
    project: Project, judge_server: JudgeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    judge_server.fault("garbage", times=None)
    pipeline = str(project.write(project.pipeline(dimensions=["helpfulness"], pairs=None, data=None)))
    args = ["audit", pipeline, "-d", str(HANDBOOK), "--runs", str(project.runs), "--limit", "1", "--no-probes"]
    assert invoke(args) == 3
    printed = capsys.readouterr()
    assert "8 of 8 answers have no score" in printed.err
    assert "what helps: " in printed.err
    assert "verdict" not in printed.out
