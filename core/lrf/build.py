"""Builds the components of a checked pipeline, and the objects that its other keys describe (budget, panels, …)."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from functools import partial
from math import floor
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from lrf.config.prices import SAMPLING, priced, read_prices
from lrf.engine.budget import Budget
from lrf.engine.faults import fault_of, owned
from lrf.engine.observers import Observers
from lrf.engine.panel import NamedDimension, PanelSettings
from lrf.engine.rate_limits import RateLimits
from lrf.errors import ConfigError, LrfError, PluginError, Reason
from lrf.http.settings import secret_variables
from lrf.plugin.catalog import load_target
from lrf.plugin.importable import problem_of
from lrf.prices import UNITS, Price
from lrf.protocols import (
    Aggregator,
    Embed,
    Embedder,
    Executor,
    Judge,
    Launcher,
    Pairing,
    Retriever,
    Sampler,
    Source,
    Trainer,
)
from lrf.rows.part import PartSource
from lrf.text.redaction import hide

if TYPE_CHECKING:
    import pluggy

    from lrf.config import ComponentBlock, Pipeline

TRIAL_S = 10.0
"""Seconds after which an aggregator that is tried out has to have returned."""


def build(block: ComponentBlock, **services: Any) -> Any:
    """The component that a block of the pipeline describes. ``services`` are further arguments of its constructor.

    Raises :class:`lrf.errors.ConfigError`, naming the block, when the component refuses its settings.
    """
    target = load_target(block.spec)
    try:
        return target(block.settings, **services)
    except LrfError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"{block.kind} {block.name!r} ({block.type}) can't be made: {type(error).__name__}: {error}"
        ) from error


def executor_of(pipeline: Pipeline) -> Executor | None:
    """Where the pipeline's judges, embedders and sampler work; None for here."""
    if pipeline.executor is None:
        return None
    executor: Executor = build(pipeline.executor)
    return executor


def placed(block: ComponentBlock, executor: Executor | None) -> Any:
    """The component of a block, where it is to work. Raises as :func:`build` does."""
    if executor is None:
        return build(block)
    try:
        return executor.place(block.kind, block.name, partial(_made_elsewhere, block))
    except LrfError:
        raise
    except Exception as error:
        raise ConfigError(
            f"{block.kind} {block.name!r} can't be placed by the executor: {type(error).__name__}: {error}"
        ) from error


def _made_elsewhere(block: ComponentBlock) -> Any:
    """:func:`build` in another process, which must know what to redact."""
    for variable in secret_variables(block.settings):
        hide(os.environ.get(variable, ""), variable)
    return build(block)


def check_importable(pipeline: Pipeline, stage: str, *blocks: ComponentBlock | None) -> None:
    """Import the components of a stage, so that a missing package is known before anything is paid for.

    Left out are stages with an interpreter of their own, and components that hold a model: another process imports them
    (:mod:`lrf.stages.before_paying`). Raises :class:`lrf.errors.PluginError`.
    """
    if stage not in pipeline.python:
        for block in blocks:
            if block is None or block.spec.own_process:
                continue
            if problem := problem_of(block.spec, block.settings.extras):
                raise PluginError(problem)


def source_of(pipeline: Pipeline) -> Source:
    if pipeline.data is None:
        raise ConfigError("the pipeline has no `data:` block; it says where samples come from")
    source: Source = build(pipeline.data)
    return PartSource(source, pipeline.part) if pipeline.part else source


def aggregator_of(pipeline: Pipeline) -> Aggregator:
    if pipeline.aggregator is None:
        raise ConfigError("the pipeline has no `dimensions:`, so there is nothing to aggregate")
    aggregator: Aggregator = build(pipeline.aggregator)
    # tried once, so that settings with a wrong dimension's name are refused before anything is paid for
    _try_out(aggregator, {block.name: 5.0 for block in pipeline.dimensions})
    return aggregator


def _try_out(aggregator: Aggregator, ratings: dict[str, float | None]) -> None:
    """Raises what the aggregator raises for these ratings: in a thread, since it may not return.

    An unexpected error is a :class:`lrf.errors.PluginError`, and so is taking longer than :data:`TRIAL_S`.
    """
    outcome: list[BaseException | None] = []

    def attempt() -> None:
        try:
            aggregator.aggregate(MappingProxyType(ratings))
        except BaseException as error:
            outcome.append(error)
        else:
            outcome.append(None)

    thread = threading.Thread(target=attempt, name="lrf-aggregator", daemon=True)
    thread.start()
    thread.join(TRIAL_S)
    if not outcome:
        raise PluginError(f"{owned('aggregator', aggregator)} has not returned a reward within {TRIAL_S:.0f} s")
    if isinstance(error := outcome[0], LrfError):
        raise error
    if error is not None:
        raise PluginError(fault_of("aggregator", aggregator, error, Reason.NO_REWARD).detail)


