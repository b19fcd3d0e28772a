"""A weighted mixture of several files of rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from lrf.types import JSON

RowT = TypeVar("RowT")


@dataclass
class Mixture(Generic[RowT]):
    """The rows of several files in order, each repeated according to its file's weight.

    With a weight of 2.5 each row comes twice, and half of the rows (chosen by the seed) a third time. Seed and files
    decide the rows; shuffling is the trainer's.

    Parameters
    ----------
    files: (path, weight, reader) of each file.
    seed: decides which rows are repeated.
    counts: (rows, taken) of each file, from the last iteration.
    """

    files: Sequence[tuple[Path, float, Callable[[Path], Iterator[RowT]]]]
    seed: int
    counts: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[RowT]:
        self.counts = {}
        for number, (path, weight, read) in enumerate(self.files):
            rows = taken = 0
            for row in read(path):
                copies = int(weight) + (_share(self.seed, number, rows) < weight % 1)
                rows, taken = rows + 1, taken + copies
                for _ in range(copies):
                    yield row
            self.counts[str(path)] = (rows, taken)

    def metrics(self) -> dict[str, JSON]:
        """Rows and taken rows of each file, for a trainer's result."""
        return {path: {"rows": rows, "taken": taken} for path, (rows, taken) in self.counts.items()}


def _share(seed: int, source: int, row: int) -> float:
    digest = hashlib.sha256(f"{seed} {source} {row}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
