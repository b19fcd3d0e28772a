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
    """What became of each question; None for a body that holds no answers.

    Answers belong to questions by their names. Where none has a name, they are in the order of the questions.
    """
    answers = value.get("answers")
    if not isinstance(answers, list):
        return None
    named = [answer.get("name") for answer in answers if isinstance(answer, dict)]
    if not any(named) and len(answers) == len(questions):
        return [_outcome(answer, question) for answer, question in zip(answers, questions, strict=True)]
    counts = Counter(name for name in named if isinstance(name, str))
    by_name = {answer["name"]: answer for answer in answers if isinstance(answer, dict) and answer.get("name")}
    return [_outcome(by_name.get(q.id) if counts[q.id] == 1 else None, q) for q in questions]


def _outcome(answer: Any, question: TypedQuestion) -> Outcome:
    if not isinstance(answer, dict):
        return "missing"
    if answer.get("type") == "refusal":
        return "filter"
    if question.kind == "yes_or_no":
        return question.by_yes(answer.get("probability"))
    listed = answer.get("probabilities")
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        return "missing"
    name = "label" if question.kind == "score" else "value"
    pairs = [(str(one.get(name)), one.get("probability")) for one in listed]
    return question.by_names(dict(pairs)) if len(dict(pairs)) == len(pairs) else "missing"
