"""Scoring engines: of a pipeline's components, or of the parts that :class:`lrf.RewardModel` is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lrf.build import (
    aggregator_of,
    budget_of,
    build,
    dimensions_of,
    embedders_of,
    executor_of,
    judges_of,
    observers_of,
    panel_of,
    prices_of,
    rates_of,
    retrievers_of,
)
from lrf.config.model import needed_kinds
from lrf.config.parser import parse_block
from lrf.engine.budget import BudgetLedger
from lrf.engine.embedder_calls import EmbedderCalls
from lrf.engine.engine import Engine, judge_calls
from lrf.engine.faults import log_fault
from lrf.engine.observers import Observers
from lrf.engine.panel import NamedDimension, PanelSettings
from lrf.engine.rate_limits import RateLimits
from lrf.engine.rescoring import RescoringRounds
from lrf.errors import ConfigError
from lrf.plugin.catalog import Catalog, load_catalog
from lrf.prompting.expectations import RATED_KINDS
from lrf.protocols import AsksKinds, Judge
from lrf.store.cache import open_journal
from lrf.store.files import dump
from lrf.store.journal import Journal

if TYPE_CHECKING:
    from lrf.config import Pipeline

Rates = Mapping[str, RateLimits | None]

_EVERY_KIND = ("judge", "retriever", "embedder")


def engine_of(
    pipeline: Pipeline, journal: Journal, observers: Observers, *, rounds: RescoringRounds | None = None
) -> Engine:
    """The scoring engine of a pipeline. Only judges, retrievers and embedders that a dimension needs are made.

    Raises :class:`lrf.errors.ConfigError` when a component refuses its settings, or when a judge can't be asked as a
    dimension wants it asked.
    """
    ledger = BudgetLedger(budget_of(pipeline))
    executor = executor_of(pipeline)
    judges = judges_of(pipeline, executor)
    embedders = {
        name: EmbedderCalls(name, embedder, journal, ledger, rates_of(pipeline.embedders[name]))
        for name, embedder in embedders_of(pipeline, executor).items()
    }
    dimensions = dimensions_of(pipeline)
    check_reply_modes(dimensions, judges)
    rates = {name: rates_of(pipeline.judges[name]) for name in judges}
    return Engine(
        dimensions=dimensions,
        judges=judge_calls(judges, journal, ledger, observers, pipeline.seed, prices_of(pipeline), rates),
        retrievers=retrievers_of(pipeline, {name: calls.embed for name, calls in embedders.items()}),
        embedders=embedders,
        aggregator=aggregator_of(pipeline),
        journal=journal,
        ledger=ledger,
        observers=observers,
        rounds=rounds or RescoringRounds(),
    )


def engine_in_memory(pipeline: Pipeline) -> Engine:
    """The scoring engine of a pipeline, with a journal in memory. Raises :class:`lrf.errors.ConfigError`."""
    if not pipeline.dimensions:
        raise ConfigError("the pipeline has no `dimensions:`, so there is nothing to score with")
    observers = observers_of(pipeline, load_catalog().plugin_manager)
    journal = open_journal(None, pipeline.cache)
    try:
        engine = engine_of(pipeline, journal, observers)
        engine.on_fault = log_fault
        return engine
    except BaseException:
        journal.close()
        observers.close()
        raise


def engine_of_parts(
    judge: Any,
    dimensions: Sequence[Any],
    retriever: Any,
    embedder: Any,
    aggregator: Any,
    journal_path: Path | None,
) -> Engine:
    """The engine of :class:`lrf.RewardModel`'s parts. Raises :class:`lrf.errors.ConfigError`."""
    catalog = load_catalog()
    journal, ledger = Journal(journal_path, shared=journal_path is not None), BudgetLedger()
    observers = Observers(catalog.plugin_manager, lambda *_: None)
    try:
        parts = {} if judge is None else {"main": _part("judge", judge, catalog)}
        judges = {name: part.component for name, part in parts.items()}
        embedders: dict[str, EmbedderCalls] = {}
        services: dict[str, Any] = {}
        if embedder is not None:
            part = _part("embedder", embedder, catalog)
            embedders["main"] = EmbedderCalls("main", part.component, journal, ledger, part.rates)
            services["embed"] = embedders["main"].embed
        retrievers = {} if retriever is None else {"main": _part("retriever", retriever, catalog, **services).component}
        named = [_named(given, catalog, {"judge": bool(judges), "retriever": bool(retrievers)}) for given in dimensions]
        names = [d.name for d in named]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"dimensions need different names, at least one: {names}; set `name`")
        check_reply_modes(named, judges)
        rates = {name: part.rates for name, part in parts.items()}
        return Engine(
            dimensions=named,
            judges=judge_calls(judges, journal, ledger, observers, seed=0, rates=rates),
            retrievers=retrievers,
            embedders=embedders,
            aggregator=_part("aggregator", aggregator, catalog).component,
            journal=journal,
            ledger=ledger,
            observers=observers,
            on_fault=log_fault,
        )
    except BaseException:
        journal.close()
        observers.close()
        raise


