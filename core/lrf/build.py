"""From a checked pipeline to the objects that do the work."""

from __future__ import annotations

from collections.abc import Mapping
from math import floor
from typing import TYPE_CHECKING, Any

from lrf.catalog import load_target
from lrf.config.prices import priced, read_prices
from lrf.engine.embedding import EmbedCalls
from lrf.engine.engine import Engine, NamedDimension, judge_calls
from lrf.engine.ledger import Budget, Ledger
from lrf.engine.observers import Observers
from lrf.errors import ConfigError, LrfError
from lrf.prices import UNITS, Price
from lrf.protocols import Aggregator, Judge, Pairing, Retriever, Source, Trainer
from lrf.store.journal import Journal

if TYPE_CHECKING:
    from lrf.config import Block, Pipeline


def build(block: Block, **services: Any) -> Any:
    """The component that a block of the pipeline describes.

    Raises :class:`lrf.errors.ConfigError`, naming the block, when the component refuses its settings.
    """
    target = load_target(block.spec)
    try:
        return target(block.settings, **services)
    except LrfError:
        raise
    except Exception as e:
        raise ConfigError(f"{block.kind} {block.name!r} ({block.type}) can't be made: {type(e).__name__}: {e}") from e


def source_of(pipeline: Pipeline) -> Source:
    if pipeline.data is None:
        raise ConfigError("the pipeline has no `data:` block; it says where samples come from")
    source: Source = build(pipeline.data)
    return source


def aggregator_of(pipeline: Pipeline) -> Aggregator:
    if pipeline.aggregator is None:
        raise ConfigError("the pipeline has no `dimensions:`, so there is nothing to aggregate")
    aggregator: Aggregator = build(pipeline.aggregator)
    # Once for show: a wrong dimension's name in its settings is told before anything is paid for.
    aggregator.aggregate(dict.fromkeys((b.name for b in pipeline.dimensions), 5.0))
    return aggregator


def pairing_of(pipeline: Pipeline) -> Pairing:
    if pipeline.pairs is None:
        raise ConfigError("the pipeline has no `pairs:` block; it says how pairs are chosen")
    pairing: Pairing = build(pipeline.pairs)
    return pairing


def trainer_of(pipeline: Pipeline) -> Trainer:
    if pipeline.train is None:
        raise ConfigError("the pipeline has no `train:` block; it says which trainer to run")
    trainer: Trainer = build(pipeline.train)
    return trainer


def prices_of(pipeline: Pipeline) -> dict[str, Price]:
    """The prices of the judges that have one, by name."""
    return priced({name: block.settings for name, block in pipeline.judges.items()}, read_prices(pipeline.prices))


def engine_of(
    pipeline: Pipeline,
    journal: Journal,
    observers: Observers,
    *,
    judges: Mapping[str, Judge] | None = None,
    retrievers: Mapping[str, Retriever] | None = None,
    budget: bool = True,
) -> Engine:
    """The scoring engine of a pipeline. Only judges and retrievers that a dimension needs are made.

    ``judges`` and ``retrievers`` given here stand in for the pipeline's own (planning does so).
    """
    limits = pipeline.budget
    money = None if limits.money is None else floor(limits.money * UNITS)
    ledger = Ledger(Budget(limits.calls, limits.tokens, money) if budget else Budget())
    dimensions = [
        NamedDimension(b.name, build(b), b.needs.get("judge"), b.needs.get("retriever")) for b in pipeline.dimensions
    ]
    if judges is None:
        needed = dict.fromkeys(d.judge for d in dimensions if d.judge)
        judges = {name: build(pipeline.judges[name]) for name in needed}
    prices = prices_of(pipeline)
    embedders: dict[str, EmbedCalls] = {}
    if retrievers is None:
        made: dict[str, Retriever] = {}
        for name in dict.fromkeys(d.retriever for d in dimensions if d.retriever):
            block = pipeline.retrievers[name]
            services: dict[str, Any] = {}
            if embedder := block.needs.get("embedder"):
                if embedder not in embedders:
                    embedders[embedder] = EmbedCalls(embedder, build(pipeline.embedders[embedder]), journal, ledger)
                services["embed"] = embedders[embedder].embed
            made[name] = build(block, **services)
        retrievers = made
    return Engine(
        dimensions=dimensions,
        judges=judge_calls(judges, journal, ledger, observers, pipeline.seed, prices),
        retrievers=retrievers,
        embedders=embedders,
        aggregator=aggregator_of(pipeline),
        journal=journal,
        ledger=ledger,
        observers=observers,
    )
