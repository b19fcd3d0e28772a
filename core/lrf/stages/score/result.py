"""The figures of stage *score*."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from lrf.stages.stage import Alarm, PaidResult


@dataclass(frozen=True, kw_only=True)
class Drift:
    """How far the calibration set's ratings moved from the start of scoring to its end, by dimension.

    Parameters
    ----------
    candidates: of the set; ``rated_twice`` of them have both ratings.
    drift: mean absolute difference of the two ratings; a dimension without any has no entry.
    max_drift: above this there is an alarm.
    """

    candidates: int
    rated_twice: Mapping[str, int]
    drift: Mapping[str, float]
    max_drift: float


@dataclass(frozen=True, kw_only=True)
class ScoreResult(PaidResult):
    """What stage *score* made.

    Parameters
    ----------
    samples: whose candidates are ``scored`` or ``unscored``, the latter by "dimension: reason" in ``reasons``.
    rated: candidates with a rating, by dimension.
    counted: the whole numbers in ``extra`` of the judgements, added up by dimension.
    judges: what judges say about their servers, by the judge's name.
    """

    samples: int
    candidates: int
    scored: int
    unscored: int
    reasons: Mapping[str, int]
    rated: Mapping[str, int]
    counted: Mapping[str, Mapping[str, int]]
    alarms: Sequence[Alarm]
    judges: Mapping[str, Mapping[str, JsonValue]]
    calibration: Drift | None = None
    score_seconds: float

    @property
    def raised(self) -> Sequence[Alarm]:
        return self.alarms
