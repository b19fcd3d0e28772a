"""What people say of a run's answers, read from a CSV file: preferences or ratings."""

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

PREFERENCES = ("sample_id", "preferred", "other")
RATINGS = ("sample_id", "candidate_id", "rating")
SHOWN = 20
_LOOKED_THROUGH = 2000  # ids that a near match is looked for among


@dataclass(frozen=True, slots=True)
class Preference:
    """Somebody preferred one candidate of a sample to another."""

    sample: str
    preferred: str
    other: str
    line: int


@dataclass(frozen=True, slots=True)
class HumanRating:
    """Somebody rated a candidate, on any scale on which more is better."""

    sample: str
    candidate: str
    rating: float
    line: int


@dataclass(slots=True)
class Labels:
    """The rows of a file: preferences or ratings, and how many rows were passed over."""

    file: str
    preferences: list[Preference] = field(default_factory=list)
    ratings: list[HumanRating] = field(default_factory=list)
    skipped: int = 0

    @property
    def samples(self) -> set[str]:
        return {p.sample for p in self.preferences} | {r.sample for r in self.ratings}


def read_labels(path: Path) -> Labels:
    """The labels in a file. Raises :class:`lrf.errors.DataError` with its mistakes: file, line, column."""
    mistakes: list[str] = []
    labels = Labels(str(path))
    rows = _rows(path)
    header, _ = next(rows, ([], 1))
    at = _columns([name.strip() for name in header], str(path))
    is_preference = "preferred" in at
    for row, line in rows:
        if len(mistakes) >= SHOWN:
            break
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header):
            mistakes.append(f"{path}:{line}: expected {len(header)} columns, as in the first line; got {len(row)}")
            continue
        values = {name: row[place].strip() for name, place in at.items()}
        wrong = [f"{path}:{line}: {name}: empty" for name, value in values.items() if not value]
        if not wrong and is_preference:
            preference = Preference(values["sample_id"], values["preferred"], values["other"], line)
            if preference.preferred == preference.other:
                wrong = [f"{path}:{line}: other: the same candidate as preferred, {preference.other!r}"]
            else:
                labels.preferences.append(preference)
        elif not wrong:
            rating = _number(values["rating"])
            if rating is None:
                wrong = [f"{path}:{line}: rating: expected a finite number; got {values['rating'][:40]!r}"]
            else:
                labels.ratings.append(HumanRating(values["sample_id"], values["candidate_id"], rating, line))
        mistakes += wrong
    if mistakes:
        raise DataError("\n".join(mistakes[:SHOWN]))
    if not labels.samples:
        raise DataError(f"{path}: no rows after the first line")
    return labels


def _rows(path: Path) -> Iterator[tuple[list[str], int]]:
    """(cells, line) of the file; a row's line is its last."""
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
    """Where the columns of one of the two kinds stand; others may stand beside them."""
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
        hints = "; the columns must be parted by commas"
    shown = ",".join(header)[:200] or "nothing"
    raise DataError(f"{file}:1: expected the columns {kinds} in the first line; got {shown}{hints}")


def _number(text: str) -> float | None:
    try:
        value = float("" if "_" in text else text)  # Python reads 1_0 as ten
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def known_labels(labels: Labels, known: Mapping[str, Iterable[str]], *, skip_unknown: bool = False) -> Labels:
    """The labels of candidates that the run has; ``known`` are its candidates by sample.

    Raises :class:`lrf.errors.DataError` for those it doesn't have, unless they are to be skipped and counted; and where
    it has none.
    """
    mistakes: list[str] = []
    kept = Labels(labels.file)

    def has(sample: str, candidates: Mapping[str, str], line: int) -> bool:
        """Whether the run has these candidates, given by column."""
        wrong = _unknown(sample, candidates, known)
        if wrong:
            kept.skipped += 1
            mistakes.extend([f"{labels.file}:{line}: {wrong}"] if len(mistakes) < SHOWN else [])
        return not wrong

    kept.preferences = [
        p for p in labels.preferences if has(p.sample, {"preferred": p.preferred, "other": p.other}, p.line)
    ]
    kept.ratings = [r for r in labels.ratings if has(r.sample, {"candidate_id": r.candidate}, r.line)]
    if mistakes and not skip_unknown:
        more = f"\n({kept.skipped} rows in all)" if kept.skipped > len(mistakes) else ""
        raise DataError("\n".join(mistakes) + more + "\nmend them, or leave them out with --skip-unknown")
    if not kept.samples:
        raise DataError(f"{mistakes[0]}\nnone of the {kept.skipped} rows is of this run")
    return kept


def _suggest(word: str, ids: Iterable[str]) -> str:
    return did_you_mean(word, islice(ids, _LOOKED_THROUGH))


def _unknown(sample: str, candidates: Mapping[str, str], known: Mapping[str, Iterable[str]]) -> str | None:
    if sample not in known:
        return f"sample_id: the run has no sample {sample!r}{_suggest(sample, known)}"
    for column, candidate in candidates.items():
        if candidate not in known[sample]:
            near = _suggest(candidate, known[sample])
            return f"{column}: sample {sample!r} has no candidate {candidate!r} in the run{near}"
    return None
