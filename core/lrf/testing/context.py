"""What a dimension works with, without an engine behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from lrf.engine.judge_calls import RETRY_TEMPERATURE
from lrf.engine.passages import around
from lrf.errors import JudgeError, ParseError, UnscorableError
from lrf.prompting.questions import Question, with_reply_form
from lrf.prompting.reasoning import without_thoughts
from lrf.prompting.requests import Answer, Expectation, Request
from lrf.prompting.templates import Prompt, restored
from lrf.protocols import Judge
from lrf.testing.embedder import HashEmbedder
from lrf.testing.judge import ScriptedJudge
from lrf.text.chunking import chunk_document
from lrf.text.languages import language_of
from lrf.text.tokenizers import DEFAULT, TokenizerName
from lrf.types import Chunk, Sample

T = TypeVar("T")

EVIDENCE_TOKENS = 128
TOP_K = 5


class DirectContext:
    """A :class:`lrf.protocols.Context` that asks a judge directly: no journal, no retries of calls, no limits.

    For a dimension's own tests: ``await dimension.score(sample, candidate, DirectContext(sample))``. Evidence is
    found by :class:`HashEmbedder` among chunks of 128 tokens.

    Parameters
    ----------
    sample: the sample that is scored; use one context for all of its candidates, since ``once`` is kept in it.
    judge: the judge to ask; a :class:`ScriptedJudge` with valid replies when left out.
    attempts: how often it is asked while its reply can't be read. The engine asks five times.
    """

    def __init__(self, sample: Sample, judge: Judge | None = None, *, attempts: int = 1) -> None:
        self._sample = sample
        self._attempts = attempts
        self._judge = judge or ScriptedJudge()
        self._embedder = HashEmbedder()
        self._made: dict[str, asyncio.Future[Any]] = {}

    @property
    def language(self) -> str:
        return language_of(self._sample.context)

    @property
    def context_window(self) -> int | None:
        return self._judge.capabilities.context_window

    @property
    def decides(self) -> bool:
        can = self._judge.capabilities
        return can.questions > 1 and can.kinds is not None

    @property
    def decides_on_material(self) -> bool:
        return self._judge.capabilities.questions > 1

    async def ask(self, prompt: Prompt, expects: Expectation[T], *, max_tokens: int = 512) -> Answer[T]:
        for attempt in range(self._attempts):
            request = Request(prompt, expects, max_tokens, RETRY_TEMPERATURE if attempt else 0.01, attempt=attempt)
            try:
                reply = without_thoughts(await self._judge.complete(request))
                value = restored(expects.read(reply, "text"), prompt)
                return Answer(value, restored(reply.text, prompt), attempts=attempt + 1)
            except ParseError as error:
                failure = UnscorableError(error.reason, error.detail)
            except JudgeError as error:
                raise UnscorableError(error.reason, str(error), transient=True) from error
        raise failure

    async def ask_many(
        self, material: Prompt, questions: Sequence[Question[T]], *, max_tokens: int = 512
    ) -> list[Answer[T] | UnscorableError]:
        async def answer(question: Question[T]) -> Answer[T] | UnscorableError:
            prompt = with_reply_form(material, question, self.language)
            try:
                return await self.ask(prompt, question.expects, max_tokens=max_tokens)
            except UnscorableError as error:
                return error

        return [await answer(question) for question in questions]

    async def evidence(self, queries: Sequence[str], top_k: int | None = None) -> list[list[Chunk]]:
        chunks = await self.chunks(EVIDENCE_TOKENS)
        if not chunks or not queries:
            return [[] for _ in queries]
        passages = await self._embedder.embed([c.text for c in chunks], "document")
        likeness = await self._embedder.embed(queries, "query") @ passages.T  # (queries, chunks)
        best = (-likeness).argsort(axis=1, kind="stable")[:, : TOP_K if top_k is None else top_k]
        return [[chunks[int(i)] for i in sorted(row)] for row in best]

    def around(self, chunks: Sequence[Chunk]) -> list[Chunk]:
        return around(self._sample.documents, chunks)

    async def chunks(self, tokens: int, tokenizer: TokenizerName = DEFAULT) -> tuple[Chunk, ...]:
        async def cut() -> tuple[Chunk, ...]:
            return tuple(c for d in self._sample.documents for c in chunk_document(d, tokens, tokenizer=tokenizer))

        return await self.once(f"\0chunks {tokens} {tokenizer}", cut)

    async def once(self, key: str, make: Callable[[], Awaitable[T]]) -> T:
        if key not in self._made:
            self._made[key] = asyncio.ensure_future(make())
        made: T = await asyncio.shield(self._made[key])
        return made
