"""Checks before a stage pays: everything that would make the payment useless, now or in a later stage, at once."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lrf.config.linking import MAPS
from lrf.errors import ConfigError
from lrf.http.settings import NO_KEY, unset_variables
from lrf.plugin.importable import problems_elsewhere
from lrf.stages.context import StageContext
from lrf.stages.run_dir import RunDir
from lrf.stages.stage import PaidResult, Stage

if TYPE_CHECKING:
    from lrf.config import ComponentBlock, Pipeline
    from lrf.plugin.catalog import Catalog


def check_before_paying(context: StageContext, stages: Sequence[Stage[Any]]) -> None:
    """Raises :class:`lrf.errors.ConfigError` with everything that would make payments vain. Blocks.

    ``stages``: the one that is about to pay, and those after it.
    """
    if problems := list(_problems(context, stages)):
        raise ConfigError("nothing was paid for, since it would be in vain: " + "\n".join(problems))


def problems_of_plan(pipeline: Pipeline, catalog: Catalog, run: RunDir, stages: Sequence[Stage[Any]]) -> list[str]:
    """What :func:`check_before_paying` would say if the data stayed as it was last checked. Blocks."""
    context = StageContext(pipeline, catalog, run, log=None, report=lambda _: None)
    try:
        while stages and not issubclass(stages[0].result, PaidResult):
            stages = stages[1:]
        return list(_problems(context, stages, of_plan=True)) if stages else []
    finally:
        context.observers.close()


def _problems(context: StageContext, stages: Sequence[Stage[Any]], *, of_plan: bool = False) -> Iterator[str]:
    """Each problem. A plan shows keys itself, and sees to the process of the first stage, which else says it itself."""
    pipeline = context.pipeline
    outdated = stages[0].outdated(context)
    for stage in stages:
        if not of_plan and issubclass(stage.result, PaidResult):
            yield from _unset(stage.name, stage.blocks(pipeline))
        if problem := stage.vain(context, outdated=outdated):
            yield f"{stage.name}: {problem}"
    for stage in stages if of_plan else stages[1:]:
        python = pipeline.python.get(stage.name)
        blocks = [block for block in stage.blocks(pipeline) if python is not None or block.spec.own_process]
        if blocks:
            components = [(block.spec, block.settings.extras) for block in blocks]
            yield from (f"{stage.name}: {p}" for p in problems_elsewhere(python or sys.executable, components))


def _unset(stage: str, blocks: Sequence[ComponentBlock]) -> Iterator[str]:
    for block in blocks:
        if variables := unset_variables(block.settings):
            name = f"{MAPS[block.kind]}.{block.name}" if block.kind in MAPS else stage
            yield f"{name}: {NO_KEY.format(', '.join(variables))}"
