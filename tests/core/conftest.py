"""Real distributions, made on the spot: a dist-info folder and modules on sys.path, found by importlib.metadata."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from lrf.plugin.catalog import Catalog
from lrf.plugin.loader import load_plugins

Distribute = Callable[..., Path]


@pytest.fixture
def distribute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Distribute]:
    """``distribute(name, version="1.0", entry_points={...}, modules={...}, metadata="")`` installs a distribution.

    Returns the folder, which is on sys.path until the test ends.
    """
    before = set(sys.modules)
    made: set[str] = set()

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
            assert module in made or importlib.util.find_spec(module) is None, f"{module} is somebody else's already"
            made.add(module)
            (site / f"{module}.py").write_text(textwrap.dedent(source))
        monkeypatch.syspath_prepend(str(site))
        return site

    yield install
    for module in set(sys.modules) - before:
        file = getattr(sys.modules[module], "__file__", None)
        if file and Path(file).is_relative_to(tmp_path):
            del sys.modules[module]


TOY = """
    from typing import Annotated, Literal

    from pydantic import AfterValidator, Field, ValidationInfo

    from lrf.settings import FilePath, Settings

    class Rows(Settings):
        path: FilePath = Field(description="Where the rows are.")

    class Limits(Settings):
        calls: int = Field(default=1, ge=1, le=9, description="Calls at once.")

    class Oracle(Settings):
        model: str = Field(description="Which oracle.")
        temperature: float = Field(default=0.0, ge=0, le=2, description="Heat.")
        style: Literal["verse", "prose"] = Field(default="prose", description="How it speaks.")
        limits: Limits = Field(default=Limits(), description="What it bears.")
        headers: dict[str, str] = Field(default_factory=dict, description="Sent along.")
        stop: list[str] | int | None = Field(default=None, description="Where it ends.")

    class Plain(Settings):
        size: int = Field(default=3, gt=0, description="Size.")

    def _known(weights: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        names = (info.context or {}).get("dimensions", weights)
        for name in weights:
            if name not in names:
                raise ValueError(f"no dimension is named {name}")
        return weights

    class Weights(Settings):
        weights: Annotated[dict[str, float], AfterValidator(_known)] = Field(description="By dimension.")

    class Fussy(Settings):
        word: Annotated[str, AfterValidator(lambda word: 1 / 0)] = Field(description="A word.")

    class Chatty(Settings):
        word: str = Field(description="A word.")
        copy_of_word: str = Field(default="", description="The word again.")

        def model_post_init(self, _):
            object.__setattr__(self, "copy_of_word", self.word + "!")
            if "bad" in self.word:
                raise ValueError(f"{self.word} is a bad word")
"""
TOY_PLUGIN = """
    from lrf.plugin.hookspecs import hookimpl
    from lrf.plugin.spec import ComponentSpec

    def spec(name, settings, *needs):
        target = f"toy_settings:{settings}"
        return ComponentSpec(name, target, target, f"The toy {name}.", needs=needs)

    @hookimpl
    def lrf_register_sources():
        return [spec("rows", "Rows")]

    @hookimpl
    def lrf_register_judges():
        return [spec("oracle", "Oracle"), spec("coin", "Plain"), spec("fussy", "Fussy"), spec("chatty", "Chatty")]

    @hookimpl
    def lrf_register_embedders():
        return [spec("letters", "Plain")]

    @hookimpl
    def lrf_register_retrievers():
        return [spec("finder", "Plain", "embedder"), spec("grep", "Plain")]

    @hookimpl
    def lrf_register_dimensions():
        return [spec("charm", "Plain", "judge"), spec("truth", "Plain", "judge", "retriever"), spec("length", "Plain")]

    @hookimpl
    def lrf_register_aggregators():
        return [spec("mean", "Plain"), spec("weighted", "Weights")]

    @hookimpl
    def lrf_register_samplers():
        return [spec("parrot", "Plain")]

    @hookimpl
    def lrf_register_pairings():
        return [spec("extremes", "Plain")]

    @hookimpl
    def lrf_register_trainers():
        return [spec("drill", "Plain")]
"""


@pytest.fixture
def toys(distribute: Distribute) -> Catalog:
    """A catalog of a few small components that come as a plugin of their own; the built-ins are left out."""
    distribute("toys", entry_points={"toys": "toy_plugin"}, modules={"toy_plugin": TOY_PLUGIN, "toy_settings": TOY})
    built_in = ",".join(e.name for e in importlib.metadata.distribution("lrf").entry_points.select(group="lrf"))
    catalog = Catalog(load_plugins({"LRF_DISABLE_PLUGINS": built_in}))
    assert catalog.broken == ()
    return catalog
