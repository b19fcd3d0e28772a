from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

import lrf
from lrf.cli import main as cli_main
from lrf.cli.output import clean, show_json, table
from lrf.config import load_pipeline
from lrf.errors import BudgetError, ConfigError, GateError, LrfError, RunInterruptedError
from lrf.plugin.catalog import load_catalog


@pytest.fixture(autouse=True)
def _fresh_catalog():
    load_catalog.cache_clear()
    yield
    load_catalog.cache_clear()


def test_the_help_lists_every_command_with_its_summary(capsys) -> None:
    assert cli_main.invoke(["--help"]) == 0
    out = capsys.readouterr().out
    for name, summary in cli_main.COMMANDS.items():
        assert name in out
        assert summary in out


def test_the_version_is_that_of_the_distribution(capsys) -> None:
    assert cli_main.invoke(["--version"]) == 0
    assert capsys.readouterr().out == f"lrf {lrf.__version__}\n"


def test_an_unknown_command_names_the_near_match(capsys) -> None:
    assert cli_main.invoke(["plugns"]) == 2
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
    assert cli_main.invoke(["doctor"]) == code
    assert "Traceback" not in capsys.readouterr().err


def test_an_error_shows_its_lines_but_no_terminal_commands(monkeypatch, capsys) -> None:
    @click.command()
    def doctor() -> None:
        raise ConfigError("first\nsecond \x1b[31mred")

    monkeypatch.setattr(cli_main.LazyGroup, "get_command", lambda *_: doctor)
    cli_main.invoke(["doctor"])
    assert capsys.readouterr().err == "lrf: first\nsecond \\x1b[31mred\n"


def test_a_reader_that_goes_away_is_no_error_to_see() -> None:
    command = f'"{sys.executable}" -m lrf plugins --json | head -c 1'
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stderr == ""


PLUGIN = """
    from lrf.plugin.hookspecs import hookimpl
    from lrf.plugin.spec import ComponentSpec

    @hookimpl
    def lrf_register_judges():
        return [ComponentSpec("oracle", "parts:Judge", "parts:Settings", "A [red]judge[/red]\\x1b[2J of 全部.")]
"""


def test_plugins_shows_components_broken_ones_and_conflicts(distribute, monkeypatch, capsys) -> None:
    monkeypatch.setenv("LRF_DISABLE_PLUGINS", "openai")
    distribute("acme-one", entry_points={"one": "acme_one"}, modules={"acme_one": PLUGIN})
    distribute("acme-two", entry_points={"two": "acme_two"}, modules={"acme_two": PLUGIN})
    distribute("acme-bad", entry_points={"bad": "acme_bad"}, modules={"acme_bad": "import missing_library"})
    assert cli_main.invoke(["plugins"]) == 0
    out = capsys.readouterr().out
    assert next(line.split()[:2] for line in out.splitlines() if "acme-one" in line) == ["judge", "oracle"]
    assert "A [red]judge[/red]\\x1b[2J of 全部." in out
    assert "\x1b" not in out
    assert "missing_library" in out
    assert "the judge 'oracle' is registered by acme-one 1.0 (plugin 'one') and acme-two 1.0 (plugin 'two')" in out
    assert "Disabled by LRF_DISABLE_PLUGINS: openai" in out