class _Part(NamedTuple):
    """A component with what its block says besides: the kinds it needs, its name, its panel, its rate limits."""

    component: Any
    needs: tuple[str, ...]
    name: str
    panel: PanelSettings = PanelSettings()
    rates: RateLimits | None = None


def _part(kind: str, given: Any, catalog: Catalog, **services: Any) -> _Part:
    """The component that a block describes, or the given object, which may ask components of every kind."""
    if not isinstance(given, str | Mapping):
        return _Part(given, _EVERY_KIND, str(getattr(given, "name", None) or type(given).__name__))
    block = parse_block(kind, given, catalog)
    needs = needed_kinds(block.spec, block.settings)
    wanted = services if "embedder" in needs else {}
    if "embedder" in needs and not wanted:
        raise ConfigError(f"the {kind} {block.name!r} needs an embedder: RewardModel(…, embedder=…)")
    for key in ("judges", "writer"):
        if getattr(block.keys, key):
            raise ConfigError(f"the {kind} {block.name!r}: `{key}` needs a pipeline with several judges")
    return _Part(build(block, **wanted), needs, block.name, panel_of(block), rates_of(block))


def _named(given: Any, catalog: Catalog, present: Mapping[str, bool]) -> NamedDimension:
    """A dimension of :class:`lrf.RewardModel`; ``present`` says for each kind whether there is a component."""
    part = _part("dimension", given, catalog)
    if isinstance(given, str | Mapping):
        for kind, there in present.items():
            if kind in part.needs and not there:
                raise ConfigError(f"the dimension {part.name!r} needs a {kind}: RewardModel({kind}=…)")
    asked = {kind: "main" if kind in part.needs and there else None for kind, there in present.items()}
    return NamedDimension(part.name, part.component, asked["judge"], asked["retriever"], part.panel)


def check_reply_modes(dimensions: Sequence[NamedDimension], judges: Mapping[str, Judge]) -> None:
    """Raises :class:`lrf.errors.ConfigError` when a judge can't be asked as wanted, or is twice in a panel."""
    for dimension in dimensions:
        identities: dict[str, str] = {}
        _check_writer(dimension, judges)
        for name in dimension.judges:
            _check_reply_mode(dimension, name, judges[name])
            identity = dump(dict(judges[name].identity))
            if identity in identities:
                raise ConfigError(
                    f"dimension {dimension.name}: the judges {identities[identity]} and {name} of its panel are the "
                    "same model with the same settings and would give the same replies; `repeat` asks one judge "
                    "several times"
                )
            identities[identity] = name


def _check_writer(dimension: NamedDimension, judges: Mapping[str, Judge]) -> None:
    """Raises :class:`lrf.errors.ConfigError` for a writer that can't write."""
    name = dimension.asking.writer
    if name is not None and (kinds := judges[name].capabilities.kinds) is not None:
        raise ConfigError(
            f"dimension {dimension.name}: `writer: {name}` names a judge that gives only {', '.join(kinds)}; name one "
            "that writes text"
        )


def _kinds_beyond(dimension: NamedDimension, kinds: Sequence[str]) -> list[str]:
    """What the dimension asks of a judge of these kinds that it can't answer; what is written goes to the writer."""
    asked = dimension.dimension.kinds if isinstance(dimension.dimension, AsksKinds) else ("anything",)
    if dimension.asking.writer is not None:
        asked = tuple(kind for kind in asked if kind in RATED_KINDS)
    return [kind for kind in asked if kind not in kinds]


def _check_reply_mode(dimension: NamedDimension, name: str, judge: Judge) -> None:
    can, rating = judge.capabilities, dimension.asking.rating
    if dimension.asking.panel == "cascade" and name != dimension.judges[-1]:
        if not can.probabilities:
            raise ConfigError(
                f"dimension {dimension.name}: the judge {name} gives no probabilities, so it can't be sure; only the "
                "last judge of a cascade may be such a one"
            )
        return
    if can.kinds is not None and (beyond := _kinds_beyond(dimension, can.kinds)):
        raise ConfigError(
            f"dimension {dimension.name}: the judge {name} can't answer whatever is asked (only: "
            f"{', '.join(can.kinds)}; asked for: {', '.join(beyond)}); let another judge write (`writer: NAME`), set "
            f"what needs no text (`read: document`, `statements: sentences`), or put {name} before another one in a "
            f"cascade (`judges: [{name}, …]`, `panel: cascade`)"
        )
    if (rating == "logprobs" and not can.probabilities) or (rating == "json" and not can.structured):
        lacks = "gives no probabilities" if rating == "logprobs" else "isn't held to a JSON schema"
        raise ConfigError(
            f"dimension {dimension.name}: `rating: {rating}`, but the judge {name} {lacks}; allowed: auto, "
            "text, or what the judge is set to"
        )
