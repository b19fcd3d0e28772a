"""The dataset card of a run's pairs and the model card of its policy: what they are made of, for who gets them.

Both are Markdown with the head that model hubs read. What comes from outside (names of models, paths) stands as code or
as a JSON string, so it can't become markup. The licence is left for the user to say: lrf can't know it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrf.errors import StageError
from lrf.stages.run_dir import RunDir
from lrf.store.files import replacing
from lrf.types import JSON

if TYPE_CHECKING:
    from lrf.config import Pipeline

LICENSE = """license: other  # to be filled in: the terms of the data, and of the models that wrote and judged it
license_name: to-be-filled-in"""


def write_cards(pipeline: Pipeline, run: RunDir, stage: str, counts: Mapping[str, JSON], version: str | None) -> None:
    """The card of what the stage has made, if it made anything. One that was written since, by the user, stays.

    Raises :class:`lrf.errors.StageError` when it can't be written.
    """
    try:
        if stage == "pairs" and run.pairs.exists():
            card = run.path / "README.md"
            if not card.exists() or card.stat().st_mtime_ns < run.pairs.stat().st_mtime_ns:
                write_dataset_card(card, pipeline, counts, version)
        if stage == "train":
            card = run.path / counts["checkpoint"] / "README.md"
            if card.parent.is_dir() and not card.exists():
                write_model_card(card, pipeline, counts, version)
    except OSError as error:
        raise StageError(f"{card}: {error.strerror}; what it describes is whole. Run the command again") from error


def write_dataset_card(file: Path, pipeline: Pipeline, pairs: Mapping[str, JSON], version: str | None) -> None:
    """``pairs`` are the counts of the stage."""
    left_out = pairs.get("reasons", {})
    card = f"""---
{LICENSE}
task_categories: [text-generation]
tags: [preference, dpo, lrf]
configs:
- config_name: default
  data_files: pairs.jsonl
---

# Preference pairs of the run {code(pipeline.name)}

{pairs.get("pairs", 0):,} pairs of a prompt, a chosen and a rejected answer, made with lrf {version or "?"}.

{_table(_made_of(pipeline))}

{pairs.get("left_out", 0):,} samples have no pair{_reasons(left_out)}. Rewards are a judge's opinion, not a measurement:
`judgements.jsonl` says what each rests on, and `lrf agree` how far people agree.

Licence, language and intended use are for you to fill in, as the data's and the models' terms say.
"""
    _write(file, card)


def write_model_card(file: Path, pipeline: Pipeline, train: Mapping[str, JSON], version: str | None) -> None:
    """``train`` are the counts of the stage."""
    model = pipeline.policy.model
    base = f"base_model: {json.dumps(model)}\n" if model and not Path(model).is_absolute() else ""
    figures = {k: v for k, v in train.items() if isinstance(v, int | float | str) and k != "checkpoint"}
    resolved = pipeline.resolved
    settings: JSON = resolved.get("train", {})
    card = f"""---
{LICENSE}
{base}library_name: transformers
tags: [lrf, {json.dumps(str(settings.get("type", "")))}]
---

# The model of the run {code(pipeline.name)}

Made with lrf {version or "?"} by the trainer {code(str(settings.get("type", "")))} of
{code(model) if model else "a tiny random model, made to try the machinery"}.

## What it is made of

{_table(_made_of(pipeline))}

## Settings

{_fenced(json.dumps(settings, indent=2, ensure_ascii=False))}

## Figures

{_table([(name.replace("_", " "), code(str(value))) for name, value in figures.items()])}

Licence, language, intended use and evaluation are for you to fill in, as the terms of the model and of the data say.
"""
    _write(file, card)


def _made_of(pipeline: Pipeline) -> list[tuple[str, str]]:
    """What a card's table says of where the run's data come from."""
    rows: list[tuple[str, str]] = []
    if pipeline.data:
        rows.append(("data", code(f"{pipeline.data.type}: {_where(pipeline.data.settings)}")))
    if pipeline.sample:
        reference = pipeline.sample.settings.model_reference
        model = reference.name if reference else pipeline.policy.model
        rows.append(("candidates by", code(f"{pipeline.sample.type}: {model}")))
    judges = {name: pipeline.judges[name] for d in pipeline.dimensions for name in d.judges}
    for name, judge in judges.items():
        reference = judge.settings.model_reference
        rows.append((f"judge {code(name)}", code(f"{judge.type}: {reference.name if reference else 'no model'}")))
    if pipeline.dimensions:
        rows.append(("dimensions", ", ".join(code(d.name) for d in pipeline.dimensions)))
    rows += [
        (what, code(block.type))
        for what, block in (("aggregator", pipeline.aggregator), ("pairs by", pipeline.pairs))
        if block is not None
    ]
    rows.append(("seed", str(pipeline.seed)))
    return rows


def _where(settings: Any) -> str:
    """The place that a source's settings name, without the folders before it."""
    found = [getattr(settings, name, None) for name in ("path", "documents", "name", "dataset")]
    return next((Path(str(place)).name for place in found if place), "see pipeline.yaml")


def _reasons(reasons: Mapping[str, int]) -> str:
    return f" ({', '.join(f'{code(reason)} {n:,}' for reason, n in reasons.items())})" if reasons else ""


def code(text: str) -> str:
    """The text as code in Markdown, on one line: nothing in it is markup."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in text).split()).replace("|", "¦").replace("`", "'")
    return f"`{flat[:200]}`"


def _fenced(text: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}json\n{text}\n{fence}"


def _table(rows: Sequence[tuple[str, str]]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def _write(file: Path, text: str) -> None:
    with replacing(file) as f:
        f.write(text)