def test_plugins_as_json_carries_the_same(distribute, monkeypatch, capsys) -> None:
    monkeypatch.setenv("LRF_DISABLE_PLUGINS", "openai")
    distribute("acme-one", entry_points={"one": "acme_one"}, modules={"acme_one": PLUGIN})
    distribute("acme-bad", entry_points={"bad": "acme_bad"}, modules={"acme_bad": "import missing_library"})
    assert cli_main.invoke(["plugins", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    (oracle,) = [c for c in listed["components"] if c["name"] == "oracle"]
    assert (oracle["kind"], oracle["package"], oracle["version"], oracle["plugin"]) == (
        "judge",
        "acme-one",
        "1.0",
        "one",
    )
    assert "bad" in [b["plugin"] for b in listed["broken"]]
    assert listed["disabled"] == ["openai"]


def test_a_table_in_a_pipe_is_aligned_whatever_the_width_of_its_letters(capsys) -> None:
    table(["name", "note"], [["全部", "x"], ["abcdef", "y"]])
    assert capsys.readouterr().out == "NAME    NOTE\n全部    x\nabcdef  y\n"


def test_text_that_could_steer_a_terminal_is_escaped() -> None:
    assert clean("a\x1b]0;b\u202e\nc") == "a\\x1b]0;b\\u202e\\nc"
    assert clean("a\nb", lines=True) == "a\nb"


def test_what_the_system_refuses_is_told_with_its_file(monkeypatch, capsys) -> None:
    @click.command()
    def doctor() -> None:
        raise OSError(28, "No space left on device", "a\x1bb")

    monkeypatch.setattr(cli_main.LazyGroup, "get_command", lambda *_: doctor)
    assert cli_main.invoke(["doctor"]) == 1
    assert capsys.readouterr().err == "lrf: a\\x1bb: No space left on device\n"


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


def _score(tmp_path: Path, *what: str) -> int:
    (tmp_path / "document.txt").write_text("The bridge is of steel.", encoding="utf-8-sig")
    (tmp_path / "pipeline.yaml").write_text("name: n\n")
    return cli_main.invoke(
        ["score", "-p", str(tmp_path / "pipeline.yaml"), "-d", str(tmp_path / "document.txt"), *what]
    )


@pytest.mark.parametrize("length", [10, 300, 5000])
def test_an_answer_is_taken_as_it_is_however_long(tmp_path: Path, capsys, length: int) -> None:
    assert _score(tmp_path, "-q", "why", "-a", "a" * length) == 2
    assert "the pipeline has no `dimensions:`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "why"), [("a\udcff", "--answer: holds the lone surrogate U+DCFF"), (" ", "--answer is empty")]
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


def test_init_writes_a_pipeline_that_is_right(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli_main.invoke(["init"]) == 0
    pipeline = load_pipeline(tmp_path / "pipeline.yaml", load_catalog())
    assert [d.name for d in pipeline.dimensions] == ["helpfulness", "logicality", "faithfulness", "completeness"]
    text = (tmp_path / "pipeline.yaml").read_text(encoding="utf-8")
    with_training = text.replace("# policy:", "policy:").replace("#   model:", "  model:")
    with_training = with_training.replace("# train:", "train:").replace("#   type: dpo", "  type: dpo")
    (tmp_path / "trained.yaml").write_text(with_training.replace("# sample: {", "sample: {"), encoding="utf-8")
    whole = load_pipeline(tmp_path / "trained.yaml", load_catalog())
    assert whole.train is not None
    assert whole.sample is not None


def test_init_writes_over_nothing_unless_it_is_told_to(tmp_path: Path, capsys) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("mine")
    assert cli_main.invoke(["init", str(file)]) == 2
    assert "is there already; --force writes over it" in capsys.readouterr().err
    assert file.read_text() == "mine"
    assert cli_main.invoke(["init", str(file), "--force"]) == 0
    assert file.read_text(encoding="utf-8").startswith("# A pipeline of lrf")
    assert cli_main.invoke(["init", str(tmp_path / "no" / "folder.yaml")]) == 2


def test_schema_prints_and_writes_the_same_json(tmp_path: Path, capsys) -> None:
    assert cli_main.invoke(["schema"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert cli_main.invoke(["schema", "--output", str(tmp_path / "s.json")]) == 0
    assert json.loads((tmp_path / "s.json").read_text(encoding="utf-8")) == printed
    assert printed["$schema"].endswith("2020-12/schema")
    assert cli_main.invoke(["schema", "-o", str(tmp_path / "no" / "s.json")]) == 2


def test_doctor_tells_what_is_installed_without_importing_it() -> None:
    code = (
        "import sys; from lrf.cli.main import invoke; invoke(['doctor', '--json']); "
        "print(sorted({'torch', 'transformers', 'pydantic'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
    report = json.loads(done.stdout)
    assert report["lrf"] == lrf.__version__
    extras = {e["extra"]: e for e in report["extras"]}
    torch = next(p for p in extras["lrf[transformers]"]["packages"] if p["name"] == "torch")
    assert torch["installed"] == report["accelerator"]["torch"]
    assert "transformers causal language model" in extras["lrf[transformers]"]["adds"]


def test_doctor_tells_of_a_missing_extra_of_a_plugin_and_how_to_add_it(distribute, capsys) -> None:
    plugin = PLUGIN.replace('.")]', '.", extra="gpu", distribution="acme-gpu")]')
    distribute(
        "acme-gpu",
        entry_points={"acme": "acme_gpu"},
        modules={"acme_gpu": plugin},
        metadata="Provides-Extra: gpu\nRequires-Dist: no-such-library[x]>=2 ; extra == 'gpu'\n",
    )
    assert cli_main.invoke(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "missing no-such-library" in out
    assert "judge oracle" in out
    assert "To add acme-gpu[gpu]: pip install 'acme-gpu[gpu]'" in out


def test_doctor_still_speaks_when_two_plugins_share_a_name(distribute, capsys) -> None:
    distribute("acme-one", entry_points={"same": "acme_one"}, modules={"acme_one": PLUGIN})
    distribute("acme-two", entry_points={"same": "acme_two"}, modules={"acme_two": PLUGIN})
    assert cli_main.invoke(["plugins"]) == 2
    assert "acme-one 1.0" in capsys.readouterr().err
    assert cli_main.invoke(["doctor"]) == 0
    assert "two plugins are named 'same'" in capsys.readouterr().out
