"""The judges ``decisions`` and ``systemone``: many questions on one text in a request, answered by probabilities."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from lrf.errors import RejectedError
from lrf.http.bases import HttpJudge
from lrf.http.error_classes import ErrorCodes
from lrf.http.openai import OPENAI_CODES
from lrf.http.usage import read_usage
from lrf.prompting.requests import Reply, Request, Usage
from lrf.protocols import Capabilities
from lrf.types import JSON
from lrf_decisions import decisions, systemone
from lrf_decisions.questions import Outcome, TypedQuestion, state_of, typed_questions
from lrf_decisions.settings import DecisionServerSettings, DecisionsSettings, SystemOneSettings

_CODES = replace(OPENAI_CODES, context_statuses=frozenset({413}))

KINDS = ("rating", "verdict", "choice", "yes_or_no")

S = TypeVar("S", bound=DecisionServerSettings)


class _DecisionJudge(HttpJudge[S]):
    """What both judges do; a subclass adds its wire format."""

    def __init__(self, settings: S, type_: str, codes: ErrorCodes) -> None:
        super().__init__(
            settings,
            codes,
            identity={"type": type_, **settings.identity_changes()},
            capabilities=Capabilities(
                probabilities=True,
                kinds=KINDS,
                questions=settings.max_questions,
                context_window=settings.context_window,
            ),
        )

    @property
    @abstractmethod
    def _path(self) -> str:
        """Where requests go, after the address."""

    @abstractmethod
    def _body(self, state: str, questions: Sequence[TypedQuestion]) -> dict[str, JSON]:
        """A request's body."""

    @abstractmethod
    def _outcomes(self, value: Mapping[str, Any], questions: Sequence[TypedQuestion]) -> list[Outcome] | None:
        """The outcome of each question in a reply's body; None for a body without answers."""

    async def complete(self, request: Request) -> Reply:
        return (await self.complete_several([request]))[0]

    async def complete_several(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """See :class:`lrf.protocols.AnswersSeveral`."""
        s = self.settings
        if (most := max(len(request.options) for request in requests)) > s.max_choices:
            raise RejectedError(f"a question has {most} options; the server takes {s.max_choices} (`max_choices`)")
        questions = typed_questions(requests, s.score_levels, letters=s.letters)
        body = {**self._body(state_of(requests), questions), **s.extra_body}
        value = await self.client.post(self._path, body, timeout_s=requests[0].deadline_s)
        outcomes = self._outcomes(value, questions) if isinstance(value, dict) else None
        if outcomes is None:
            raise self.client.errors.of_other_json(value, "no decisions: it holds no `answers`")
        model = value.get("model") if isinstance(value.get("model"), str) else None
        usages = read_usage(value).shared(len(requests))
        return [
            _reply(outcome, usage, None if place else model)
            for place, (outcome, usage) in enumerate(zip(outcomes, usages, strict=True))
        ]


def _reply(outcome: Outcome, usage: Usage, model: str | None) -> Reply:
    if isinstance(outcome, str):
        return Reply("", outcome, usage, model=model)
    return Reply("", "stop", usage, outcome, model)


class DecisionsJudge(_DecisionJudge[DecisionsSettings]):
    """A decision model behind OpenAI's Decisions API, or a server that speaks it."""

    def __init__(self, settings: DecisionsSettings) -> None:
        super().__init__(settings, "decisions", _CODES)

    _path = decisions.PATH

    def _body(self, state: str, questions: Sequence[TypedQuestion]) -> dict[str, JSON]:
        return decisions.body(self.settings.model, state, questions)

    def _outcomes(self, value: Mapping[str, Any], questions: Sequence[TypedQuestion]) -> list[Outcome] | None:
        return decisions.outcomes(value, questions)


class SystemOneJudge(_DecisionJudge[SystemOneSettings]):
    """A decision model behind a System One API."""

    def __init__(self, settings: SystemOneSettings) -> None:
        super().__init__(settings, "systemone", _CODES)

    @property
    def _path(self) -> str:
        return systemone.path(self.settings.base_url)

    def _body(self, state: str, questions: Sequence[TypedQuestion]) -> dict[str, JSON]:
        return systemone.body(self.settings.model, state, questions)

    def _outcomes(self, value: Mapping[str, Any], questions: Sequence[TypedQuestion]) -> list[Outcome] | None:
        return systemone.outcomes(value, questions)
