"""A scoring engine for the library: of objects, of blocks, or of a pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrf.build import asking_of, build, check_ways, engine_of
from lrf.catalog import Catalog, load_catalog
from lrf.config.block import parse_block
from lrf.engine.embedding import EmbedCalls
from lrf.engine.engine import Engine, NamedDimension, judge_calls
from lrf.engine.ledger import Ledger
from lrf.engine.observers import Observers
from lrf.engine.panel import Asking
from lrf.errors import ConfigError
from lrf.store.journal import Journal
from lrf.store.shared import open_journal

if TYPE_CHECKING:
    from lrf.config import Pipeline

NEEDS = ("judge", "retriever", "embedder")


def _component(kind: str, given: Any, catalog: Catalog, **services: Any) -> tuple[Any, tuple[str, ...], str, Asking]:
    """(the object, the kinds it needs, its name, how it asks). An object is taken as it is, and may ask anyone."""
    if isinstance(given, str | Mapping):
        block = parse_block(kind, given, catalog)
        wanted = {name: service for name, service in services.items() if "embedder" in block.spec.needs}
        if "embedder" in block.spec.needs and not wanted:
            raise ConfigError(f"the {kind} {block.name!r} needs an embedder: RewardModel(…, embedder=…)")
        if block.keys.judges:
            raise ConfigError(f"the {kind} {block.name!r}: a panel (`judges`) needs a pipeline with several judges")
        return build(block, **wanted), block.spec.needs, block.name, asking_of(block)
    return given, NEEDS, str(getattr(given, "name", None) or type(given).__name__), Asking()


def assemble(
    judge: Any,
    dimensions: Sequence[Any],
    retriever: Any,
    embedder: Any,
    aggregator: Any,
    journal_path: Path | None,
) -> Engine:
    """The engine of :class:`lrf.RewardModel`'s parts. Raises :class:`lrf.errors.ConfigError`."""
    catalog = load_catalog()
    journal, ledger = Journal(journal_path), Ledger()
    observers = Observers(catalog.plugin_manager, lambda *_: None)
    try:
        judges = {} if judge is None else {"main": _component("judge", judge, catalog)[0]}
        services: dict[str, Any] = {}
        embedders: dict[str, EmbedCalls] = {}
        if embedder is not None:
            embedders["main"] = EmbedCalls("main", _component("embedder", embedder, catalog)[0], journal, ledger)
            services["embed"] = embedders["main"].embed
        retrievers = {}
        if retriever is not None:
            retrievers["main"] = _component("retriever", retriever, catalog, **services)[0]
        named = []
        for given in dimensions:
            made, needs, name, asking = _component("dimension", given, catalog)
            by_block = isinstance(given, str | Mapping)
            for kind, there in (("judge", judges), ("retriever", retrievers)):
                if by_block and kind in needs and not there:
                    raise ConfigError(f"the dimension {name!r} needs a {kind}: RewardModel({kind}=…)")
            asks = {kind: "main" if kind in needs and there else None
                    for kind, there in (("judge", judges), ("retriever", retrievers))}  # fmt: skip
            named.append(NamedDimension(name, made, asks["judge"], asks["retriever"], asking))
        names = [d.name for d in named]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"dimensions need different names, at least one: {names}; set `name`")
        check_ways(named, judges)
        return Engine(
            dimensions=named,
            judges=judge_calls(judges, journal, ledger, observers, seed=0),
            retrievers=retrievers,
            embedders=embedders,
            aggregator=_component("aggregator", aggregator, catalog)[0],
            journal=journal,
            ledger=ledger,
            observers=observers,
        )
    except BaseException:
        journal.close()
        observers.close()
        raise


def assemble_pipeline(pipeline: Pipeline, journal_path: Path | None = None) -> Engine:
    """The engine of a pipeline's scoring part."""
    if not pipeline.dimensions:
        raise ConfigError("the pipeline has no `dimensions:`, so there is nothing to score with")
    catalog = load_catalog()
    journal = open_journal(journal_path, pipeline.cache)
    observers = Observers(catalog.plugin_manager, lambda *_: None)
    try:
        return engine_of(pipeline, journal, observers)
    except BaseException:
        journal.close()
        observers.close()
        raise
