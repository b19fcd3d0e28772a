"""The figures of stage *sample*."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lrf.stages.stage import Alarm, PaidResult


@dataclass(frozen=True, kw_only=True)
class CandidateCounts:
    """What the rows of ``candidates.jsonl`` add up to.

    Parameters
    ----------
    samples: all, of which ``sampled`` have candidates and ``left_out`` have none; ``transient`` of these may have some
        when they are tried again.
    given, drawn: candidates of the data and of the sampler, of which ``candidates`` are kept.
    cut_off: kept candidates that ended at the most tokens allowed.
    dropped, reasons: candidates that are not kept and samples that are left out, by reason.
    """

    samples: int
    sampled: int
    left_out: int
    transient: int
    given: int
    drawn: int
    candidates: int
    cut_off: int
    dropped: Mapping[str, int]
    reasons: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class SampleResult(CandidateCounts, PaidResult):
    """What stage *sample* made.

    Parameters
    ----------
    sha256: the hash of the file of candidates; None if the stage was stopped before it was written.
    data: the hash of the samples that the candidates belong to.
    """

    sha256: str | None
    data: str
    alarms: Sequence[Alarm] = ()
    sample_seconds: float

    @property
    def raised(self) -> Sequence[Alarm]:
        return self.alarms
