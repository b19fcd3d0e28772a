"""The model card of a run's policy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from lrf.stages.cards import LICENSE, code, fenced, made_of, table, write_card
from lrf.stages.versions import lrf_version

if TYPE_CHECKING:
    from lrf.config import Pipeline
    from lrf.stages.train.stage import TrainResult


def write_model_card(file: Path, pipeline: Pipeline, result: TrainResult) -> None:
    """Write the card of the model that was trained."""
    model = pipeline.policy.model
    base = f"base_model: {json.dumps(model)}\n" if model and not Path(model).is_absolute() else ""
    settings = pipeline.resolved.get("train", {})
    trainer = str(settings.get("type", ""))
    figures = [
        (name.replace("_", " "), code(str(value)))
        for name, value in result.as_json().items()
        if isinstance(value, int | float | str) and name not in ("checkpoint", "skipped")
    ]
    write_card(
        file,
        f"""---
{LICENSE}
{base}library_name: transformers
tags: [lrf, {json.dumps(trainer)}]
---

# The model of the run {code(pipeline.name)}

Made with lrf {lrf_version() or "?"} by the trainer {code(trainer)} of
{code(model) if model else "a tiny random model, made to try the machinery"}.

## What it is made of

{table(made_of(pipeline))}

## Settings

{fenced(json.dumps(settings, indent=2, ensure_ascii=False))}

## Figures

{table(figures)}

Licence, language, intended use and evaluation are for you to fill in, as the terms of the model and of the data say.
""",
    )
