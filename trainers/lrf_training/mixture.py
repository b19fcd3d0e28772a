"""Rows from several files, each file with its weight."""

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
    """Goes through ``files`` (path, weight, how to read it) in order; a row comes as often as its file's weight says.

    A weight of 2.5 gives each row twice, and half of the rows, chosen by the seed, once more. The same seed and files
    always give the same rows. The order is the files'; the trainer shuffles. ``counts`` holds (rows, taken) by file of
    the last time it was gone through.
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
        """For a trainer's result: by file, its rows and how many were taken."""
        return {path: {"rows": rows, "taken": taken} for path, (rows, taken) in self.counts.items()}


def _share(seed: int, source: int, row: int) -> float:
    digest = hashlib.sha256(f"{seed} {source} {row}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