def pairing_of(pipeline: Pipeline) -> Pairing:
    if pipeline.pairs is None:
        raise ConfigError("the pipeline has no `pairs:` block; it says how pairs are chosen")
    pairing: Pairing = build(pipeline.pairs)
    return pairing


def sampler_of(pipeline: Pipeline, executor: Executor | None = None) -> Sampler:
    if pipeline.sample is None:
        raise ConfigError("the pipeline has no `sample:` block; it says what writes candidates")
    sampler: Sampler = placed(pipeline.sample, executor)
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


def observers_of(
    pipeline: Pipeline, manager: pluggy.PluginManager, report: Callable[[str, str], None] = lambda *_: None
) -> Observers:
    """What observes a run of this pipeline: plugins with hooks, and its own observers. ``report``: of one that fails.

    Raises :class:`lrf.errors.ConfigError` for an observer that refuses its settings.
    """
    return Observers(manager, report, {block.name: build(block) for block in pipeline.observers})


def prices_of(pipeline: Pipeline) -> dict[str, Price]:
    """The prices of the judges that have one, by name; and of the sampler, as :data:`lrf.config.prices.SAMPLING`."""
    blocks = {**pipeline.judges, **({SAMPLING: pipeline.sample} if pipeline.sample else {})}
    return priced({name: block.settings for name, block in blocks.items()}, read_prices(pipeline.prices))


def budget_of(pipeline: Pipeline) -> Budget:
    limits = pipeline.budget
    money = None if limits.money is None else floor(limits.money * UNITS)
    currency = next((price.currency for price in prices_of(pipeline).values()), "money")
    return Budget(limits.calls, limits.tokens, money, currency)


def rates_of(block: ComponentBlock) -> RateLimits | None:
    """The limits of requests and tokens a minute of a judge, an embedder or a sampler; None without any."""
    keys = block.rates
    limited = keys.requests_per_minute is not None or keys.tokens_per_minute is not None
    return RateLimits(keys.requests_per_minute, keys.tokens_per_minute) if limited else None


def panel_of(block: ComponentBlock) -> PanelSettings:
    """How the dimension of this block asks its judges."""
    keys = block.keys
    others = block.raters[1:]
    return PanelSettings(keys.rating, keys.repeat, others, keys.panel, keys.panel_min, keys.sure, keys.writer)


def dimensions_of(pipeline: Pipeline) -> list[NamedDimension]:
    """The pipeline's dimensions, in order."""
    return [
        NamedDimension(b.name, build(b), b.needs.get("judge"), b.needs.get("retriever"), panel_of(b))
        for b in pipeline.dimensions
    ]


def judges_of(pipeline: Pipeline, executor: Executor | None = None) -> dict[str, Judge]:
    """The judges that a dimension asks, by name."""
    names = dict.fromkeys(name for block in pipeline.dimensions for name in block.judges)
    return {name: placed(pipeline.judges[name], executor) for name in names}


def embedders_of(pipeline: Pipeline, executor: Executor | None = None) -> dict[str, Embedder]:
    """The embedders behind the retrievers that a dimension asks, by name."""
    needs = (block.needs.get("embedder") for block in _asked_retrievers(pipeline).values())
    return {name: placed(pipeline.embedders[name], executor) for name in dict.fromkeys(needs) if name is not None}


def retrievers_of(pipeline: Pipeline, embed: Mapping[str, Embed]) -> dict[str, Retriever]:
    """The retrievers that a dimension asks, by name; ``embed`` by embedder's name."""

    def services(block: ComponentBlock) -> dict[str, Embed]:
        return {"embed": embed[block.needs["embedder"]]} if "embedder" in block.needs else {}

    return {name: build(block, **services(block)) for name, block in _asked_retrievers(pipeline).items()}


def _asked_retrievers(pipeline: Pipeline) -> dict[str, ComponentBlock]:
    names = dict.fromkeys(b.needs["retriever"] for b in pipeline.dimensions if "retriever" in b.needs)
    return {name: pipeline.retrievers[name] for name in names}
