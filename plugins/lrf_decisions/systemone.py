"""The wire format of System One APIs: ``POST {base_url}/v1/systemone``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lrf.types import JSON
from lrf_decisions.questions import Outcome, TypedQuestion

_VERSIONED = re.compile(r"/v\d+$")


def path(base_url: str) -> str:
    """The path after the address, which may end in a version."""
    return "/systemone" if _VERSIONED.search(base_url) else "/v1/systemone"


def body(model: str, state: str, questions: Sequence[TypedQuestion]) -> dict[str, JSON]:
    """A request's body."""
    return {"model": model, "state": state, "questions": {q.id: _question(q) for q in questions}}


def _question(question: TypedQuestion) -> dict[str, JSON]:
    if question.kind == "yes_or_no":
        return {"type": "noul", "instructions": question.instructions}
    criteria: JSON = {name: question.description(option) for option, name in question.names.items()}
    if question.kind == "score":
        criteria = list(question.names.values())
    return {"type": question.kind, "instructions": question.instructions, "criteria": criteria}


def outcomes(value: Mapping[str, Any], questions: Sequence[TypedQuestion]) -> list[Outcome] | None:
    """The outcome of each question; None for a body that holds no answers.

    All are "cut" where the server says that it dropped a part of the state; a question that was itself cut off is
    "length".
    """
    answers = value.get("answers")
    if not isinstance(answers, dict):
        return None
    usage = value.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    cut = usage.get("truncated_questions")
    some = {str(name) for name in cut} if isinstance(cut, list | dict) else set()
    unnamed = bool(cut) and not some  # a number, of questions that aren't named
    if unnamed or usage.get("state_tokens_dropped") or (usage.get("truncated") and not some):
        return ["cut"] * len(questions)
    return ["length" if q.id in some else _outcome(answers.get(q.id), q) for q in questions]


def _outcome(answer: Any, question: TypedQuestion) -> Outcome:
    def listed(answer: Mapping[str, Any]) -> Mapping[Any, Any] | None:
        probabilities = answer.get("probabilities")
        if not isinstance(probabilities, dict) or question.kind != "score":
            return probabilities if isinstance(probabilities, dict) else None
        places = {str(n): name for n, name in enumerate(question.names.values())}  # the lowest first
        return {places.get(str(place), place): p for place, p in probabilities.items()}

    return question.outcome(answer, "noul", listed)
