"""A scoring engine for the library: of objects, of blocks, or of a pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lrf.build import asking_of, build, check_reply_modes, engine_of, rates_of
from lrf.config.block import parse_block
from lrf.config.model import needed_kinds
from lrf.engine.budget import BudgetLedger
from lrf.engine.embedder_calls import EmbedderCalls
from lrf.engine.engine import Engine, NamedDimension, judge_calls
from lrf.engine.observers import Observers
from lrf.engine.panel import PanelSettings
from lrf.engine.rate_limits import RateLimits
from lrf.errors import ConfigError
from lrf.plugin.catalog import Catalog, load_catalog
from lrf.store.cache import open_journal
from lrf.store.journal import Journal

if TYPE_CHECKING:
    from lrf.config import Pipeline

NEEDS = ("judge", "retriever", "embedder")


class _Part(NamedTuple):
    """A component, the kinds it needs, its name, how it asks, and what it may be sent a minute."""

    made: Any
    needs: tuple[str, ...]
    name: str
    asking: PanelSettings = PanelSettings()
    rates: RateLimits | None = None


def _component(kind: str, given: Any, catalog: Catalog, **services: Any) -> _Part:
    """The component of a block, or an object as it is, which may ask anyone."""
    if isinstance(given, str | Mapping):
        block = parse_block(kind, given, catalog)
        kinds = needed_kinds(block.spec, block.settings)
        wanted = services if "embedder" in kinds else {}
        if "embedder" in kinds and not wanted:
            raise ConfigError(f"the {kind} {block.name!r} needs an embedder: RewardModel(…, embedder=…)")
        if block.keys.judges:
            raise ConfigError(f"the {kind} {block.name!r}: a panel (`judges`) needs a pipeline with several judges")
        return _Part(build(block, **wanted), kinds, block.name, asking_of(block), rates_of(block))
    return _Part(given, NEEDS, str(getattr(given, "name", None) or type(given).__name__))


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
    journal, ledger = Journal(journal_path), BudgetLedger()
    observers = Observers(catalog.plugin_manager, lambda *_: None)
    try:
        asked = {} if judge is None else {"main": _component("judge", judge, catalog)}
        judges = {name: part.made for name, part in asked.items()}
        services: dict[str, Any] = {}
        embedders: dict[str, EmbedderCalls] = {}
        if embedder is not None:
            part = _component("embedder", embedder, catalog)
            embedders["main"] = EmbedderCalls("main", part.made, journal, ledger, part.rates)
            services["embed"] = embedders["main"].embed
        retrievers = {}
        if retriever is not None:
            retrievers["main"] = _component("retriever", retriever, catalog, **services).made
        named = []
        for given in dimensions:
            made, needs, name, asking, _ = _component("dimension", given, catalog)
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
        check_reply_modes(named, judges)
        return Engine(
            dimensions=named,
            judges=judge_calls(
                judges, journal, ledger, observers, seed=0, rates={name: part.rates for name, part in asked.items()}
            ),
            retrievers=retrievers,
            embedders=embedders,
            aggregator=_component("aggregator", aggregator, catalog).made,
            journal=journal,
            ledger=ledger,
            observers=observers,
        )
    except BaseException:
        journal.close()
        observers.close()
        raise


def assemble_pipeline(pipeline: Pipeline) -> Engine:
    """The engine of a pipeline's scoring part, with a journal in memory. Raises :class:`lrf.errors.ConfigError`."""
    if not pipeline.dimensions:
        raise ConfigError("the pipeline has no `dimensions:`, so there is nothing to score with")
    catalog = load_catalog()
    journal = open_journal(None, pipeline.cache)
    observers = Observers(catalog.plugin_manager, lambda *_: None)
    try:
        return engine_of(pipeline, journal, observers)
    except BaseException:
        journal.close()
        observers.close()
        raise
