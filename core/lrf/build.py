"""From a checked pipeline to the objects that do the work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor
from typing import TYPE_CHECKING, Any

from lrf.config.prices import SAMPLING, priced, read_prices
from lrf.engine.budget import Budget, BudgetLedger
from lrf.engine.embedder_calls import EmbedderCalls
from lrf.engine.engine import Engine, NamedDimension, judge_calls
from lrf.engine.observers import Observers
from lrf.engine.panel import PanelSettings
from lrf.engine.rate_limits import RateLimits
from lrf.engine.rescoring import RescoringRounds
from lrf.errors import ConfigError, LrfError
from lrf.plugin.catalog import load_target
from lrf.prices import UNITS, Price
from lrf.protocols import Aggregator, Judge, Launcher, Pairing, Retriever, Sampler, Source, Trainer
from lrf.store.files import dump
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
    except Exception as error:
        raise ConfigError(
            f"{block.kind} {block.name!r} ({block.type}) can't be made: {type(error).__name__}: {error}"
        ) from error


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


def sampler_of(pipeline: Pipeline) -> Sampler:
    if pipeline.sample is None:
        raise ConfigError("the pipeline has no `sample:` block; it says what writes candidates")
    sampler: Sampler = build(pipeline.sample)
    return sampler


def trainer_of(pipeline: Pipeline) -> Trainer:
    if pipeline.train is None:
        raise ConfigError("the pipeline has no `train:` block; it says which trainer to run")
    trainer: Trainer = build(pipeline.train)
    return trainer


def launcher_of(pipeline: Pipeline) -> Launcher:
    if pipeline.launcher is None:
        raise ConfigError("the pipeline has no `launcher:` block")
    launcher: Launcher = build(pipeline.launcher)
    return launcher


def prices_of(pipeline: Pipeline) -> dict[str, Price]:
    """The prices of the judges that have one, by name; and of the sampler, as :data:`lrf.config.prices.SAMPLING`."""
    blocks = {**pipeline.judges, **({SAMPLING: pipeline.sample} if pipeline.sample else {})}
    return priced({name: block.settings for name, block in blocks.items()}, read_prices(pipeline.prices))


def budget_of(pipeline: Pipeline) -> Budget:
    limits = pipeline.budget
    money = None if limits.money is None else floor(limits.money * UNITS)
    currency = next((price.currency for price in prices_of(pipeline).values()), "money")
    return Budget(limits.calls, limits.tokens, money, currency)


def rates_of(block: Block) -> RateLimits | None:
    """What a judge, an embedder or a sampler may be sent a minute; None where that isn't limited."""
    keys = block.rates
    limited = keys.requests_per_minute is not None or keys.tokens_per_minute is not None
    return RateLimits(keys.requests_per_minute, keys.tokens_per_minute) if limited else None


def asking_of(block: Block) -> PanelSettings:
    """How the dimension of this block asks its judges."""
    keys = block.keys
    return PanelSettings(keys.rating, keys.repeat, block.judges[1:], keys.panel, keys.panel_min, keys.sure)


def check_reply_modes(dimensions: Sequence[NamedDimension], judges: Mapping[str, Judge]) -> None:
    """Raises :class:`lrf.errors.ConfigError` when a judge can't be asked as a dimension wants, or sits twice."""
    for d in dimensions:
        identities: dict[str, str] = {}
        for name in d.judges:
            can = judges[name].capabilities
            earlier = d.asking.panel == "cascade" and name != d.judges[-1]
            if earlier and not can.probabilities:
                raise ConfigError(
                    f"dimension {d.name}: the judge {name} gives no probabilities, so it can't be sure; only the last "
                    "judge of a cascade may be such a one"
                )
            if can.kinds is not None and not earlier:
                raise ConfigError(
                    f"dimension {d.name}: the judge {name} can't answer whatever is asked (only: "
                    f"{', '.join(can.kinds)}); put it before another one in a cascade (`judges: [{name}, …]`, "
                    "`panel: cascade`)"
                )
            if not earlier and (
                (d.asking.rating == "logprobs" and not can.probabilities)
                or (d.asking.rating == "json" and not can.structured)
            ):
                lacks = "gives no probabilities" if d.asking.rating == "logprobs" else "isn't held to a JSON schema"
                raise ConfigError(
                    f"dimension {d.name}: `rating: {d.asking.rating}`, but the judge {name} {lacks}; allowed: auto, "
                    "text, or what the judge is set to"
                )
            identity = dump(dict(judges[name].identity))
            if identity in identities:
                raise ConfigError(
                    f"dimension {d.name}: the judges {identities[identity]} and {name} of its panel are the same model "
                    "with the same settings and would give the same replies; `repeat` asks one judge several times"
                )
            identities[identity] = name


def engine_of(
    pipeline: Pipeline,
    journal: Journal,
    observers: Observers,
    *,
    judges: Mapping[str, Judge] | None = None,
    retrievers: Mapping[str, Retriever] | None = None,
    budget: bool = True,
    rounds: RescoringRounds | None = None,
) -> Engine:
    """The scoring engine of a pipeline. Only judges and retrievers that a dimension needs are made.

    ``judges`` and ``retrievers`` given here stand in for the pipeline's own (planning does so). Raises
    :class:`lrf.errors.ConfigError` when a dimension's judge can't be asked in the way that the dimension wants.
    """
    prices = prices_of(pipeline)
    ledger = BudgetLedger(budget_of(pipeline) if budget else Budget())
    dimensions = [
        NamedDimension(b.name, build(b), b.needs.get("judge"), b.needs.get("retriever"), asking_of(b))
        for b in pipeline.dimensions
    ]
    rates: dict[str, RateLimits | None] = {}
    if judges is None:
        needed = dict.fromkeys(name for d in dimensions for name in d.judges)
        judges = {name: build(pipeline.judges[name]) for name in needed}
        rates = {name: rates_of(pipeline.judges[name]) for name in needed}
    embedders: dict[str, EmbedderCalls] = {}
    if retrievers is None:
        made: dict[str, Retriever] = {}
        for name in dict.fromkeys(d.retriever for d in dimensions if d.retriever):
            block = pipeline.retrievers[name]
            services: dict[str, Any] = {}
            if embedder := block.needs.get("embedder"):
                if embedder not in embedders:
                    asked = pipeline.embedders[embedder]
                    embedders[embedder] = EmbedderCalls(embedder, build(asked), journal, ledger, rates_of(asked))
                services["embed"] = embedders[embedder].embed
            made[name] = build(block, **services)
        retrievers = made
    check_reply_modes(dimensions, judges)
    return Engine(
        dimensions=dimensions,
        judges=judge_calls(judges, journal, ledger, observers, pipeline.seed, prices, rates),
        retrievers=retrievers,
        embedders=embedders,
        aggregator=aggregator_of(pipeline),
        journal=journal,
        ledger=ledger,
        observers=observers,
        rounds=rounds or RescoringRounds(),
    )
