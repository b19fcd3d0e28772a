"""`lrf score`: its texts, and what it shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from judge_server import JudgeServer
from lrf.cli.main import invoke
from project import Project


def _score(tmp_path: Path, *what: str) -> int:
    (tmp_path / "document.txt").write_text("The bridge is of steel.", encoding="utf-8-sig")
    (tmp_path / "pipeline.yaml").write_text("name: n\n")
    return invoke(["score", "-p", str(tmp_path / "pipeline.yaml"), "-d", str(tmp_path / "document.txt"), *what])


@pytest.mark.parametrize("length", [10, 300, 5000])
def test_an_answer_is_taken_as_it_is_however_long(tmp_path: Path, capsys, length: int) -> None:
    assert _score(tmp_path, "-q", "why", "-a", "a" * length) == 2
    assert "the pipeline has no `dimensions:`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "why"), [("a\udcff", "--answer: contains the lone surrogate U+DCFF"), (" ", "--answer is empty")]
)
def test_a_text_that_no_file_can_hold_is_no_answer(tmp_path: Path, capsys, answer: str, why: str) -> None:
    assert _score(tmp_path, "-q", "why", "-a", answer) == 2
    assert why in capsys.readouterr().err


def test_a_document_is_a_file_of_text(tmp_path: Path, capsys) -> None:
    (tmp_path / "nul").write_bytes(b"a\0")
    (tmp_path / "latin").write_bytes(b"\xff")
    for name, why in (("nul", "NUL character"), ("latin", "as UTF-8 text"), ("d" * 300, "there is no file")):
        assert _score(tmp_path, "-q", "why", "-a", "a", "-d", str(tmp_path / name)) == 2
        assert why in capsys.readouterr().err


def test_what_an_unreadable_judge_wrote_is_shown_for_each_dimension(
    project: Project, judge_server: JudgeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    judge_server.fault("garbage", times=None)
    texts = ["-d", str(project.data), "-q", "why", "-a", "because"]
    assert invoke(["score", "-p", str(project.write(project.pipeline())), *texts]) == 3
    out = capsys.readouterr().out
    for name in ("helpfulness", "logicality"):
        assert f"  {name}: no_rating: " in out
    assert out.count("the last reply: \"I'm sorry, I can't rate this.\"") == 2
