"""Tables, JSON and untrusted text as they are printed."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import pytest

from lrf.cli.output import clean, show_json, table


def test_a_table_in_a_pipe_is_aligned_whatever_the_width_of_its_letters(capsys) -> None:
    table(["name", "note"], [["全部", "x"], ["abcdef", "y"]])
    assert capsys.readouterr().out == "NAME    NOTE\n全部    x\nabcdef  y\n"


def test_text_that_could_steer_a_terminal_is_escaped() -> None:
    assert clean("a\x1b]0;b\u202e\nc") == "a\\x1b]0;b\\u202e\\nc"
    assert clean("a\nb", lines=True) == "a\nb"


@pytest.mark.parametrize("command", ["plugins", "plugins --json", "schema"])
def test_an_encoding_that_lacks_a_character_shows_its_escape(command: str) -> None:
    environ = {**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-m", "lrf", *command.split()], capture_output=True, env=environ, check=True)
    text = done.stdout.decode("latin-1")
    assert "\\u2026" in text
    if command != "plugins":
        assert "…" in json.dumps(json.loads(text), ensure_ascii=False)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_json_is_whole_and_no_terminal_obeys_it(monkeypatch, encoding: str) -> None:
    value = {"a": "é全\x1b[31m\x9b31m\u202e\U000e0041\n\x7f😀"}
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", out)
    show_json(value)
    out.flush()
    text = out.buffer.getvalue().decode(encoding)
    assert json.loads(text) == value
    assert all(c == "\n" or c.isprintable() for c in text)
    assert ("全" in text) == (encoding == "utf-8")
