"""Packing: rows of different lengths fill sequences of one length, and none attends to another.

Each row keeps its position ids and attends to itself only (:mod:`lrf_training.split_attention`: a packed sequence is a
shared one of prompts without answers), so the loss is that of its rows by themselves, without padding or a mask.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lrf.errors import StageError


def bins(lengths: Sequence[int], limit: int) -> list[list[int]]:
    """Indices of rows that fill sequences of up to ``limit`` tokens: the longest first, each where least room is left.

    (Best fit decreasing: at most 11/9 as many sequences as there must be, and one.) No row may be longer than
    ``limit``.

    >>> bins([3, 7, 2, 5], 8)
    [[1], [3, 0], [2]]
    """
    filled: list[list[int]] = []
    room: list[tuple[int, int]] = []  # what is left in each sequence, and its index; sorted
    for row in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        place = bisect_left(room, (lengths[row], -1))
        left, number = room.pop(place) if place < len(room) else (limit, len(filled))
        if number == len(filled):
            filled.append([])
        filled[number].append(row)
        rest = (left - lengths[row], number)
        room.insert(bisect_left(room, rest), rest)
    return filled


def pack(tokens: Path, into: Path, limit: int) -> int:
    """Write the rows of the Arrow stream ``tokens`` packed into ``into``; returns the number of packed sequences.

    A packed sequence has ``input_ids``, ``spans`` and ``ends`` from its own beginning, and ``lengths`` of its rows.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    from datasets import Dataset

    rows = Dataset.from_file(str(tokens)).with_format("numpy")
    lengths = pc.list_value_length(rows.data.table.column("input_ids")).to_pylist()
    filled = bins(lengths, limit)
    columns = [("input_ids", pa.int32()), *((name, pa.float32()) for name in ("spans", "ends", "lengths"))]
    schema = pa.schema([(name, pa.list_(kind)) for name, kind in columns])
    with pa.OSFile(str(into), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for chosen in filled:
            writer.write_batch(pa.RecordBatch.from_pylist([_packed(rows, chosen)], schema))
    return len(filled)


def _packed(rows: Any, chosen: Sequence[int]) -> dict[str, Any]:
    import numpy as np

    packed = [rows[i] for i in chosen]
    lengths = [len(row["input_ids"]) for row in packed]
    starts = np.cumsum([0, *lengths[:-1]])
    return {
        "input_ids": np.concatenate([row["input_ids"] for row in packed]),
        "spans": np.concatenate([row["spans"] + start for row, start in zip(packed, starts, strict=True)]),
        "ends": np.concatenate([_moved(row["ends"], start) for row, start in zip(packed, starts, strict=True)]),
        "lengths": lengths,
    }


def _moved(ends: Any, by: int) -> Any:
    """Positions moved by this many tokens, of an array position, token, position, token, …"""
    moved = ends.copy()
    moved[::2] += by
    return moved


def refuse_packing(config: Any, longest: int, *, trust_remote_code: bool = False) -> None:
    """Raise :class:`lrf.errors.StageError` if rows of a model of this config can't be kept apart in one sequence.

    ``longest`` is the longest row in tokens. Needs no weights.
    """
    from lrf_training.architecture import not_plain

    if refusal := not_plain(config, longest, trust_remote_code=trust_remote_code):
        raise StageError(f"train.packing works with plain causal attention only, but {refusal}; leave it out")


def positions(lengths: Sequence[int]) -> Iterator[int]:
    """Position ids that begin anew with each row."""
    for length in lengths:
        yield from range(length)
