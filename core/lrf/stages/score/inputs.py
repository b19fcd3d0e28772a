"""What rewards depend on besides the answers: the components that score, and their settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from lrf.engine.rescoring import RescoringRounds
from lrf.stages.context import StageContext
from lrf.stages.run_dir import fingerprint
from lrf.stages.score.rescore import rounds_of
from lrf.types import JSON

if TYPE_CHECKING:
    from lrf.config import ComponentBlock, Pipeline


def scoring_blocks(pipeline: Pipeline) -> Sequence[ComponentBlock]:
    """The blocks of all components that scoring makes."""
    singles = [block for block in (pipeline.aggregator, pipeline.executor) if block]
    return [*pipeline.dimensions, *singles, *(block for _, block in _used_blocks(pipeline))]


def scoring_parts(context: StageContext) -> Sequence[JSON]:
    """What a reward depends on, as JSON values for a fingerprint."""
    pipeline, rounds = context.pipeline, rounds_of(context.run_dir)
    aggregator = pipeline.aggregator
    return [
        pipeline.seed,
        [[*context.component(d), d.keys.model_dump(mode="json")] for d in pipeline.dimensions],
        context.component(aggregator) if aggregator else None,
        # by kind and name: a judge, a retriever and an embedder are often all named "main"
        {f"{b.kind} {name}": context.component(b) for name, b in _used_blocks(pipeline)},
        *([asdict(rounds)] if rounds != RescoringRounds() else []),
    ]


def scoring_fingerprint(context: StageContext) -> str:
    """A hash of :func:`scoring_parts`."""
    return fingerprint("rewards", *scoring_parts(context))


def judges_asked(pipeline: Pipeline) -> dict[str, ComponentBlock]:
    """The judges that a dimension asks, by name."""
    return {name: pipeline.judges[name] for name in sorted({name for d in pipeline.dimensions for name in d.judges})}


def _used_blocks(pipeline: Pipeline) -> list[tuple[str, ComponentBlock]]:
    """The judges, retrievers and embedders that dimensions use, with their names."""
    retrievers = _needed(pipeline.retrievers, "retriever", pipeline.dimensions)
    embedders = _needed(pipeline.embedders, "embedder", tuple(retrievers.values()))
    return [*judges_asked(pipeline).items(), *retrievers.items(), *embedders.items()]


def _needed(
    blocks: Mapping[str, ComponentBlock], kind: str, users: tuple[ComponentBlock, ...]
) -> dict[str, ComponentBlock]:
    return {name: blocks[name] for name in sorted({user.needs[kind] for user in users if kind in user.needs})}
