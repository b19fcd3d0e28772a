"""What every stage is given: the pipeline, the run's directory, its log, and where progress goes."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from lrf.config.model import RateKeys
from lrf.engine.observers import Observers
from lrf.engine.rescoring import RescoringRounds
from lrf.errors import LrfError
from lrf.stages.run_dir import RunDir, fingerprint, path_fingerprint
from lrf.stages.score.rescore import rounds_of
from lrf.types import JSON

if TYPE_CHECKING:
    from lrf.config import Block, Pipeline
    from lrf.plugin.catalog import Catalog

Report = Callable[[Mapping[str, JSON]], None]
"""Progress goes through this: ``{"stage": …, "done": …, "of": …, …}``."""


@dataclass(slots=True)
class StageContext:
    """A run as one stage sees it. ``stop`` holds the first reason to drain, set from a signal or a budget.

    Whoever makes it closes its ``observers``, the same ones for all stages of a process.
    """

    pipeline: Pipeline
    catalog: Catalog
    run_dir: RunDir
    log: Any
    report: Report
    on_stop: list[Callable[[LrfError], None]] = field(default_factory=list)
    stop: LrfError | None = None
    observers: Observers = field(init=False)

    def __post_init__(self) -> None:
        self.observers = Observers(
            self.catalog.plugin_manager,
            lambda plugin, reason: self.log.warning("observer detached", plugin=plugin, reason=reason),
        )

    def drain(self, reason: LrfError) -> None:
        """Ask the running stage to finish what is in flight and end. The first reason counts."""
        self.stop = self.stop or reason
        for callback in self.on_stop:
            callback(self.stop)

    def sample_fingerprint(self, data: str) -> str:
        p = self.pipeline
        assert p.sample is not None
        keys = p.sample.generation.model_dump(mode="json", exclude=set(RateKeys.model_fields))
        return fingerprint("sample", data, p.seed, self._block(p.sample), keys, p.policy.prompt_template)

    def score_fingerprint(self, data: str) -> str:
        p = self.pipeline
        judges = {name: p.judges[name] for name in sorted({name for d in p.dimensions for name in d.judges})}
        retrievers = {
            name: p.retrievers[name]
            for name in sorted({d.needs["retriever"] for d in p.dimensions if "retriever" in d.needs})
        }
        embedders = {
            name: p.embedders[name]
            for name in sorted({r.needs["embedder"] for r in retrievers.values() if "embedder" in r.needs})
        }
        blocks = [*judges.items(), *retrievers.items(), *embedders.items()]  # often all of one name: main
        return fingerprint(
            "score",
            data,
            p.seed,
            [[*self._block(d), d.keys.model_dump(mode="json")] for d in p.dimensions],
            self._block(p.aggregator) if p.aggregator else None,
            {f"{b.kind} {name}": self._block(b) for name, b in blocks},
            *([asdict(rounds)] if (rounds := rounds_of(self.run_dir)) != RescoringRounds() else []),
        )

    def pairs_fingerprint(self, data: str, rewards: str | None) -> str:
        assert self.pipeline.pairs is not None
        block, template = self._block(self.pipeline.pairs), self.pipeline.policy.prompt_template
        return fingerprint("pairs", data, rewards, block, template, self.pipeline.seed)

    def train_fingerprint(self, *files: str | None) -> str:
        assert self.pipeline.train is not None
        policy = self.pipeline.policy.model_dump(mode="json")
        weights = _weights(self.pipeline.policy.model)
        return fingerprint("train", *files, self._block(self.pipeline.train), policy, weights, self.pipeline.seed)

    def _block(self, block: Block) -> JSON:
        """What a component's part of the outcome depends on: its settings, its package, the files it names."""
        settings = block.settings.fingerprint_fields()
        reference = block.settings.model_reference
        files = {"model": _weights(reference.name if reference else None)}
        files |= {name: path_fingerprint(path) for name, path in _paths(block.settings)}
        return [block.name, block.type, dict(block.needs), settings, files, str(self.catalog.package_of(block.spec))]


def _weights(model: object) -> JSON:
    """Of a model that is a path, what changes when its checkpoint is made anew; None for a model's name."""
    return path_fingerprint(Path(model)) if isinstance(model, str) and Path(model).is_absolute() else None


def _paths(value: object, name: str = "") -> Iterator[tuple[str, Path]]:
    """The paths in settings, with where they stand: "chat_template", "sources.0.path"."""
    if isinstance(value, Path):
        yield name, value
        return
    parts: Iterable[tuple[object, object]] = ()
    if isinstance(value, BaseModel):
        parts = value
    elif isinstance(value, Mapping):
        parts = value.items()
    elif isinstance(value, tuple | list):
        parts = enumerate(value)
    for key, part in parts:
        yield from _paths(part, f"{name}.{key}".lstrip("."))


def installed_versions(names: tuple[str, ...]) -> dict[str, str]:
    """The versions of those distributions that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
