"""The message of a run that scored too little: for each reason an example in full, and what helps against it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from lrf.errors import Reason
from lrf.stages.explained import explained
from lrf.stages.score.rows import reward_rows

if TYPE_CHECKING:
    from lrf.stages.run_dir import RunDir

_FAILED = "`lrf rescore PIPELINE --failed` asks again"
_SAME_COMMAND = "run the same command again"
_UNREADABLE = f"a judge that follows the format, or `rating: json` where it can be held to a schema; {_FAILED}"

_ADVICE: Mapping[str, str] = {
    **dict.fromkeys(
        (
            Reason.NO_RATING, Reason.NO_VERDICT, Reason.NO_STATEMENT_MARK, Reason.AMBIGUOUS_RATING,
            Reason.AMBIGUOUS_VERDICT, Reason.NO_CHOICE, Reason.AMBIGUOUS_CHOICE, Reason.RATING_OUT_OF_RANGE,
            Reason.INVALID_JSON, Reason.NO_STATEMENTS_LIST, Reason.EMPTY_REPLY,
        ),
        _UNREADABLE,
    ),
    **dict.fromkeys(
        (
            Reason.RATE_LIMITED, Reason.JUDGE_UNAVAILABLE, Reason.JUDGE_TIMED_OUT, Reason.JUDGE_BAD_REPLY,
            Reason.RETRIEVER_UNAVAILABLE, Reason.RETRIEVER_INCOMPLETE,
        ),
        f"check the server, and {_SAME_COMMAND}",
    ),
    Reason.TRUNCATED_REPLY: f"a judge that writes less (or a larger `reasoning_tokens` for its thoughts); {_FAILED}",
    Reason.CONTEXT_TOO_SMALL: "a judge with a longer context (and `context_window`), or shorter documents; then "
    f"{_SAME_COMMAND}, or {_FAILED}",
    Reason.JUDGE_REJECTED: f"another judge for this material, or a change at the server; then {_SAME_COMMAND}",
    Reason.PROMPT_CUT: f"a longer context at the server, or a smaller `context_window`; {_FAILED}",
    Reason.NO_ANSWER: f"fewer questions in a request (`max_questions`), or another judge; {_FAILED}",
    Reason.FILTERED: f"another judge for this material; {_FAILED}",
    Reason.TOO_MANY_STATEMENTS: f"a larger `max_statements`; then {_SAME_COMMAND}",
}  # fmt: skip


def advice(reason: str) -> str:
    """What helps against a candidate's being unscored for this reason."""
    return _ADVICE.get(reason, f"mend the cause; {_FAILED}")


def unscored_message(run: RunDir, reasons: Mapping[str, int], *, unscored: int, candidates: int, limit: float) -> str:
    """What the run's rewards lack and why. ``reasons`` counts candidates by "dimension: reason", most common first."""
    return "\n".join(
        (
            f"{unscored:,} of {candidates:,} candidates are unscored ({unscored / candidates:.0%}), more than "
            f"`max_unscored: {limit:g}` allows:",
            *reasons_explained(run, reasons),
            f"{run.judgements} has every case. A larger `max_unscored` accepts them; {_SAME_COMMAND} then",
        )
    )


def reasons_explained(run: RunDir, reasons: Mapping[str, int]) -> Iterator[str]:
    """Lines on why candidates are unscored; ``reasons`` as in :func:`unscored_message`."""
    return explained(reasons, _unscored(run), lambda name: advice(name.rpartition(": ")[2]))


def _unscored(run: RunDir) -> Iterator[tuple[str, str, str]]:
    for row in reward_rows(run.rewards):
        if unscored := row["unscored"]:
            where = f"candidate {row['candidate_id']} of sample {row['sample_id']}"
            yield f"{unscored['dimension']}: {unscored['reason']}", where, unscored["detail"] or unscored["reason"]
