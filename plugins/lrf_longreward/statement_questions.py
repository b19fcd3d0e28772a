"""Statements as short questions on one text, which is the material of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lrf.errors import UnscorableError
from lrf.prompting.expectations import YesOrNo
from lrf.prompting.questions import Question
from lrf.prompting.requests import Answer
from lrf.prompting.templates import Prompt
from lrf.protocols import Context
from lrf.types import JudgedStatement, Span
from lrf_longreward.prompts import Prompts
from lrf_longreward.settings import FaithfulnessSettings
from lrf_longreward.support import VERDICT, VERDICT_TOKENS, judged_by


class StatementQuestions:
    """Has statements judged on a text: by yes or no, or by the three labels."""

    def __init__(self, settings: FaithfulnessSettings) -> None:
        self._asked_by = settings.verdict
        self._material = Prompts("document", settings)
        self._question = Prompts("ask_statement", settings)

    async def judge(
        self, text: str | Prompt, statements: Sequence[str], evidence: Sequence[Span], ctx: Context
    ) -> list[JudgedStatement]:
        """A judgement on each statement; ``evidence``: where the text is from.

        Raises the :class:`lrf.errors.UnscorableError` of the first statement that has no answer.
        """
        material = self._material.template(ctx.language).fill({"context": text})
        asked = self._question.template(ctx.language)
        by_labels = self._asked_by == "labels" or (self._asked_by == "auto" and not ctx.decides_on_material)
        expects: Any = VERDICT if by_labels else YesOrNo()
        questions = [Question(asked.fill({"statement": statement}), expects) for statement in statements]
        answers = await ctx.ask_many(material, questions, max_tokens=VERDICT_TOKENS)
        return [judged_by(_given(a), s, evidence) for a, s in zip(answers, statements, strict=True)]


def _given(answer: Answer[Any] | UnscorableError) -> Answer[Any]:
    """The answer. Raises the error that stands in its place."""
    if isinstance(answer, UnscorableError):
        raise answer
    return answer
