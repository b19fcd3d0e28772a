"""import-linter's contracts with groups in their lists.

``<plugins>`` and ``<trainers>`` are the packages of those folders that register components, ``<internal>`` the modules
of lrf that plugins may not import. ``pyproject.toml`` names these classes as contract types, so that its contracts name
no plugin; tests/core/test_packaging.py compares the groups with the entry points.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.independence import IndependenceContract

import lrf
from lrf import _FOR_PLUGINS

ROOT = Path(__file__).parents[2]


def packages_of(group: str, root_packages: list[str]) -> list[str]:
    """The packages in the folder "plugins" or "trainers" that register components."""
    return [name for name in root_packages if (ROOT / group / name / "plugin.py").exists()]


def internal_modules(package: str = "lrf", folder: Path = Path(lrf.__path__[0])) -> Iterator[str]:
    """The largest parts of the package in which nothing is open to plugins."""
    for module in pkgutil.iter_modules([str(folder)], f"{package}."):
        if any(name.startswith(f"{module.name}.") for name in _FOR_PLUGINS):
            yield from internal_modules(module.name, folder / module.name.rpartition(".")[2])
        elif module.name not in _FOR_PLUGINS:
            yield module.name


def expanded(value: Any, root_packages: list[str]) -> Any:
    """A contract's option with each group in it replaced by its packages."""
    if not isinstance(value, list):
        return value
    groups = {f"<{group}>": packages_of(group, root_packages) for group in ("plugins", "trainers")}
    groups["<internal>"] = list(internal_modules())
    return [package for entry in value for package in groups.get(entry, [entry])]


class Forbidden(ForbiddenContract):
    """Sources that must not import what is forbidden, directly or indirectly."""

    def __init__(self, name: str, session_options: dict[str, Any], contract_options: dict[str, Any]) -> None:
        roots = session_options["root_packages"]
        super().__init__(name, session_options, {k: expanded(v, roots) for k, v in contract_options.items()})


class Independent(IndependenceContract):
    """Packages that must not import one another, directly or indirectly."""

    def __init__(self, name: str, session_options: dict[str, Any], contract_options: dict[str, Any]) -> None:
        roots = session_options["root_packages"]
        super().__init__(name, session_options, {k: expanded(v, roots) for k, v in contract_options.items()})
