"""The first part of every trainer: set up the processes, tokenise the rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrf.protocols import TrainingJob
from lrf_training import checkpoint
from lrf_training.arguments import silence_libraries
from lrf_training.kept_tokens import kept_tokens
from lrf_training.mixture import Mixture
from lrf_training.models import Tokenization, prepare_tokenizer
from lrf_training.processes import on_first_process
from lrf_training.settings import TrainingSettings
from lrf_training.tokens import EncodedRow, RowT, Rules, TokenCounts, write_tokens


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a trainer needs to load its model and start.

    ``arguments`` are the Trainer's; ``tokens`` is an Arrow stream with a row of token ids for each row; ``notes`` have
    been reported already.
    """

    arguments: Any
    tokenization: Tokenization
    rules: Rules
    tokens: Path
    counts: TokenCounts
    notes: list[str]


def prepare(
    job: TrainingJob,
    settings: TrainingSettings,
    make_arguments: Callable[[TrainingJob], Any],
    rows: Mixture[RowT],
    encode: Callable[[RowT, Any, frozenset[int]], EncodedRow],
    *,
    what: str,
    on_bad_row: str,
    remarks: Mapping[str, str],
) -> Prepared:
    """Create the Trainer's arguments, the tokenizer and the token ids.

    Call it in all processes, before torch is imported.

    Parameters
    ----------
    make_arguments: creates the Trainer's arguments, which sets up the process group.
    rows: the rows to train on.
    encode: from a row, the tokenizer and the tokens that end a generation to token ids.
    what: a word for rows in messages, in the plural: "pairs".
    on_bad_row: "stop" or "drop".
    remarks: a note for each remark of ``encode``; ``{}`` in it is replaced by the number of rows.

    Raises :class:`lrf.errors.StageError`.
    """
    silence_libraries()
    job.output.mkdir(parents=True, exist_ok=True)
    arguments = make_arguments(job)  # sets up the process group
    on_first_process(lambda: checkpoint.recover(job.output / "checkpoint"))
    job.report({"phase": "tokenising"})
    tokenization = prepare_tokenizer(job, settings, (message["content"] for row in rows for message in row.messages))
    rules, tokens = Rules.of(settings, tokenization.window, on_bad_row), job.output / "tokens.arrow"

    def tokenize() -> tuple[TokenCounts, dict[str, tuple[int, int]]]:
        def write() -> TokenCounts:
            return write_tokens(
                rows,
                lambda row: encode(row, tokenization.tokenizer, tokenization.stop_ids),
                rules,
                tokens,
                what=what,
                source=rows.files[0][0],
            )

        return kept_tokens(tokens, _made_of(job, settings, rows, tokenization, rules), rows, write)

    counts, rows.counts = on_first_process(tokenize)
    notes = [tokenization.warning] if tokenization.warning else []
    if tokenization.template == "plain" and settings.init is None:
        notes.append(f"{job.model} has no chat template: a plain one is used and saved with the checkpoint")
    notes += [note.format(counts.extra[name]) for name, note in remarks.items() if counts.extra[name]]
    if getattr(settings, "activation_offload", False) and arguments.use_cpu:
        notes.append("activation_offload has no effect on the CPU")
    if counts.lost_rows:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in counts.lost_by_reason.items())
        notes.append(f"{counts.lost_rows} {what} with {counts.lost_tokens} tokens are left out ({reasons})")
    if counts.rows < settings.global_batch:
        notes.append(f"{counts.rows} {what} don't fill global_batch: {settings.global_batch}")
    for note in notes:
        job.report({"note": note})
    job.report({"phase": "loading", what: counts.rows, "tokens": counts.tokens, "longest": counts.longest})
    return Prepared(arguments, tokenization, rules, tokens, counts, notes)


def _made_of(
    job: TrainingJob, settings: TrainingSettings, rows: Mixture[Any], tokenization: Tokenization, rules: Rules
) -> str:
    """SHA-256 of everything that token ids are made of, but for what a template itself looks up (the date, say)."""
    tokenizer = tokenization.tokenizer
    parts = [settings.model_dump_json(exclude=set(settings.not_fingerprinted)), repr(rules), str(job.seed)]
    parts += [str(tokenizer.chat_template), repr(sorted(tokenization.stop_ids)), str(job.prompt_template_sha256)]
    vocabulary = (
        tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else repr(sorted(tokenizer.get_vocab().items()))
    )
    digest = hashlib.sha256("\0".join([*parts, vocabulary]).encode())
    for path, weight, _ in rows.files:
        digest.update(f"{path} {weight} ".encode())
        if path.exists():
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
