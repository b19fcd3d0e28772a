"""The reply mode in which a judge is asked, and the one in which its reply is read."""

from __future__ import annotations

from typing import Any

from lrf.errors import Reason, UnscorableError
from lrf.prompting.requests import Expectation, RatingMode, Reply, ReplyMode
from lrf.protocols import Judge


def best_reply_mode(judge: Judge, expects: Expectation[Any]) -> ReplyMode:
    """Label probabilities where the judge gives them (fewer ties), then a schema, then marks in free text."""
    can = judge.capabilities
    if can.probabilities and expects.options:
        return "logprobs"
    return "json" if can.structured and expects.schema else "text"


def reply_mode_of(judge: Judge, expects: Expectation[Any], wanted: RatingMode) -> ReplyMode:
    """The reply mode to ask in: the wanted one for ratings, verdicts and choices, the best one for everything else.

    Raises :class:`lrf.errors.UnscorableError` when the judge can't be asked in it.
    """
    structured_only = bool(getattr(expects, "structured_only", False))  # isinstance of a protocol is slow
    reply_mode = (
        best_reply_mode(judge, expects) if wanted == "auto" or not (expects.options or structured_only) else wanted
    )
    can = judge.capabilities
    if can.kinds is not None and expects.kind not in can.kinds:
        raise UnscorableError(
            Reason.REPLY_MODE_NOT_POSSIBLE, f"the judge can't be asked for a {expects.kind}; it gives {can.kinds}"
        )
    possible = {
        "logprobs": can.probabilities and bool(expects.options),
        "json": can.structured and expects.schema is not None,
        "text": not structured_only,
    }
    if not possible[reply_mode]:
        needed = "json" if structured_only else reply_mode
        raise UnscorableError(
            Reason.REPLY_MODE_NOT_POSSIBLE, f"the judge can't be asked for a {expects.kind} by `{needed}`"
        )
    return reply_mode


def as_written(judge: Judge, reply: Reply) -> ReplyMode:
    """The mode in which to read a reply that should have probabilities: without them, by its form.

    Only from a judge that takes schemas an object is the answer; from others it may be a quotation.
    """
    if reply.probabilities is not None:
        return "logprobs"
    return "json" if judge.capabilities.structured and reply.text.lstrip().startswith("{") else "text"
