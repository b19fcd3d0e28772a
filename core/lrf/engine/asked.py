"""What a judge is asked, and for whom: one question, on its own or on material that others share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from lrf.engine.paid_call import Caller
from lrf.errors import UnscorableError
from lrf.prompting.questions import Question, with_reply_form
from lrf.prompting.requests import Answer, Expectation, RatingMode
from lrf.prompting.templates import Prompt

T_co = TypeVar("T_co", covariant=True)

Outcome = Answer[Any] | UnscorableError
"""The outcome of a question: its answer, or the error that says why there is none."""


@dataclass(frozen=True, slots=True)
class Asked(Generic[T_co]):
    """A question to a judge.

    Parameters
    ----------
    prompt: all that the judge reads; of a question on material, the question's own words.
    max_tokens: limit of what is written.
    reply_mode: how it is asked for, "auto" for the best way that the judge can.
    repeat: draws above 0 are made at the temperature of retries, so that they can differ.
    material: what comes before, which other questions share.
    form: the language of the instructions on how to answer, for a judge that writes; None for a prompt that has its
        own.
    """

    prompt: Prompt
    expects: Expectation[T_co]
    max_tokens: int
    caller: Caller
    reply_mode: RatingMode = "auto"
    repeat: int = 0
    material: Prompt = ()
    form: str | None = None

    def for_writing(self) -> Prompt:
        """The prompt for a judge that writes."""
        if self.form is None:
            return self.prompt
        return with_reply_form(self.material, Question(self.prompt, self.expects), self.form)
