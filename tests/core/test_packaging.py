"""What pyproject.toml says, what is on disk, and what is installed are the same."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

from lrf.cli.doctor import EXTRAS

ROOT = Path(__file__).parents[2]


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_installed_entry_points_are_those_of_pyproject() -> None:
    declared = pyproject()["project"]
    installed = metadata.distribution("lrf").entry_points
    assert {e.name: e.value for e in installed.select(group="lrf")} == declared["entry-points"]["lrf"]
    assert {e.name: e.value for e in installed.select(group="console_scripts")} == declared["scripts"]


def test_the_wheel_has_every_package_on_disk_and_no_other() -> None:
    on_disk = {
        str(init.parent.relative_to(ROOT))
        for folder in ("core", "plugins", "trainers")
        for init in (ROOT / folder).glob("*/__init__.py")
    }
    assert set(pyproject()["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == on_disk
    assert set(pyproject()["tool"]["mypy"]["packages"]) == {path.rpartition("/")[2] for path in on_disk}
    assert not any((ROOT / folder / "__init__.py").exists() for folder in ("core", "plugins", "trainers"))


def test_every_built_in_plugin_loads() -> None:
    from lrf.plugin.loader import load_plugins

    assert [b for b in load_plugins({}).broken if b.distribution.startswith("lrf ")] == []


def test_every_extra_is_explained_by_the_doctor() -> None:
    assert set(EXTRAS) == set(pyproject()["project"]["optional-dependencies"])


def test_the_layers_hold() -> None:
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
