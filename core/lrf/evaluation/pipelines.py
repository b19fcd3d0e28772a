"""The pipeline that asks a pipeline's judges other questions than its own data: those of a benchmark or an audit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lrf.config import Pipeline, parse_pipeline
from lrf.errors import ConfigError
from lrf.plugin.catalog import Catalog
from lrf.plugin.suggest import did_you_mean

LEFT_OUT = ("data", "sample", "pairs", "train", "launcher", "calibration")
"""Blocks of a pipeline that have nothing to do with its judges."""

ASKED_ALIKE = ("seed", "policy", "executor", "python", "prices", "cache")
"""Blocks of a pipeline that two policies share when they answer its questions."""


def judging_pipeline(
    base: Pipeline,
    catalog: Catalog,
    *,
    name: str,
    rows: Path,
    dimensions: Sequence[str] = (),
    comparison: str | None = None,
    rewrites: str | None = None,
    budget: str | None = None,
    cached: bool = True,
) -> Pipeline:
    """The pipeline with the questions as data; everything that decides how a judge is asked is as it was.

    Parameters
    ----------
    name: of the new pipeline, and so of its run directory.
    rows: a file of JSON Lines, which need not be there yet.
    dimensions: the only dimensions to keep; all of them if empty.
    comparison: the judge that compares two answers instead ("" for the pipeline's main or only one).
    rewrites: the judge that writes answers in other words instead (the same).
    budget: what the run may use at most; see :func:`budget_block`.
    cached: whether replies of other runs may be used, where the pipeline has a cache.

    Nothing is unscored too often: what a judge leaves out is a result. Raises :class:`lrf.errors.ConfigError`.
    """
    values: dict[str, Any] = {key: value for key, value in base.resolved.items() if key not in LEFT_OUT}
    values |= {"name": name, "data": {"type": "jsonl", "path": str(rows.absolute())}, "max_unscored": 1.0}
    if not cached:
        values.pop("cache", None)
    if budget is not None:
        values["budget"] = budget_block(budget)
    if dimensions:
        values["dimensions"] = _chosen(base, dimensions)
        values.pop("aggregator", None)
    judges = {"comparison": comparison, "rewriting": rewrites}
    if other := [(kind, judge) for kind, judge in judges.items() if judge is not None]:
        values["dimensions"] = [{"type": kind, **({"judge": judge} if judge else {})} for kind, judge in other]
        for unused in ("aggregator", "retrievers", "embedders"):
            values.pop(unused, None)
    if not values.get("dimensions"):
        raise ConfigError("the pipeline has no `dimensions:`, so it judges nothing")
    return parse_pipeline(values, catalog, folder=base.folder)


def sampling_pipeline(
    base: Pipeline, policy: Pipeline, catalog: Catalog, *, name: str, rows: Path, budget: str | None = None
) -> Pipeline:
    """The pipeline in which the sampler of ``policy`` writes one answer to each of a file's questions.

    Prompt template, seed, prices and machines are those of ``base``, so that two policies are asked alike. For the
    other parameters see :func:`judging_pipeline`. Raises :class:`lrf.errors.ConfigError` for one without ``sample:``.
    """
    if policy.sample is None:
        raise ConfigError(f"{policy.file}: no `sample:` block, so this pipeline writes no answers")
    values: dict[str, Any] = {key: base.resolved[key] for key in ASKED_ALIKE if base.resolved.get(key) is not None}
    values |= {"name": name, "data": {"type": "jsonl", "path": str(rows.absolute())}, "max_unscored": 1.0}
    values["sample"] = {**policy.resolved["sample"], "n": 1}
    if budget is not None:
        values["budget"] = budget_block(budget)
    return parse_pipeline(values, catalog, folder=base.folder)


def _chosen(base: Pipeline, names: Sequence[str]) -> list[Any]:
    known = [block.name for block in base.dimensions]
    for name in names:
        if name not in known:
            raise ConfigError(
                f"the pipeline has no dimension {name!r}; it has {', '.join(known)}{did_you_mean(name, known)}"
            )
    blocks = zip(known, base.resolved["dimensions"], strict=True)
    return [block for name, block in blocks if name in names]


def budget_block(text: str) -> dict[str, float]:
    """The budget that a command line gives: "5" or "money=5", "calls=200", "tokens=1e6", with commas between them.

    Raises :class:`lrf.errors.ConfigError`.
    """
    block: dict[str, float] = {}
    for part in text.split(","):
        unit, _, amount = part.rpartition("=")
        unit = unit.strip() or "money"
        try:
            number = float(amount)
        except ValueError:
            number = 0.0
        if unit not in ("money", "calls", "tokens") or not 0 < number < float("inf"):
            raise ConfigError(f"--budget: expected money=N, calls=N or tokens=N with N above 0; got {part.strip()!r}")
        block[unit] = number if unit == "money" else int(number)
    return block
