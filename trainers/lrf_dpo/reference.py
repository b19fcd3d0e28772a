"""Log-probabilities of the answers under the reference policy, computed before training and stored.

They don't change during training, so no second model needs to stay in memory. Each process computes its share of the
rows, one row at a time (so that a value depends neither on the number of processes nor on other rows), and appends to
its own file, so an interrupted computation resumes. The result is a Parquet file with the columns ``row``, ``tokens``
(a hash of the row's token ids), ``ref_logps`` (a list of float64, one for each answer: nats, summed over its tokens)
and ``checksum``. Rows whose tokens have changed or whose checksum is wrong are computed again.
"""

from __future__ import annotations

import hashlib
import json
import math
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lrf.errors import StageError
from lrf.types import JSON
from lrf_dpo.rows import answers_of
from lrf_training.checkpoint import fsync_path
from lrf_training.processes import on_first_process, rank, wait_for_all, world

REFERENCE = "ref_logps"
"""The column of a row's reference log-probabilities, one for each answer."""

FILE = "reference.parquet"

TokenRow = Mapping[str, Any]
Stored = dict[int, tuple[str, tuple[float, ...]]]  # by row: hash of its tokens, log-probabilities of its answers


def add_reference_logps(
    dataset: Any,
    folder: Path,
    identity: str,
    log_probs: Callable[[TokenRow], Sequence[float]],
    *,
    lockstep: bool = False,
    report: Callable[[Mapping[str, JSON]], None] = lambda _: None,
) -> Any:
    """The dataset with the column ``ref_logps``, computed or read from ``folder``. Call it in all processes.

    Parameters
    ----------
    dataset: rows of :func:`lrf_dpo.rows.token_row`.
    folder: where the values are stored.
    identity: of the reference policy; stored values of another are ignored.
    log_probs: from a row to the log-probability of each of its answers.
    lockstep: all processes must call ``log_probs`` equally often, because each has a shard of the model.
    report: takes progress.

    Raises :class:`lrf.errors.StageError` if a value isn't finite.
    """
    from datasets import Dataset, concatenate_datasets

    hashes = [tokens_hash(row["prompt_ids"], *answers_of(row)) for row in dataset]
    missing: list[int] = on_first_process(lambda: _missing(folder, identity, hashes))
    if missing:
        report({"phase": "reference", "rows": len(missing), "of": len(hashes)})
        mine = missing[rank() :: world()]
        rounds = -(-len(missing) // world()) if lockstep else len(mine)
        with (folder / f"rank-{rank()}.jsonl").open("a", encoding="utf-8") as shard:
            shard.write("\n")  # after a partial line of a killed process
            for step in range(rounds):
                row = mine[step] if step < len(mine) else missing[0]
                values = tuple(log_probs(dataset[row]))
                if not all(map(math.isfinite, values)):
                    raise StageError(
                        f"under the reference policy, the answers of row {row + 1} have the log-probabilities "
                        f"{', '.join(map(str, values))}; look at the model's weights, or use dtype: float32"
                    )
                if step < len(mine):
                    shard.write(json.dumps(_as_columns(identity, row, hashes[row], values)) + "\n")
                    shard.flush()
                if step % 10 == 9:
                    report({"phase": "reference", "done": step + 1, "of": rounds})
        wait_for_all()
    on_first_process(lambda: _merge(folder, identity, hashes))
    stored = _read(folder / FILE, identity)
    column = pa.array([stored[n][1] for n in range(len(hashes))], pa.list_(pa.float64()))
    return concatenate_datasets([dataset, Dataset(pa.table([column], names=[REFERENCE]))], axis=1)


def _missing(folder: Path, identity: str, hashes: list[str]) -> list[int]:
    folder.mkdir(parents=True, exist_ok=True)
    stored = _stored(folder, identity)
    return [n for n, tokens in enumerate(hashes) if n not in stored or stored[n][0] != tokens]


def _merge(folder: Path, identity: str, hashes: list[str]) -> None:
    if not any(folder.glob("rank-*.jsonl")):
        return  # no new values
    stored = _stored(folder, identity)
    rows = [_as_columns(identity, n, tokens, stored[n][1]) for n, tokens in enumerate(hashes)]
    new = folder / f"{FILE}.new"
    pq.write_table(pa.Table.from_pylist(rows).replace_schema_metadata({"identity": identity}), new)
    fsync_path(new)
    new.rename(folder / FILE)
    for shard in folder.glob("rank-*.jsonl"):
        shard.unlink()


def _stored(folder: Path, identity: str) -> Stored:
    stored = _read(folder / FILE, identity)
    for shard in sorted(folder.glob("rank-*.jsonl")):
        stored |= _checked(_lines(shard), identity)
    return stored


def _lines(shard: Path) -> Iterator[Any]:
    for line in shard.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            yield json.loads(line)
        except ValueError:  # empty or partial
            continue


def _read(file: Path, identity: str) -> Stored:
    try:
        return _checked(pq.read_table(file).to_pylist(), identity)
    except (OSError, pa.ArrowInvalid):  # missing or damaged: its rows are computed again
        return {}


def _checked(rows: Any, identity: str) -> Stored:
    stored: Stored = {}
    for row in rows:
        try:
            number, tokens = int(row["row"]), str(row["tokens"])
            values = tuple(map(float, row[REFERENCE]))
        except (KeyError, TypeError, ValueError):
            continue
        if row == _as_columns(identity, number, tokens, values):
            stored[number] = tokens, values
    return stored


def _as_columns(identity: str, row: int, tokens: str, values: Sequence[float]) -> dict[str, Any]:
    text = f"{identity} {row} {tokens} {' '.join(value.hex() for value in values)}"
    checksum = hashlib.sha256(text.encode()).hexdigest()[:16]
    return {"row": row, "tokens": tokens, REFERENCE: list(values), "checksum": checksum}


def tokens_hash(*columns: list[int]) -> str:
    """A hash of lists of token ids."""
    digest = hashlib.sha256()
    for ids in columns:
        digest.update(f"{len(ids)} ".encode())
        digest.update(array("q", ids).tobytes())
    return digest.hexdigest()[:32]
