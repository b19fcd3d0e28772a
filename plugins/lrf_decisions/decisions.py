"""The wire format of OpenAI's Decisions API: ``POST {base_url}/decisions``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from lrf.types import JSON
from lrf_decisions.questions import Outcome, TypedQuestion

PATH = "/decisions"


def body(model: str, state: str, questions: Sequence[TypedQuestion]) -> dict[str, JSON]:
    """A request's body."""
    return {"model": model, "input": state, "questions": [_question(question) for question in questions]}


def _question(question: TypedQuestion) -> dict[str, JSON]:
    asked: dict[str, JSON] = {"name": question.id, "instructions": question.instructions}
    if question.kind == "yes_or_no":
        return {"type": "predicate", **asked}
    if question.kind == "score":
        return {"type": "score", **asked, "levels": [{"label": name} for name in question.names.values()]}
    choices: list[dict[str, JSON]] = []
    for option, name in question.names.items():
        description = question.description(option)
        choices.append({"value": name} if description is None else {"value": name, "description": description})
    return {"type": "choice", **asked, "choices": choices}


def outcomes(value: Mapping[str, Any], questions: Sequence[TypedQuestion]) -> list[Outcome] | None:
    """The outcome of each question; None for a body that holds no answers.

    Answers belong to questions by their names. Where none has a name, they are in the order of the questions.
    """
    answers = value.get("answers")
    if not isinstance(answers, list):
        return None
    named = [(answer.get("name"), answer) for answer in answers if isinstance(answer, dict)]
    if not any(name for name, _ in named) and len(answers) == len(questions):
        return [_outcome(answer, question) for answer, question in zip(answers, questions, strict=True)]
    by_name = {name: answer for name, answer in named if isinstance(name, str)}
    counts = Counter(name for name, _ in named if isinstance(name, str))
    return [_outcome(by_name.get(q.id) if counts[q.id] == 1 else None, q) for q in questions]


def _outcome(answer: Any, question: TypedQuestion) -> Outcome:
    name = "label" if question.kind == "score" else "value"

    def listed(answer: Mapping[str, Any]) -> Mapping[Any, Any] | None:
        options = answer.get("probabilities")
        if not isinstance(options, list) or not all(isinstance(one, dict) for one in options):
            return None
        by_name = {str(one.get(name)): one.get("probability") for one in options}
        return by_name if len(by_name) == len(options) else None

    return question.outcome(answer, "probability", listed)
