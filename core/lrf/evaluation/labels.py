"""Labels that people gave to a run's answers: preferences or ratings, from a CSV, JSON Lines or Parquet file."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from lrf.errors import DataError
from lrf.plugin.suggest import did_you_mean
from lrf.rows.formats import rows_of
from lrf.types import BadRow

PREFERENCES = ("sample_id", "preferred", "other")
RATINGS = ("sample_id", "candidate_id", "rating")
SHOWN = 20
"""Mistakes that an error lists."""
_SUGGESTED_FROM = 2000  # ids that are searched for a near match


@dataclass(frozen=True, slots=True)
class Preference:
    """A person's preference between two candidates of a sample."""

    sample: str
    preferred: str
    other: str
    line: int


@dataclass(frozen=True, slots=True)
class HumanRating:
    """A person's rating of a candidate, on any scale on which more is better."""

    sample: str
    candidate: str
    rating: float
    line: int


@dataclass(slots=True)
class Labels:
    """The labels of a file, which has preferences or ratings, and how many rows were skipped."""

    file: str
    preferences: list[Preference] = field(default_factory=list)
    ratings: list[HumanRating] = field(default_factory=list)
    skipped: int = 0

    @property
    def samples(self) -> set[str]:
        return {p.sample for p in self.preferences} | {r.sample for r in self.ratings}


def read_labels(path: Path) -> Labels:
    """The labels in a file. Raises :class:`lrf.errors.DataError` with its first mistakes, by file, line and column."""
    mistakes: list[str] = []
    labels = Labels(str(path))
    rows = _rows(path)
    header, _ = next(rows, ([], 1))
    places = _columns([name.strip() for name in header], str(path))
    for row, line in rows:
        if len(mistakes) >= SHOWN:
            break
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header):
            mistakes.append(f"{path}:{line}: expected {len(header)} columns, as in the first line; got {len(row)}")
            continue
        values = {name: row[place].strip() for name, place in places.items()}
        mistakes += [f"{path}:{line}: {mistake}" for mistake in _add(labels, values, line)]
    if mistakes:
        raise DataError("\n".join(mistakes[:SHOWN]))
    if not labels.samples:
        raise DataError(f"{path}: no rows after the first line")
    return labels


def _add(labels: Labels, values: Mapping[str, str], line: int) -> list[str]:
    """Add the label of a row, or return the row's mistakes."""
    if empty := [f"{name}: empty" for name, value in values.items() if not value]:
        return empty
    sample = values["sample_id"]
    if "preferred" in values:
        preferred, other = values["preferred"], values["other"]
        if preferred == other:
            return [f"other: the same candidate as preferred, {other!r}"]
        labels.preferences.append(Preference(sample, preferred, other, line))
        return []
    rating = _number(values["rating"])
    if rating is None:
        return [f"rating: expected a finite number; got {values['rating'][:40]!r}"]
    labels.ratings.append(HumanRating(sample, values["candidate_id"], rating, line))
    return []


def _rows(path: Path) -> Iterator[tuple[list[str], int]]:
    """Each row's cells and the number of its last line; first those of the head."""
    return _csv_rows(path) if path.suffix not in (".jsonl", ".json", ".gz", ".parquet") else _object_rows(path)


def _object_rows(path: Path) -> Iterator[tuple[list[str], int]]:
    head: list[str] = []
    for row in rows_of(path):
        if isinstance(row, BadRow) or not isinstance(row.value, Mapping):
            raise DataError(f"{row.file}:{row.line}: {row.message if isinstance(row, BadRow) else 'no object'}")
        if not head:
            head = list(map(str, row.value))
            yield head, row.line
        unknown = [name for name in row.value if name not in head]
        if unknown:
            raise DataError(f"{row.file}:{row.line}: {unknown[0]}: no key of the first row")
        yield ["" if (value := row.value.get(name)) is None else str(value) for name in head], row.line


def _csv_rows(path: Path) -> Iterator[tuple[list[str], int]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start})") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            yield row, reader.line_num
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: no valid CSV: {error}") from None


def _columns(header: Sequence[str], file: str) -> Mapping[str, int]:
    """The places of the columns of one of the two kinds. Other columns are allowed."""
    kinds = " or ".join(",".join(columns) for columns in (PREFERENCES, RATINGS))
    twice = [name for name in header if name and header.count(name) > 1]
    if twice:
        raise DataError(f"{file}:1: the column {twice[0]!r} is given twice")
    for columns, others in ((PREFERENCES, RATINGS), (RATINGS, PREFERENCES)):
        if set(columns) <= set(header):
            if set(others[1:]) & set(header):
                raise DataError(f"{file}:1: columns of preferences and of ratings in one file; expected {kinds}")
            return {name: header.index(name) for name in columns}
    unknown = [name for name in header if name not in {*PREFERENCES, *RATINGS}]
    hints = "".join(did_you_mean(name, [*PREFERENCES, *RATINGS]) for name in unknown[:5])
    if len(header) == 1 and any(mark in header[0] for mark in ";\t"):
        hints = "; the columns must be separated by commas"
    shown = ",".join(header)[:200] or "nothing"
    raise DataError(f"{file}:1: expected the columns {kinds} in the first line; got {shown}{hints}")


def _number(text: str) -> float | None:
    try:
        value = float("" if "_" in text else text)  # Python reads 1_0 as ten
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def known_labels(labels: Labels, known: Mapping[str, Iterable[str]], *, skip_unknown: bool = False) -> Labels:
    """The labels of candidates that the run has.

    Parameters
    ----------
    known: the run's candidates by sample.
    skip_unknown: skip and count labels of other candidates.

    Raises :class:`lrf.errors.DataError` for labels of other candidates that aren't skipped, and when no label is left.
    """
    mistakes: list[str] = []
    kept = Labels(labels.file)

    def has(sample: str, candidates: Mapping[str, str], line: int) -> bool:
        """Whether the run has these candidates, given by column."""
        mistake = _unknown(sample, candidates, known)
        if mistake:
            kept.skipped += 1
            mistakes.extend([f"{labels.file}:{line}: {mistake}"] if len(mistakes) < SHOWN else [])
        return not mistake

    kept.preferences = [
        p for p in labels.preferences if has(p.sample, {"preferred": p.preferred, "other": p.other}, p.line)
    ]
    kept.ratings = [r for r in labels.ratings if has(r.sample, {"candidate_id": r.candidate}, r.line)]
    if mistakes and not skip_unknown:
        more = f"\n({kept.skipped} rows in all)" if kept.skipped > len(mistakes) else ""
        raise DataError("\n".join(mistakes) + more + "\ncorrect them, or leave them out with --skip-unknown")
    if not kept.samples:
        raise DataError(f"{mistakes[0]}\nnone of the {kept.skipped} rows is of this run")
    return kept


def _suggest(word: str, ids: Iterable[str]) -> str:
    return did_you_mean(word, islice(ids, _SUGGESTED_FROM))


def _unknown(sample: str, candidates: Mapping[str, str], known: Mapping[str, Iterable[str]]) -> str | None:
    if sample not in known:
        return f"sample_id: the run has no sample {sample!r}{_suggest(sample, known)}"
    for column, candidate in candidates.items():
        if candidate not in known[sample]:
            near = _suggest(candidate, known[sample])
            return f"{column}: sample {sample!r} has no candidate {candidate!r} in the run{near}"
    return None
