"""Rows of chat messages to token ids. Nothing is truncated; rows that can't be used are counted by reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pyarrow as pa

from lrf.errors import StageError
from lrf.types import JSON

Messages = list[dict[str, Any]]

_ROWS_A_BATCH = 64


class ChatRow(Protocol):
    """A row of chat messages. ``where`` locates it in errors: "file:line (sample id)"."""

    @property
    def where(self) -> str: ...

    @property
    def messages(self) -> Messages: ...


RowT = TypeVar("RowT", bound=ChatRow)


class UnusableRowError(Exception):
    """A row that can't be trained on; raised by a trainer's ``encode``.

    Parameters
    ----------
    reason: short and stable, since rows are counted by it.
    advice: what the user can do.
    tokens: number of tokens lost with the row.
    """

    def __init__(self, reason: str, advice: str, tokens: int = 0) -> None:
        super().__init__(reason)
        self.reason, self.advice, self.tokens = reason, advice, tokens


@dataclass(frozen=True, slots=True)
class Rules:
    """What happens with a row that can't be used or is longer than ``limit`` tokens (None: no limit)."""

    on_bad_row: str
    on_too_long: str
    max_lost: float
    limit: int | None
    limit_name: str = ""

    @classmethod
    def of(cls, settings: Any, window: int | None, on_bad_row: str) -> Rules:
        """From :class:`lrf_training.settings.TrainingSettings` and the model's window; the smaller limit applies."""
        limits = {"max_tokens": settings.max_tokens, "the model's window": window}
        known = {name: limit for name, limit in limits.items() if limit is not None}
        name = min(known, key=known.__getitem__, default="")
        return cls(on_bad_row, settings.on_too_long, settings.max_lost, known.get(name), name)


@dataclass(slots=True)
class TokenCounts:
    """Counts of the rows and tokens that are trained on, and of those that are lost.

    ``longest`` is the longest prompt with one answer; ``extra`` counts remarks by name.
    """

    rows: int = 0
    tokens: int = 0
    longest: int = 0
    largest_id: int = 0
    lost_rows: int = 0
    lost_tokens: int = 0
    lost_by_reason: Counter[str] = field(default_factory=Counter)
    extra: Counter[str] = field(default_factory=Counter)

    def lose(self, reason: str, tokens: int = 0) -> None:
        self.lost_rows += 1
        self.lost_tokens += tokens
        self.lost_by_reason[reason] += 1

    def metrics(self, what: str) -> dict[str, JSON]:
        """Metrics of a trainer's result. ``what`` is a word for rows, in the plural: "pairs"."""
        return {
            what: self.rows,
            "tokens": self.tokens,
            "longest": self.longest,
            f"lost_{what}": self.lost_rows,
            "lost_tokens": self.lost_tokens,
            "lost_by_reason": dict(self.lost_by_reason),
            **self.extra,
        }


@dataclass(frozen=True, slots=True)
class EncodedRow:
    """A tokenised row.

    Parameters
    ----------
    columns: token ids by column.
    longest: length of the longest sequence, a prompt with one answer.
    remarks: names of what was unusual, counted in :attr:`TokenCounts.extra`.
    numbers: further columns, of float32.
    more: further sequences of the row, each of which becomes a tokenised row.
    within: for a row of several answers, makes it one of those that fit into this many tokens; None if too few do.
    """

    columns: dict[str, list[int]]
    longest: int
    remarks: tuple[str, ...] = ()
    numbers: dict[str, list[float]] = field(default_factory=dict)
    more: tuple[EncodedRow, ...] = ()
    within: Callable[[int], EncodedRow | None] | None = None

    @property
    def tokens(self) -> int:
        return sum(map(len, self.columns.values()))


