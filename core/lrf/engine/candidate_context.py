"""The context in which a dimension scores one candidate: judges, evidence, and what the candidates share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from lrf.engine.asked import Asked, Outcome
from lrf.engine.checks import check_evidence
from lrf.engine.faults import FaultListener, faults_of, ignore
from lrf.engine.judge_calls import JudgeCalls
from lrf.engine.packing import busy
from lrf.engine.paid_call import Caller
from lrf.engine.panel import NamedDimension, ask_panel, spread
from lrf.engine.rescoring import RescoringRounds
from lrf.engine.sample_scope import SampleScope
from lrf.errors import Reason, UnscorableError
from lrf.prompting.expectations import Ratable, Rating
from lrf.prompting.questions import Question
from lrf.prompting.requests import Answer, Expectation
from lrf.prompting.templates import Prompt
from lrf.text.chunking import chunk_document
from lrf.text.tokenizers import DEFAULT, TokenizerName
from lrf.types import Candidate, Chunk, Document, Judgement, Vote

T = TypeVar("T")

Surround = Callable[[Sequence[Document], Sequence[Chunk]], list[Chunk]]


@dataclass(frozen=True, slots=True)
class CandidateContext:
    """The engine's side of :class:`lrf.protocols.Context`: one dimension at work on one candidate.

    Parameters
    ----------
    judges: by name, all of the engine.
    rounds: what is to be scored again.
    surround: how chunks get the text around them.
    on_fault: called with each fault of a retriever.
    """

    scope: SampleScope
    named: NamedDimension
    candidate: Candidate
    judges: Mapping[str, JudgeCalls]
    rounds: RescoringRounds
    surround: Surround
    on_fault: FaultListener = ignore
    _votes: list[tuple[Vote, ...]] = field(default_factory=list)
    _shown: list[float] = field(default_factory=list)

    def complete(self, judgement: Judgement) -> Judgement:
        """The judgement with the votes of all judges and repeats, and the share of the answer that the judges saw."""
        asked = [votes for votes in self._votes if votes]
        if asked and not judgement.votes:
            of_one = [vote.value for vote in asked[0]] if len(asked) == 1 else []
            votes = tuple(vote for votes in asked for vote in votes)
            judgement = replace(judgement, votes=votes, spread=judgement.spread or spread(of_one))
        if self._shown:
            judgement = replace(judgement, seen={"answer": max(self._shown), **judgement.seen})
        return judgement

    @property
    def language(self) -> str:
        return self.scope.language

    @property
    def context_window(self) -> int | None:
        asked = (self.judges[name].judge.capabilities for name in self.named.judges)
        windows = [
            can.context_window - can.reasoning_tokens
            for can in asked
            if can.context_window is not None and (can.kinds is None or can.questions > 1)
        ]
        return min(windows, default=None)

    @property
    def decides(self) -> bool:
        asked = (self.judges[name].judge.capabilities for name in self.named.judges)
        return any(can.questions > 1 and can.kinds is not None for can in asked)

    @property
    def decides_on_material(self) -> bool:
        return any(self.judges[name].judge.capabilities.questions > 1 for name in self.named.judges)

    async def ask(self, prompt: Prompt, expects: Expectation[T], *, max_tokens: int = 512) -> Answer[T]:
        asked, place = Asked(prompt, expects, max_tokens, self._caller()), len(self._votes)
        self._votes.append(())
        judges = [self.judges[name] for name in self.named.judges_for(expects)]
        with busy():
            (outcome,) = await ask_panel(judges, self.named.asking, [asked])
        if isinstance(outcome, UnscorableError):
            raise outcome
        self._note(place, asked, outcome)
        return outcome

    async def ask_many(
        self, material: Prompt, questions: Sequence[Question[T]], *, max_tokens: int = 512
    ) -> list[Answer[T] | UnscorableError]:
        caller, form = self._caller(), self.language
        return await self._asked(
            [Asked(q.asked, q.expects, max_tokens, caller, material=material, form=form) for q in questions]
        )

    def _caller(self) -> Caller:
        if self.named.judge is None:
            raise UnscorableError(
                Reason.NO_JUDGE, f"the dimension {self.named.name} asks a judge, but its plugin names no need"
            )
        sample, take = self.scope.sample.id, self.scope.take
        return Caller(
            sample,
            self.named.name,
            self.scope.position,
            round=self.rounds.of(self.named.name),
            again=0 if take else self.rounds.again(sample, self.candidate.id),
            take=take,
            candidate=self.candidate.id,
        )

    async def _asked(self, asked: Sequence[Asked[Any]]) -> list[Outcome]:
        """The outcome of each of these questions."""
        first = len(self._votes)
        self._votes.extend(() for _ in asked)
        by_judges: dict[tuple[tuple[str, ...], bool], list[int]] = {}
        for place, one in enumerate(asked):
            asks = self.named.judges_for(one.expects), isinstance(one.expects, Ratable)
            by_judges.setdefault(asks, []).append(place)
        outcomes: dict[int, Outcome] = {}
        for (names, _), places in by_judges.items():
            judges = [self.judges[name] for name in names]
            answers = await ask_panel(judges, self.named.asking, [asked[place] for place in places])
            outcomes.update(zip(places, answers, strict=True))
        for place, outcome in outcomes.items():
            if not isinstance(outcome, UnscorableError):
                self._note(first + place, asked[place], outcome)
        if any(not isinstance(outcome, UnscorableError) for outcome in outcomes.values()):
            self._shown.extend(_shares(self.candidate.text, asked[0].material))
        return [outcomes[place] for place in range(len(asked))]

    def _note(self, place: int, asked: Asked[Any], answer: Answer[Any]) -> None:
        """Keep what a judgement tells of an answered question: how much of the answer was shown, and the votes."""
        self._shown.extend(_shares(self.candidate.text, asked.prompt))
        if isinstance(asked.expects, Rating):
            self._votes[place] = answer.votes

    async def evidence(self, queries: Sequence[str], top_k: int | None = None) -> list[list[Chunk]]:
        retriever = self.named.retriever
        if retriever is None:
            raise UnscorableError(Reason.NO_RETRIEVER, f"the dimension {self.named.name} needs a retriever")
        title, component = f"retrievers.{retriever}", self.scope.retrievers[retriever]
        with faults_of(title, component, Reason.RETRIEVER_ERROR, self.on_fault), busy():
            index = await asyncio.shield(self.scope.index(retriever))
            evidence = await index.search(queries, top_k)
        return check_evidence(title, component, self.scope.sample.documents, queries, evidence, top_k)

    def around(self, chunks: Sequence[Chunk]) -> list[Chunk]:
        return self.surround(self.scope.sample.documents, chunks)

    async def chunks(self, tokens: int, tokenizer: TokenizerName = DEFAULT) -> tuple[Chunk, ...]:
        documents = self.scope.sample.documents

        def cut() -> tuple[Chunk, ...]:
            return tuple(chunk for d in documents for chunk in chunk_document(d, tokens, tokenizer=tokenizer))

        return await self.scope.once(f"chunks\0{tokens}\0{tokenizer}", lambda: asyncio.to_thread(cut))

    async def once(self, key: str, make: Callable[[], Awaitable[T]]) -> T:
        return await self.scope.once(f"{self.named.name}\0{key}", make)


def _shares(answer: str, prompt: Prompt) -> list[float]:
    """The shares, 0 to 1, of the answer that are in segments of the prompt; segments without any of it are left out."""
    whole = answer.strip()
    texts = [text for s in prompt if not s.trusted and (text := s.original.strip())]
    if whole in texts:
        return [1.0]
    return [1.0 if whole in t else len(t) / len(whole) for t in texts if whole and (whole in t or t in whole)]
