"""The group of commands: help, version, exit codes and messages of errors."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

import lrf
from lrf.cli import main as cli_main
from lrf.cli.main import invoke
from lrf.errors import BudgetError, ConfigError, GateError, LrfError, RunInterruptedError


def test_the_help_lists_every_command_with_its_summary(capsys) -> None:
    assert invoke(["--help"]) == 0
    out = capsys.readouterr().out
    for name, summary in cli_main.COMMANDS.items():
        assert name in out
        assert summary in out


def test_the_version_is_that_of_the_distribution(capsys) -> None:
    assert invoke(["--version"]) == 0
    assert capsys.readouterr().out == f"lrf {lrf.__version__}\n"


def test_an_unknown_command_names_the_near_match(capsys) -> None:
    assert invoke(["plugns"]) == 2
    assert "did you mean plugins?" in capsys.readouterr().err


def test_python_m_lrf_is_the_same_program() -> None:
    done = subprocess.run([sys.executable, "-m", "lrf", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"lrf {lrf.__version__}\n"


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (ConfigError("no"), 2),
        (GateError("no"), 3),
        (BudgetError("no"), 4),
        (RunInterruptedError("no"), 130),
        (LrfError("no"), 1),
        (KeyboardInterrupt(), 130),
        (click.UsageError("no"), 2),
        (click.FileError("x"), 2),
        (click.exceptions.Exit(3), 3),
        (PermissionError(13, "no"), 1),
    ],
)
def test_an_error_becomes_its_exit_code_without_a_traceback(monkeypatch, capsys, raised, code: int) -> None:
    @click.command()
    def doctor() -> None:
        raise raised

    monkeypatch.setattr(cli_main.LazyGroup, "get_command", lambda *_: doctor)
    assert invoke(["doctor"]) == code
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "shown"),
    [
        (ConfigError("first\nsecond \x1b[31mred"), "lrf: first\nsecond \\x1b[31mred\n"),
        (OSError(28, "No space left on device", "a\x1bb"), "lrf: a\\x1bb: No space left on device\n"),
    ],
)
def test_an_error_is_shown_without_what_could_steer_a_terminal(monkeypatch, capsys, raised, shown: str) -> None:
    @click.command()
    def doctor() -> None:
        raise raised

    monkeypatch.setattr(cli_main.LazyGroup, "get_command", lambda *_: doctor)
    invoke(["doctor"])
    assert capsys.readouterr().err == shown


def test_a_reader_that_goes_away_is_no_error_to_see() -> None:
    command = f'"{sys.executable}" -m lrf plugins --json | head -c 1'
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stderr == ""
