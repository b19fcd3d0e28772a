"""A frozen calibration set, scored when scoring begins and again when it ends: does the judge still rate as it did?

Its candidates are no part of the run's rewards. Each time its requests differ from all others (see ``take`` of
``Engine.score``), so that neither a cache nor the first time answers them. After a stop, the journal does.
"""

from __future__ import annotations

import asyncio
import secrets
import statistics
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

from lrf.engine.engine import Engine
from lrf.errors import DataError, LrfError
from lrf.rows.data import Row, parse_line, samples_from_rows
from lrf.stages.context import StageContext
from lrf.stages.score.result import Drift
from lrf.stages.stage import Alarm
from lrf.store.files import read_json, write_json
from lrf.types import BadRow, Reward, Sample


async def calibrated(
    context: StageContext, engine: Engine, scoring: str, score: Callable[[], Awaitable[None]]
) -> Drift | None:
    """Score, with the calibration set before and after it.

    ``scoring`` is the fingerprint of what is scored. Returns how far the ratings of each dimension moved; None without
    a set, or when the run was stopped. Raises :class:`lrf.errors.DataError` when the set can't be read.
    """
    wanted = context.pipeline.calibration
    if wanted is None:
        await score()
        return None
    samples = await asyncio.to_thread(calibration_samples, wanted.path)
    take = await asyncio.to_thread(_take, context.run_dir.path / "calibration.json", scoring)
    before = asyncio.create_task(_rate(engine, samples, take))
    await score()
    first = await before
    last = None if engine.fatal or context.stop else await _rate(engine, samples, take + 1)
    if first is None or last is None:
        return None
    return drift(first, last, wanted.max_drift)


def calibration_samples(path: Path) -> list[Sample]:
    """The samples of a file of JSON Lines. Raises :class:`lrf.errors.DataError` unless all are good."""

    def rows() -> Iterator[Row | BadRow]:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.isspace():
                    yield parse_line(line, str(path), number, path.parent)

    samples = []
    try:
        for row in samples_from_rows(rows()):
            if isinstance(row, BadRow):
                raise DataError(f"calibration: {row.file}:{row.line}: {row.message}")
            samples.append(row)
    except OSError as error:
        raise DataError(f"calibration: {path} can't be read: {error.strerror}") from error
    if not any(sample.candidates for sample in samples):
        raise DataError(f"calibration: {path} has no candidates; give samples as in the data, with candidates")
    return samples


def drift(first: Sequence[Reward], last: Sequence[Reward], max_drift: float) -> Drift:
    """How far the ratings of candidates that were rated both times moved."""
    moved: dict[str, list[float]] = {}
    for before, after in zip(first, last, strict=True):
        for dimension, rating in before.ratings.items():
            again = after.ratings[dimension]
            differences = moved.setdefault(dimension, [])
            if rating is not None and again is not None:
                differences.append(abs(again - rating))
    return Drift(
        candidates=len(first),
        rated_twice={dimension: len(differences) for dimension, differences in moved.items()},
        drift={dimension: round(statistics.fmean(d), 6) for dimension, d in moved.items() if d},
        max_drift=max_drift,
    )


def drift_alarms(drift: Drift | None) -> list[Alarm]:
    """An alarm for each dimension whose ratings moved by more than is allowed."""
    if drift is None:
        return []
    return [
        Alarm(
            alarm="drift",
            dimension=dimension,
            drift=moved,
            of=drift.rated_twice[dimension],
            message=f"{dimension}: the calibration set's ratings moved by {moved:.2g} on average from the start to "
            f"the end, more than `max_drift: {drift.max_drift:g}`; was the model behind the judge's name changed?",
        )
        for dimension, moved in drift.drift.items()
        if moved > drift.max_drift
    ]


async def _rate(engine: Engine, samples: Sequence[Sample], take: int) -> list[Reward] | None:
    """The rewards of all candidates in order; None when the run was stopped meanwhile."""
    try:
        scored = await asyncio.gather(*(engine.score(sample, take=take) for sample in samples))
    except LrfError:  # the engine keeps the reason
        return None
    return [reward for rewards in scored for reward in rewards]


def _take(file: Path, scoring: str) -> int:
    """A random number for what is scored, kept in the file, so that a run that was stopped uses the same again."""
    kept = read_json(file)
    if not isinstance(kept, dict) or kept.get("scoring") != scoring:
        kept = {"scoring": scoring, "take": 2 * secrets.randbelow(2**40) + 2**20}
        write_json(file, kept)
    take: int = kept["take"]
    return take
