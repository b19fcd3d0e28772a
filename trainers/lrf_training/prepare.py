"""What every trainer does first: its processes find one another, and its rows become token ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrf.protocols import TrainingJob
from lrf_training import checkpoint
from lrf_training.arguments import silence_libraries
from lrf_training.mixture import Mixture
from lrf_training.models import Tokenization, prepare_tokenizer
from lrf_training.processes import on_first_process
from lrf_training.settings import TrainingSettings
from lrf_training.tokens import EncodedRow, RowT, Rules, TokenCounts, write_tokens


@dataclass(frozen=True, slots=True)
class Prepared:
    """``arguments`` are the Trainer's, ``tokens`` is the Arrow stream of the rows; ``notes`` have been reported."""

    arguments: Any
    text: Tokenization
    rules: Rules
    tokens: Path
    counts: TokenCounts
    notes: list[str]


def prepare(
    job: TrainingJob,
    settings: TrainingSettings,
    make_arguments: Callable[[TrainingJob], Any],
    rows: Mixture[RowT],
    encode: Callable[[RowT, Any], EncodedRow],
    *,
    what: str,
    on_bad_row: str,
    remarks: Mapping[str, str],
) -> Prepared:
    """Call it in all processes, before torch is imported.

    ``encode`` takes a row and the tokenizer, ``what`` is the field's word for rows ("pairs"), ``on_bad_row`` is "stop"
    or "drop". ``remarks`` has a note for each remark of ``encode``; {} in it is how often. Raises
    :class:`lrf.errors.StageError` with what to change.
    """
    silence_libraries()
    job.output.mkdir(parents=True, exist_ok=True)
    arguments = make_arguments(job)  # several processes have found one another after this
    on_first_process(lambda: checkpoint.recover(job.output / "checkpoint"))
    job.report({"phase": "tokenising"})
    text = prepare_tokenizer(job, settings, (message["content"] for row in rows for message in row.messages))
    rules, tokens = Rules.of(settings, text.window, on_bad_row), job.output / "tokens.arrow"
    counts = on_first_process(
        lambda: write_tokens(
            rows, lambda row: encode(row, text.tokenizer), rules, tokens, what=what, source=rows.files[0][0]
        )
    )
    notes = []
    if text.template == "plain" and settings.init is None:
        notes.append(f"{job.model} has no chat template: a plain one is used, and saved with the checkpoint")
    notes += [note.format(counts.extra[name]) for name, note in remarks.items() if counts.extra[name]]
    if getattr(settings, "activation_offload", False) and arguments.use_cpu:
        notes.append("activation_offload has no effect on the CPU")
    if counts.rows < settings.global_batch:
        notes.append(f"{counts.rows} {what} don't fill global_batch: {settings.global_batch}")
    for note in notes:
        job.report({"note": note})
    job.report({"phase": "loading", what: counts.rows, "tokens": counts.tokens, "longest": counts.longest})
    return Prepared(arguments, text, rules, tokens, counts, notes)