def read_jsonl(path: Path, *, missing: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Location ("file:line (sample id)") and object of each line.

    Raises :class:`lrf.errors.StageError` if the file doesn't exist (``missing`` says what to do) or a line isn't an
    object in JSON.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise StageError(f"{path}: {error.strerror}; {missing}") from None
    with file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            place = f"{path}:{number}"
            try:
                row = json.loads(line.decode())
                if b"\\ud" in line.lower():  # tokenizers refuse a lone surrogate
                    json.dumps(row, ensure_ascii=False).encode()
            except (ValueError, RecursionError) as error:
                raise StageError(f"{place}: not JSON in UTF-8 ({error}); create the file again") from None
            if not isinstance(row, dict):
                raise StageError(f"{place}: expected an object")
            yield (f"{place} (sample {row['sample_id']})" if "sample_id" in row else place), row


def messages(row: Mapping[str, Any], name: str, where: str) -> Messages:
    """The field ``name`` as chat messages. Raises :class:`lrf.errors.StageError` if it isn't a list of messages.

    The content of a message that calls tools may be null, which is read as an empty text.
    """
    chat = row.get(name)
    if not isinstance(chat, list) or not chat:
        raise StageError(f"{where}: {name} must be a list of messages, each with a role and a content")
    return [_message(message, name, where) for message in chat]


def _message(message: Any, name: str, where: str) -> dict[str, Any]:
    if isinstance(message, dict) and message.get("content") is None and message.get("tool_calls"):
        message = {**message, "content": ""}
    if not isinstance(message, dict) or not all(isinstance(message.get(key), str) for key in ("role", "content")):
        raise StageError(f"{where}: each message of {name} must have a role and a content, both text")
    if message.get("weight", 1) not in (0, 1):
        raise StageError(f"{where}: a message's weight must be 0 (not trained) or 1; got {message['weight']!r}")
    return message


def says_something(message: Mapping[str, Any]) -> bool:
    """Whether a message has a text or calls a tool."""
    return bool(message["content"].strip() or message.get("tool_calls"))


SEPARATE = "tokens_of_separate_sequences"
"""Counts the tokens of rows' further sequences (``EncodedRow.more``)."""

END_ADDED = "end_of_turn_added"
"""Remark on a row whose chat template writes no end after an answer."""

END_ADDED_NOTE = (
    "in {} rows the chat template writes no end after an answer; the end-of-sequence token is trained there, so that "
    "generation stops"
)


def with_end(ids: list[int], tokenizer: Any, stop_ids: frozenset[int]) -> list[int]:
    """Token ids of a last answer, with the end-of-sequence token if none of its last tokens ends a generation.

    Templates write up to three tokens after the content (``<|end|>``, a newline, ``<|endoftext|>``).
    """
    if tokenizer.eos_token_id is None or not stop_ids.isdisjoint(ids[-4:]):
        return ids
    return [*ids, tokenizer.eos_token_id]


def chat_ids(tokenizer: Any, where: str, chat: Messages, **options: Any) -> list[int]:
    """Token ids of a chat by its template. Raises :class:`lrf.errors.StageError` if the template fails."""
    try:
        encoding = tokenizer.apply_chat_template(chat, tokenize=True, return_dict=True, **options)
    except Exception as error:  # a template is a program: it may raise anything
        raise StageError(f"{where}: the chat template failed: {error}; set another chat_template") from error
    return list(encoding["input_ids"])


def common_prefix(a: list[int], b: list[int]) -> int:
    """Length of the longest common prefix."""
    if b[: len(a)] == a:
        return len(a)
    return next(i for i, (x, y) in enumerate(zip(a, [*b, -1], strict=False)) if x != y)


def write_tokens(
    rows: Iterable[RowT], encode: Callable[[RowT], EncodedRow], rules: Rules, into: Path, *, what: str, source: Path
) -> TokenCounts:
    """Tokenise rows into the Arrow stream ``into``, with a column of int32 lists for each column of ``encode``.

    One batch of rows is in memory at a time. ``what`` is a word for rows ("pairs"), ``source`` the file named in
    errors. Raises :class:`lrf.errors.StageError` if no row is left, if a row can't be used and the rules say stop, and
    if more rows are lost than they allow.
    """
    counts = TokenCounts()
    writer, batch = None, []
    with pa.OSFile(str(into), "wb") as sink:
        for encoded in (sequence for row in rows for sequence in _encode(row, encode, rules, counts)):
            if writer is None:
                ids = [(name, pa.list_(pa.int32())) for name in encoded.columns]
                schema = pa.schema([*ids, *((name, pa.list_(pa.float32())) for name in encoded.numbers)])
                writer = pa.ipc.new_stream(sink, schema)
            batch.append(encoded.columns | encoded.numbers)
            if len(batch) == _ROWS_A_BATCH:
                writer.write_batch(pa.RecordBatch.from_pylist(batch, schema))
                batch.clear()
        if writer is not None:
            writer.write_batch(pa.RecordBatch.from_pylist(batch, schema))
            writer.close()
    _check(counts, rules, what, source)
    return counts


def _encode(row: RowT, encode: Callable[[RowT], EncodedRow], rules: Rules, counts: TokenCounts) -> Iterator[EncodedRow]:
    """The row's sequences that can be used."""
    try:
        encoded = encode(row)
    except UnusableRowError as bad:
        if rules.on_bad_row == "stop":
            raise StageError(f"{row.where}: {bad.reason}; {bad.advice}") from None
        counts.lose(bad.reason, bad.tokens)
        return
    for sequence in (encoded, *encoded.more):
        fitting = _shortened(sequence, rules, counts)
        if _fits(fitting, row.where, rules, counts):
            counts.extra[SEPARATE] += fitting.tokens if sequence is not encoded else 0
            yield fitting


def _shortened(encoded: EncodedRow, rules: Rules, counts: TokenCounts) -> EncodedRow:
    """A row without its answers that are too long, where the rules say drop and enough others are left."""
    if rules.limit is None or encoded.longest <= rules.limit or rules.on_too_long == "stop" or encoded.within is None:
        return encoded
    fitting = encoded.within(rules.limit)
    if fitting is None:
        return encoded
    counts.lost_tokens += encoded.tokens - fitting.tokens
    return fitting


def _fits(encoded: EncodedRow, where: str, rules: Rules, counts: TokenCounts) -> bool:
    """Whether a sequence isn't too long; counts it."""
    tokens = encoded.tokens
    if rules.limit is not None and encoded.longest > rules.limit:
        if rules.on_too_long == "stop":
            raise StageError(
                f"{where}: prompt and answer have {encoded.longest} tokens, more than {rules.limit_name} "
                f"({rules.limit}); nothing is cut: take a model with a larger window, raise max_tokens, or set "
                "on_too_long: drop with max_lost"
            )
        counts.lose(f"longer than {rules.limit_name}", tokens)
        return False
    counts.extra.update(encoded.remarks)
    counts.rows += 1
    counts.tokens += tokens
    counts.longest = max(counts.longest, encoded.longest)
    counts.largest_id = max(counts.largest_id, *(max(ids, default=0) for ids in encoded.columns.values()), 0)
    return True


def _check(counts: TokenCounts, rules: Rules, what: str, source: Path) -> None:
    seen = counts.rows + counts.lost_rows
    reasons = ", ".join(f"{reason}: {n}" for reason, n in counts.lost_by_reason.items())
    if not seen:
        raise StageError(f"{source}: there are no {what} to train on")
    if counts.lost_rows > rules.max_lost * seen:
        raise StageError(
            f"{source}: {counts.lost_rows} of {seen} {what} ({counts.lost_rows / seen:.1%}; {reasons}) can't be used, "
            f"more than max_lost: {rules.max_lost} allows; raise it, or mend the {what}"
        )
    if not counts.rows:
        raise StageError(f"{source}: none of {seen} {what} can be used ({reasons})")
