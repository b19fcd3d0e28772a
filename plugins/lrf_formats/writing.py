"""Files that are written row by row and appear whole: JSON Lines, Parquet, and what was left out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from lrf.errors import StageError
from lrf.text.redaction import redact

ROW_GROUP = 1_000
"""Rows of a Parquet file that are kept in memory."""


class Output:
    """A file of rows that is being written, with the counts."""

    def __init__(self, write: Any, leave_out: Any) -> None:
        self._write = write
        self._leave_out = leave_out
        self.rows = 0
        self.left_out = 0

    def add(self, row: Mapping[str, Any]) -> None:
        self._write(row)
        self.rows += 1

    def leave_out(self, what: str, why: str) -> None:
        self._leave_out({"row": what, "reason": why})
        self.left_out += 1


@contextmanager
def output(path: Path) -> Iterator[Output]:
    """The file at this path (Parquet if it is named so), and beside it PATH.left_out.jsonl if any row is left out.

    Both appear when the block ends without an error. Raises :class:`lrf.errors.StageError` for a folder that can't be
    written to.
    """
    partial = path.with_name(f".{path.name}.partial")
    others, others_partial = _beside(path, "left_out.jsonl"), _beside(partial, "left_out.jsonl")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            writer = stack.enter_context(_parquet(partial) if path.suffix == ".parquet" else _lines(partial))
            out = Output(writer, stack.enter_context(_lines(others_partial)))
            yield out
        partial.replace(path)
        others.unlink(missing_ok=True)
        if out.left_out:
            others_partial.replace(others)
    except OSError as error:
        raise StageError(f"{error.filename2 or error.filename or path}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
        others_partial.unlink(missing_ok=True)


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(f"{path.name}.{ending}")


@contextmanager
def _lines(path: Path) -> Iterator[Any]:
    with path.open("wb") as file:

        def write(row: Mapping[str, Any]) -> None:
            line = to_json(row)  # a third of the time that json takes
            text = line.decode()
            shown = redact(text)
            file.write((line if shown is text else shown.encode()) + b"\n")

        yield write


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = pa.string()
    document = pa.struct({"id": text, "title": text, "text": text})
    schema = pa.schema({
        "data_source": text,
        "prompt": pa.list_(pa.struct({"role": text, "content": text})),
        "reward_model": pa.struct({"style": text, "ground_truth": text}),
        "extra_info": pa.struct({"index": text, "query": text, "context": pa.list_(document)}),
    })  # fmt: skip
    rows: list[Mapping[str, Any]] = []
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:

        def write(row: Mapping[str, Any] | None) -> None:
            if row is not None:
                rows.append(json.loads(redact(json.dumps(row))))
            if rows and (row is None or len(rows) >= ROW_GROUP):
                writer.write_table(pa.Table.from_pylist(rows, schema))
                rows.clear()

        yield write
        write(None)
