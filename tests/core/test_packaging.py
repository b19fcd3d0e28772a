"""pyproject.toml, the folders on disk and the installed package agree; the layers and the house rules hold."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

from import_contracts import internal_modules, packages_of
from lrf.cli.doctor import EXTRAS

ROOT = Path(__file__).parents[2]


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_installed_entry_points_are_those_of_pyproject() -> None:
    declared = pyproject()["project"]
    installed = metadata.distribution("lrf").entry_points
    assert {e.name: e.value for e in installed.select(group="lrf")} == declared["entry-points"]["lrf"]
    assert {e.name: e.value for e in installed.select(group="console_scripts")} == declared["scripts"]


def test_every_package_on_disk_is_in_the_wheel_and_checked_by_mypy_and_import_linter() -> None:
    folders = ("core", "plugins", "trainers")
    on_disk = {str(init.parent.relative_to(ROOT)) for f in folders for init in (ROOT / f).glob("*/__init__.py")}
    tool = pyproject()["tool"]
    assert set(tool["hatch"]["build"]["targets"]["wheel"]["packages"]) == on_disk
    assert set(tool["mypy"]["files"]) == set(folders)
    assert set(tool["importlinter"]["root_packages"]) == {Path(path).name for path in on_disk}
    assert not any((ROOT / folder / "__init__.py").exists() for folder in folders)


def test_the_contracts_of_import_linter_concern_every_package_with_an_entry_point() -> None:
    roots = pyproject()["tool"]["importlinter"]["root_packages"]
    registered = {value.partition(".")[0] for value in pyproject()["project"]["entry-points"]["lrf"].values()}
    assert {*packages_of("plugins", roots), *packages_of("trainers", roots)} == registered
    assert set(roots) - registered == {"lrf", "lrf_training"}


def test_a_new_module_of_lrf_is_closed_to_plugins_until_it_is_listed() -> None:
    internal = set(internal_modules())
    assert {"lrf.api", "lrf.engine", "lrf.plugin.loader"} <= internal
    assert not internal & {"lrf.plugin", "lrf.types", "lrf.rows"}


def test_pyproject_names_a_built_in_plugin_three_times_at_most() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    text = re.sub(r'(?ms)^\[project.entry-points."vllm.general_plugins"\].*?^$', "", text)  # vLLM's own, not lrf's
    names = [value.partition(".")[0] for value in pyproject()["project"]["entry-points"]["lrf"].values()]
    assert {name: n for name in names if (n := len(re.findall(rf"\b{name}\b", text))) > 3} == {}


def test_every_built_in_plugin_loads() -> None:
    from lrf.plugin.loader import load_plugins

    assert [b for b in load_plugins({}).broken if b.distribution.startswith("lrf ")] == []


def test_every_extra_is_explained_by_the_doctor() -> None:
    assert set(EXTRAS) == set(pyproject()["project"]["optional-dependencies"])


def test_import_linter_keeps_every_contract() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_top_of_lrf_has_at_most_24_names() -> None:
    names = [p.name for p in (ROOT / "core" / "lrf").iterdir() if not p.name.startswith("__") and p.name != "py.typed"]
    assert len(names) <= 24, sorted(names)


def test_no_file_of_the_source_is_longer_than_400_lines() -> None:
    assert {path: n for path, text in sources().items() if (n := text.count("\n")) > 400} == {}


def test_the_source_says_is_none_at_most_30_times() -> None:
    assert sum(text.count("is none") for text in sources().values()) <= 30


def sources() -> dict[str, str]:
    """The text of every Python file of the source, by its path."""
    paths = (p for folder in ("core", "plugins", "trainers") for p in (ROOT / folder).rglob("*.py"))
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}
