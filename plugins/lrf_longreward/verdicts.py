"""A judge's verdicts on statements, each on its own evidence: one in a call, or several."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

from lrf.errors import UnscorableError
from lrf.prompting.expectations import Verdicts
from lrf.prompting.requests import Answer
from lrf.prompting.templates import Prompt, Segment, Template
from lrf.protocols import Context
from lrf.types import Chunk, JudgedStatement, Sample, Vote
from lrf_longreward.answers import all_of, analysis_in, object_of
from lrf_longreward.documents import heading
from lrf_longreward.prompts import Prompts
from lrf_longreward.quotations import located
from lrf_longreward.settings import FaithfulnessSettings, Language
from lrf_longreward.statement_questions import StatementQuestions
from lrf_longreward.support import (
    SUPPORT,
    SYNONYMS,
    TOKENS_OF_SEVERAL,
    VERDICT,
    VERDICT_TOKENS,
    judged_by,
    vote_support,
)

NO_EVIDENCE: Mapping[Language, str] = {
    "en": "(The document has no passage on this.)",
    "zh": "（文档中没有与此有关的段落。）",
}

Claim = tuple[str, Sequence[Chunk]]
"""A statement and its evidence."""


class VerdictCheck:
    """Has claims judged. Those that share a call are in an order that a hash shuffles, so none is always first."""

    def __init__(self, settings: FaithfulnessSettings) -> None:
        self._per_call = settings.verdicts_per_call
        self._published = settings.headings == "published"
        self._verdict = Prompts("verdict", settings)
        self._verdicts = Prompts("verdicts", settings)
        self._questions = StatementQuestions(settings)

    async def judge(self, sample: Sample, claims: Sequence[Claim], ctx: Context) -> list[JudgedStatement]:
        """A judgement on each claim, in order. Claims that make the same statement have the same evidence."""
        groups = grouped(claims, 1 if ctx.decides else self._per_call, sample.id)
        judged = {s.text: s for part in await all_of(self._group(sample, g, ctx) for g in groups) for s in part}
        return [judged[text] for text, _ in claims]

    async def _group(self, sample: Sample, claims: Sequence[Claim], ctx: Context) -> list[JudgedStatement]:
        """A verdict on each claim: in one call if there are several; one by one if that fails or there is only one."""
        if len(claims) > 1:
            try:
                judged = await self._together(sample, claims, ctx)
            except UnscorableError as error:
                if error.transient:  # the server is down: more calls don't help
                    raise
            else:
                return [await _with_quotations(s, c, sample, ctx) for s, (_, c) in zip(judged, claims, strict=True)]
        return await all_of(self._alone(sample, text, chunks, ctx) for text, chunks in claims)

    async def _together(self, sample: Sample, claims: Sequence[Claim], ctx: Context) -> list[JudgedStatement]:
        items: list[Segment] = []
        for n, (text, chunks) in enumerate(claims, start=1):
            items += _item(n, last=n == len(claims)).fill(
                {"context": self._passages(sample, chunks, ctx), "statement": text}
            )
        prompt = self._verdicts.template(ctx.language).fill({"items": tuple(items)})
        expects = Verdicts(SUPPORT, len(claims), synonyms=SYNONYMS)
        answer = await ctx.ask(prompt, expects, max_tokens=TOKENS_OF_SEVERAL * len(claims))
        written = object_of(answer)
        return [
            _one_of_several(answer, n, text, chunks, analysis_in(written[f"v{n + 1}"]))
            for n, (text, chunks) in enumerate(claims)
        ]

    async def _alone(self, sample: Sample, text: str, chunks: Sequence[Chunk], ctx: Context) -> JudgedStatement:
        if ctx.decides:
            passages = self._passages(sample, chunks, ctx)
            (judged,) = await self._questions.judge(passages, [text], [chunk.span for chunk in chunks], ctx)
        else:
            answer = await ctx.ask(self._prompt(sample, text, chunks, ctx), VERDICT, max_tokens=VERDICT_TOKENS)
            judged = judged_by(answer, text, [chunk.span for chunk in chunks])
        return await _with_quotations(judged, chunks, sample, ctx)

    def _prompt(self, sample: Sample, text: str, chunks: Sequence[Chunk], ctx: Context) -> Prompt:
        context = self._passages(sample, chunks, ctx)
        values = {"context": context, "question": sample.query, "statement": text}
        return self._verdict.template(ctx.language).fill(values)

    def _passages(self, sample: Sample, chunks: Sequence[Chunk], ctx: Context) -> str:
        before = "文段" if self._published else ""
        passages = [f"[{before}{n}]{heading(sample, c)}\n{c.text}" for n, c in enumerate(chunks, start=1)]
        return "\n\n".join(passages) or NO_EVIDENCE[self._verdict.language(ctx.language)]


def _item(number: int, *, last: bool) -> Template:
    """The frame of one statement with its passages, among several in a prompt."""
    return Template(
        f'<item n="{number}">\n<passages>\n<<context>>\n</passages>\n<statement>\n<<statement>>\n</statement>\n</item>'
        + ("" if last else "\n"),
        ("context", "statement"),
        name="item",
    )


def _one_of_several(
    answer: Answer[tuple[str, ...]], n: int, text: str, chunks: Sequence[Chunk], analysis: str | None
) -> JudgedStatement:
    votes = tuple(Vote(v.judge, v.repeat, v.value[n], v.reply_mode) for v in answer.votes)
    return JudgedStatement(
        text=text,
        verdict=answer.value[n],
        support=statistics.fmean(map(vote_support, votes)) if votes else SUPPORT[answer.value[n]],
        evidence=tuple(chunk.span for chunk in chunks),
        analysis=analysis,
        votes=votes,
    )


async def _with_quotations(
    judged: JudgedStatement, chunks: Sequence[Chunk], sample: Sample, ctx: Context
) -> JudgedStatement:
    return replace(judged, quotations=await located(judged.analysis, judged.text, chunks, sample, ctx))


def grouped(claims: Sequence[Claim], size: int, seed: str) -> list[list[Claim]]:
    """The claims in groups of at most ``size``: as few and as even as possible, in an order that a hash shuffles.

    With a ``size`` of 1 the order stays as it is.
    """
    if size == 1:
        return [[claim] for claim in claims]
    shuffled = sorted(
        claims, key=lambda claim: hashlib.sha256(f"{seed}\0{claim[0]}".encode("utf-8", "replace")).digest()
    )
    count = -(-len(claims) // size)
    return [shuffled[n::count] for n in range(count)]
