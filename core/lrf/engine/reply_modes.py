"""In which way a judge is asked, and in which its reply is read."""

from __future__ import annotations

from typing import Any

from lrf.errors import Unscorable
from lrf.protocols import Judge
from lrf.prompting.requests import Expectation, RatingWay, Reply, Way


def best_way(judge: Judge, expects: Expectation[Any]) -> Way:
    """Label probabilities where the judge gives them (fewer ties), then a schema, then marks in free text."""
    can = judge.capabilities
    if can.probabilities and expects.options:
        return "expected"
    return "structured" if can.structured and expects.schema else "text"


def way_of(judge: Judge, expects: Expectation[Any], wanted: RatingWay) -> Way:
    """The way to ask: the wanted one for ratings, verdicts and choices, the best one for everything else.

    Raises :class:`lrf.errors.Unscorable` when the judge can't be asked so.
    """
    structured_only = bool(getattr(expects, "structured_only", False))
    way = best_way(judge, expects) if wanted == "auto" or not (expects.options or structured_only) else wanted
    can = judge.capabilities
    if can.kinds is not None and expects.kind not in can.kinds:
        raise Unscorable("way_not_possible", f"the judge can't be asked for a {expects.kind}; it gives {can.kinds}")
    possible = {
        "expected": can.probabilities and bool(expects.options),
        "structured": can.structured and expects.schema is not None,
        "text": not structured_only,
    }
    if not possible[way]:
        needed = "structured" if structured_only else way
        raise Unscorable("way_not_possible", f"the judge can't be asked for a {expects.kind} by `{needed}`")
    return way


def as_written(judge: Judge, reply: Reply) -> Way:
    """How to read a reply that was asked for probabilities and may have come without: then as what it is.

    Only a judge that can be held to a schema answers with an object of its own; another one's may be a quotation.
    """
    if reply.probabilities is not None:
        return "expected"
    return "structured" if judge.capabilities.structured and reply.text.lstrip().startswith("{") else "text"
