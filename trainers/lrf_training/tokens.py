"""From rows of chat messages to token ids: every length counted, nothing cut, what is lost bounded and named."""

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

Messages = list[dict[str, str]]

_ROWS_A_BATCH = 64


class ChatRow(Protocol):
    """A trainer's row: ``where`` it stands, "file:line (sample id)", for errors; and all of its messages."""

    @property
    def where(self) -> str: ...

    @property
    def messages(self) -> Messages: ...


RowT = TypeVar("RowT", bound=ChatRow)


class UnusableRowError(Exception):
    """Raised by a trainer's ``encode`` for a row that can't be trained on.

    ``reason`` is short and stable: rows are counted by it. ``advice`` says what to do, where the rules say stop;
    ``tokens`` is how many tokens are lost with the row.
    """

    def __init__(self, reason: str, advice: str, tokens: int = 0) -> None:
        super().__init__(reason)
        self.reason, self.advice, self.tokens = reason, advice, tokens


@dataclass(frozen=True, slots=True)
class Rules:
    """What may become of a row that can't be used. ``limit`` is in tokens; None stands for no limit."""

    on_bad_row: str
    on_too_long: str
    max_lost: float
    limit: int | None
    limit_name: str = ""

    @classmethod
    def of(cls, settings: Any, window: int | None, on_bad_row: str) -> Rules:
        """Of :class:`lrf_training.settings.TrainingSettings` and the model's window: the smaller limit counts."""
        limits = {"max_tokens": settings.max_tokens, "the model's window": window}
        known = {name: limit for name, limit in limits.items() if limit is not None}
        name = min(known, key=known.__getitem__, default="")
        return cls(on_bad_row, settings.on_too_long, settings.max_lost, known.get(name), name)


@dataclass(slots=True)
class TokenCounts:
    """What was found. ``tokens`` counts what is trained on, ``longest`` one prompt with one answer.

    ``extra`` counts the rows' remarks.
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
        """For a trainer's result. ``what`` is the field's word for a row, in the plural: "pairs"."""
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
    """A row's columns of token ids, and its longest sequence: one prompt with one answer.

    ``numbers`` are further columns, of float32. ``remarks`` are counted by name in :attr:`TokenCounts.extra`.
    """

    columns: dict[str, list[int]]
    longest: int
    remarks: tuple[str, ...] = ()
    numbers: dict[str, list[float]] = field(default_factory=dict)


def read_jsonl(path: Path, *, missing: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each line's place ("file:line (sample id)") and object.

    Raises :class:`lrf.errors.StageError` where there is no file (``missing`` says what to do) or a line is no object.
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
                if b"\\ud" in line.lower():  # half of a surrogate pair is no text that a tokenizer takes
                    json.dumps(row, ensure_ascii=False).encode()
            except (ValueError, RecursionError) as error:
                raise StageError(f"{place}: no JSON in UTF-8 ({error}); make the file again") from None
            if not isinstance(row, dict):
                raise StageError(f"{place}: expected an object")
            yield (f"{place} (sample {row['sample_id']})" if "sample_id" in row else place), row


def messages(row: Mapping[str, Any], name: str, where: str) -> Messages:
    """The field ``name`` as chat messages; :class:`lrf.errors.StageError` where it is none."""
    found = row.get(name)
    if not isinstance(found, list) or not found:
        raise StageError(f"{where}: {name} must be a list of messages, each with a role and a content")
    for message in found:
        if not isinstance(message, dict) or not all(isinstance(message.get(key), str) for key in ("role", "content")):
            raise StageError(f"{where}: each message of {name} must have a role and a content, both text")
    return found


def chat_ids(tokenizer: Any, where: str, chat: Messages, **options: Any) -> list[int]:
    """Token ids of a chat through its template; :class:`lrf.errors.StageError` where the template fails."""
    try:
        encoding = tokenizer.apply_chat_template(chat, tokenize=True, return_dict=True, **options)
    except Exception as error:  # a template is a program: it may raise anything
        raise StageError(f"{where}: the chat template failed: {error}; set another chat_template") from error
    return list(encoding["input_ids"])


def common_prefix(a: list[int], b: list[int]) -> int:
    """How many ids ``a`` and ``b`` begin with in common."""
    if b[: len(a)] == a:
        return len(a)
    return next(i for i, (x, y) in enumerate(zip(a, [*b, -1], strict=False)) if x != y)


def write_tokens(
    rows: Iterable[RowT], encode: Callable[[RowT], EncodedRow], rules: Rules, into: Path, *, what: str, source: Path
) -> TokenCounts:
    """Write the rows' token ids to the Arrow stream ``into``, a column of int32 lists each, and say what was counted.

    One batch of rows is in memory at a time. ``what`` is the field's word for rows ("pairs"), ``source`` the file named
    in errors. Raises :class:`lrf.errors.StageError` when nothing is left, when a row can't be used and the rules say
    stop, and when more rows are lost than they allow.
    """
    counts = TokenCounts()
    writer, batch = None, []
    with pa.OSFile(str(into), "wb") as sink:
        for row in rows:
            if (encoded := _encode(row, encode, rules, counts)) is None:
                continue
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


def _encode(row: RowT, encode: Callable[[RowT], EncodedRow], rules: Rules, counts: TokenCounts) -> EncodedRow | None:
    try:
        encoded = encode(row)
    except UnusableRowError as bad:
        if rules.on_bad_row == "stop":
            raise StageError(f"{row.where}: {bad.reason}; {bad.advice}") from None
        counts.lose(bad.reason, bad.tokens)
        return None
    tokens = sum(map(len, encoded.columns.values()))
    if rules.limit is not None and encoded.longest > rules.limit:
        if rules.on_too_long == "stop":
            raise StageError(
                f"{row.where}: prompt and answer have {encoded.longest} tokens, more than {rules.limit_name} "
                f"({rules.limit}); nothing is cut: take a model with a larger window, raise max_tokens, or set "
                "on_too_long: drop with max_lost"
            )
        counts.lose(f"longer than {rules.limit_name}", tokens)
        return None
    counts.extra.update(encoded.remarks)
    counts.rows += 1
    counts.tokens += tokens
    counts.longest = max(counts.longest, encoded.longest)
    counts.largest_id = max(counts.largest_id, *(max(ids, default=0) for ids in encoded.columns.values()), 0)
    return encoded


def _check(counts: TokenCounts, rules: Rules, what: str, source: Path) -> None:
    seen = counts.rows + counts.lost_rows
    reasons = ", ".join(f"{reason}: {n}" for reason, n in counts.lost_by_reason.items())
    if not seen:
        raise StageError(f"{source}: there are no {what} to train on")
    if counts.lost_rows > rules.max_lost * seen:
        raise StageError(
            f"{source}: {counts.lost_rows} of {seen} {what} ({counts.lost_rows / seen:.1%}; {reasons}) can't be used, "
            f"more than max_lost: {rules.max_lost} allows; raise it, or see to the {what}"
        )
    if not counts.rows:
        raise StageError(f"{source}: none of {seen} {what} can be used ({reasons})")
