"""The dataset card of a run's pairs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lrf.stages.cards import LICENSE, code, counted_reasons, made_of, table, write_card
from lrf.stages.versions import lrf_version

if TYPE_CHECKING:
    from lrf.config import Pipeline
    from lrf.stages.pairs.stage import PairsResult


def write_dataset_card(file: Path, pipeline: Pipeline, result: PairsResult) -> None:
    """Write the card of these pairs."""
    write_card(
        file,
        f"""---
{LICENSE}
task_categories: [text-generation]
tags: [preference, dpo, lrf]
configs:
- config_name: default
  data_files: pairs.jsonl
- config_name: lists
  data_files: lists.jsonl
---

# Preference pairs of the run {code(pipeline.name)}

{result.pairs:,} pairs of a prompt, a chosen and a rejected answer, made with lrf {lrf_version() or "?"}.

{table(made_of(pipeline))}

`lists.jsonl` has all scored candidates of {result.lists:,} samples, the best first.

{result.left_out:,} samples have no pair{counted_reasons(result.reasons)}. Rewards are a judge's opinion, not a
measurement: `judgements.jsonl` says what each rests on, and `lrf bench LABELS --run RUN` how far people agree.

Licence, language and intended use are for you to fill in, as the data's and the models' terms say.
""",
    )
