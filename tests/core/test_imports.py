"""Listing commands and plugins must cost nothing: checked in a fresh interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

HEAVY = {
    "torch", "transformers", "openai", "vllm", "pydantic", "structlog", "numpy", "yaml", "qdrant_client", "rich",
    "aiohttp", "asyncio", "difflib", "pyarrow", "sqlite3",
}  # fmt: skip
OURS = {
    "--help": {
        "lrf",
        "lrf.cli",
        "lrf.cli.main",
        "lrf.cli.output",
        "lrf.errors",
        "lrf.plugin",
        "lrf.plugin.suggest",
        "lrf.reasons",
        "lrf.text",
        "lrf.text.redaction",
    }
}
OURS["--help"] |= {"lrf.plugin.catalog", "lrf.plugin.hookspecs", "lrf.plugin.loader", "lrf.plugin.spec"}
OURS["plugins"] = OURS["--help"] | {"lrf.cli.common_options", "lrf.cli.plugins"}
SCRIPT = """
import json, sys
from lrf.cli.main import invoke
code = invoke(sys.argv[1:])
print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)
"""


def fresh(code: str, *args: str, **environ: str) -> tuple[str, str]:
    """stdout and the last line of stderr of a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, env=os.environ | environ, check=True
    )
    return done.stdout, done.stderr.splitlines()[-1] if done.stderr else ""


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["plugins"], ["plugins", "--json"], ["nonsense"]])
def test_the_light_commands_import_nothing_heavy(args: list[str]) -> None:
    _, last = fresh(SCRIPT, *args)
    code, modules = json.loads(last)
    assert code == (2 if args == ["nonsense"] else 0)
    assert HEAVY & set(modules) <= ({"difflib"} if args == ["nonsense"] else set())


@pytest.mark.parametrize("command", OURS)
def test_the_lists_of_commands_and_plugins_import_only_what_they_need_of_lrf(command: str) -> None:
    _, last = fresh(SCRIPT, command)
    assert {m for m in json.loads(last)[1] if m.split(".")[0] == "lrf"} == OURS[command]


@pytest.mark.parametrize("command", OURS)
def test_the_lists_of_commands_and_plugins_import_no_component(command: str) -> None:
    _, last = fresh(SCRIPT, command)
    plugins = {m for m in json.loads(last)[1] if m.startswith("lrf_")}
    assert {m for m in plugins if m.partition(".")[2] not in ("", "plugin")} == set()


def test_importing_lrf_imports_none_of_it() -> None:
    out, _ = fresh("import sys, lrf; print(sorted(m for m in sys.modules if m.startswith('lrf')))")
    assert out.strip() == "['lrf']"


def test_a_hook_and_a_spec_come_without_pydantic() -> None:
    out, _ = fresh("import sys; from lrf import hookimpl, ComponentSpec; print('pydantic' in sys.modules)")
    assert out.strip() == "False"


def test_lrf_starts_with_every_plugin_disabled() -> None:
    out, last = fresh(SCRIPT, "plugins", LRF_DISABLE_PLUGINS="*")
    assert json.loads(last)[0] == 0
    assert "No components are installed." in out
