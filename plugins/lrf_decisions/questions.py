"""A judge's requests as typed questions, and answers as probabilities: what both wire formats have in common."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeGuard

from lrf.prompting.labels import label_of
from lrf.prompting.questions import asked_of, material_of, ordered
from lrf.prompting.requests import FinishReason, Request
from lrf.prompting.templates import prompt_text

Kind = Literal["yes_or_no", "choice", "score"]
"""How a question is asked: for one probability, for those of options, or for those of ordered levels."""

Outcome = Mapping[str, float] | FinishReason
"""The probability of each option, or why there is none."""

WHOLE = "Answer the question that the text ends with."
"""What is asked where material and question are one prompt."""

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ROUNDING = 0.02
"""By how much probabilities may miss 1: servers round each of them."""


@dataclass(frozen=True, slots=True)
class TypedQuestion:
    """A question as it is sent.

    Parameters
    ----------
    id: neutral, and the same whatever else is in the request.
    names: for each option, in the order in which they are sent, what it is called there.
    described: whether names are letters, described by the options' words.
    """

    id: str
    kind: Kind
    instructions: str
    names: Mapping[str, str]
    described: bool = False

    def description(self, option: str) -> str | None:
        """The words of an option that is sent as a letter."""
        return label_of(option) if self.described else None

    def outcome(
        self, answer: Any, yes: str, listed: Callable[[Mapping[str, Any]], Mapping[Any, Any] | None]
    ) -> Outcome:
        """The outcome of the question, given the object that answers it.

        ``yes``: the key of the probability of yes; ``listed``: the probabilities in the object by the options' names
        there, or None where there are none.
        """
        if not isinstance(answer, dict):
            return "missing"
        if answer.get("type") == "refusal":
            return "filter"
        if self.kind == "yes_or_no":
            return self.by_yes(answer.get(yes))
        probabilities = listed(answer)
        return "missing" if probabilities is None else self.by_names(probabilities)

    def by_names(self, probabilities: Mapping[Any, Any]) -> Outcome:
        """The probabilities of the options, given by their names there; "missing" unless all are there and add up."""
        given = [probabilities.get(name) for name in self.names.values()]
        numbers = [float(p) for p in given if _is_number(p) and 0.0 <= p <= 1 + _ROUNDING]
        total = math.fsum(numbers)
        if len(numbers) < len(self.names) or len(probabilities) > len(numbers) or abs(total - 1) > _ROUNDING:
            return "missing"
        return {option: round(p / total, 5) for option, p in zip(self.names, numbers, strict=True)}

    def by_yes(self, probability: Any) -> Outcome:
        """The probabilities of yes and no, given that of yes."""
        if not _is_number(probability) or not 0 <= probability <= 1:
            return "missing"
        yes, no = self.names
        return {yes: round(float(probability), 6), no: round(1.0 - probability, 6)}


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def state_of(requests: Sequence[Request]) -> str:
    """The text that all of these requests ask about."""
    first = requests[0]
    return prompt_text(material_of(first) if first.material else first.prompt)


def typed_questions(requests: Sequence[Request], score_levels: int, *, letters: bool) -> list[TypedQuestion]:
    """The requests as typed questions, each with an id of its own."""
    questions: dict[str, TypedQuestion] = {}
    for request in requests:
        question = _typed(request, score_levels, letters, questions)
        questions[question.id] = question
    return list(questions.values())


def _typed(request: Request, score_levels: int, letters: bool, taken: Mapping[str, TypedQuestion]) -> TypedQuestion:
    instructions = prompt_text(asked_of(request)).strip() if request.material else WHOLE
    kind, names, listed, lettered = _form(request.expects.kind, request.options, request.repeat, score_levels, letters)
    words = f"{instructions}\0{listed}".encode("utf-8", "replace")
    number = int.from_bytes(hashlib.sha256(words).digest()[:8])
    while (name := f"q{number % 10**9:09}") in taken:
        number += 1
    return TypedQuestion(name, kind, instructions, names, lettered)


@lru_cache(256)
def _form(
    asked: str, options: tuple[str, ...], repeat: int, score_levels: int, letters: bool
) -> tuple[Kind, Mapping[str, str], str, bool]:
    """How a question of this kind is asked, the names of its options, their list, and whether names are letters."""
    in_order = ordered(options, repeat)
    kind: Kind = "choice"
    if repeat == 0 and asked == "yes_or_no":
        kind = "yes_or_no"
    elif repeat == 0 and asked == "rating" and len(options) <= score_levels:
        kind = "score"
    lettered = letters and kind == "choice" and len(options) <= len(_LETTERS)
    names = {o: _LETTERS[n] if lettered else label_of(o) for n, o in enumerate(in_order)}
    return kind, names, str(list(names)), lettered
