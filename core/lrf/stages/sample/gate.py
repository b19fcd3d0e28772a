"""The message of a run that sampled too little: for each reason an example in full, and what helps against it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from lrf.errors import Reason
from lrf.stages.explained import explained

if TYPE_CHECKING:
    from lrf.stages.run_dir import RunDir

_AGAIN = "run the same command again, which asks for these samples only"
_ADVICE: Mapping[str, str] = {
    **dict.fromkeys(
        (Reason.RATE_LIMITED, Reason.JUDGE_UNAVAILABLE, Reason.JUDGE_TIMED_OUT, Reason.JUDGE_BAD_REPLY),
        f"check the policy's server, and {_AGAIN}",
    ),
    Reason.JUDGE_REJECTED: f"a change at the policy's server, or another policy for this material; then {_AGAIN}",
    Reason.CONTEXT_TOO_SMALL: "a policy with a longer context (and `context_window`), a smaller `max_tokens`, or "
    "shorter documents; then run the same command again",
    Reason.NO_CANDIDATES: "candidates that were cut off: a larger `max_tokens` or `on_cut_off: keep`; filtered ones: "
    "another policy for this material; with other settings the same command samples again",
    Reason.SAMPLER_ERROR: f"mend the sampler (the run's log has the traceback), and {_AGAIN}",
}


def left_out_message(run: RunDir, reasons: Mapping[str, int], *, lost: int, samples: int, limit: float) -> str:
    """Which samples have no candidates, and why. ``reasons`` counts them by reason, most common first."""
    return "\n".join(
        (
            f"{lost:,} of {samples:,} samples have no candidates, more than `max_unscored: {limit:g}` allows:",
            *explained(reasons, _left_out(run), lambda reason: _ADVICE.get(reason, f"mend the cause, and {_AGAIN}")),
            f"{run.candidates} has every case. A larger `max_unscored` accepts them; run the same command again then",
        )
    )


def _left_out(run: RunDir) -> Iterator[tuple[str, str, str]]:
    with run.candidates.open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if why := row["left_out"]:
                yield why["reason"], f"sample {row['sample_id']}", why["detail"]
