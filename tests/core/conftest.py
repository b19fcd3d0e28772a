"""Real distributions, made on the spot: a dist-info folder and modules on sys.path, found by importlib.metadata."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

Distribute = Callable[..., Path]


@pytest.fixture
def distribute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Distribute]:
    """``distribute(name, version="1.0", entry_points={...}, modules={...}, metadata="")`` installs a distribution.

    Returns the folder, which is on sys.path until the test ends.
    """
    before = set(sys.modules)

    def install(
        name: str,
        version: str = "1.0",
        *,
        entry_points: Mapping[str, str] | None = None,
        modules: Mapping[str, str] | None = None,
        metadata: str = "",
    ) -> Path:
        site = tmp_path / f"site-{name}"
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}\n")
        lines = [f"{key} = {value}\n" for key, value in (entry_points or {}).items()]
        (info / "entry_points.txt").write_text("[lrf]\n" + "".join(lines))
        for module, source in (modules or {}).items():
            (site / f"{module}.py").write_text(textwrap.dedent(source))
        monkeypatch.syspath_prepend(str(site))
        return site

    yield install
    for module in set(sys.modules) - before:
        file = getattr(sys.modules[module], "__file__", None)
        if file and Path(file).is_relative_to(tmp_path):
            del sys.modules[module]
