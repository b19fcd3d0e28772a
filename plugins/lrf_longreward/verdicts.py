"""A judge's verdicts on statements, each on its own evidence: alone, or several in one call."""

from __future__ import annotations

import hashlib
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

from lrf.errors import UnscorableError
from lrf.prompting.expectations import Verdict, Verdicts
from lrf.prompting.requests import Answer
from lrf.protocols import Context
from lrf.types import Chunk, JudgedStatement, Sample, Vote
from lrf_longreward.asking import all_of, analysis_in, analysis_of, object_of
from lrf_longreward.documents import heading
from lrf_longreward.prompts import Prompts
from lrf_longreward.quotations import located
from lrf_longreward.settings import FaithfulnessSettings, Language

SUPPORT: Mapping[str, float] = {"Fully supported": 1.0, "Partially supported": 0.5, "No support": 0.0}
VERDICT_TOKENS, TOKENS_OF_SEVERAL = 512, 192
NO_EVIDENCE: Mapping[Language, str] = {
    "en": "(The document has no passage on this.)",
    "zh": "（文档中没有与此有关的段落。）",
}


Claim = tuple[str, Sequence[Chunk]]
"""A statement and its evidence."""


class VerdictCheck:
    """Has claims judged. Several can share a call, in an order that a hash shuffles, so that none is always first."""

    def __init__(self, settings: FaithfulnessSettings) -> None:
        self._per_call = settings.verdicts_per_call
        self._verdict = Prompts("verdict", settings)
        self._verdicts = Prompts("verdicts", settings)

    async def judge(self, sample: Sample, claims: Sequence[Claim], ctx: Context) -> list[JudgedStatement]:
        """A judgement on each claim, in order; no two claims make the same statement."""
        groups = grouped(claims, self._per_call, sample.id)
        judged = {s.text: s for part in await all_of(self._group(sample, g, ctx) for g in groups) for s in part}
        return [judged[text] for text, _ in claims]

    async def _group(self, sample: Sample, claims: Sequence[Claim], ctx: Context) -> list[JudgedStatement]:
        """A verdict on each claim: in one call if there are several, else, or if that brings none, one by one."""
        if len(claims) > 1:
            try:
                judged = await self._together(sample, claims, ctx)
            except UnscorableError as error:
                if error.transient:  # the server is away: asking it more often doesn't help
                    raise
            else:
                return [await _with_quotations(s, c, sample, ctx) for s, (_, c) in zip(judged, claims, strict=True)]
        return await all_of(self._alone(sample, text, chunks, ctx) for text, chunks in claims)

    async def _together(self, sample: Sample, claims: Sequence[Claim], ctx: Context) -> list[JudgedStatement]:
        items = []
        for n, (text, chunks) in enumerate(claims, start=1):
            inner = f"<passages>\n{self._passages(sample, chunks, ctx)}\n</passages>\n<statement>\n{text}\n</statement>"
            items.append(f'<item n="{n}">\n{_within_item(inner)}\n</item>')
        prompt = self._verdicts.template(ctx.language).fill({"items": "\n".join(items)})
        answer = await ctx.ask(prompt, Verdicts(SUPPORT, len(claims)), max_tokens=TOKENS_OF_SEVERAL * len(claims))
        written = object_of(answer)
        judged = []
        for i, (text, chunks) in enumerate(claims):
            votes = tuple(Vote(o.judge, o.repeat, o.value[i], o.reply_mode) for o in answer.votes)
            judged.append(
                JudgedStatement(
                    text=text,
                    verdict=answer.value[i],
                    support=statistics.fmean(map(_support, votes)) if votes else SUPPORT[answer.value[i]],
                    evidence=tuple(chunk.span for chunk in chunks),
                    analysis=analysis_in(written[f"v{i + 1}"]),
                    votes=votes,
                )
            )
        return judged

    async def _alone(self, sample: Sample, text: str, chunks: Sequence[Chunk], ctx: Context) -> JudgedStatement:
        template = self._verdict.template(ctx.language)
        context = self._passages(sample, chunks, ctx)
        prompt = template.fill({"context": context, "question": sample.query, "statement": text})
        answer = await ctx.ask(prompt, Verdict(SUPPORT), max_tokens=VERDICT_TOKENS)
        probabilities = _by_label(answer)
        judged = JudgedStatement(
            text=text,
            verdict=answer.value,
            support=SUPPORT[answer.value] if probabilities is None else expected_support(probabilities),
            evidence=tuple(chunk.span for chunk in chunks),
            analysis=analysis_of(answer),
            probabilities=probabilities,
            votes=answer.votes,
        )
        return await _with_quotations(judged, chunks, sample, ctx)

    def _passages(self, sample: Sample, chunks: Sequence[Chunk], ctx: Context) -> str:
        passages = [f"[{n}]{heading(sample, c)}\n{c.text}" for n, c in enumerate(chunks, start=1)]
        return "\n\n".join(passages) or NO_EVIDENCE[self._verdict.language(ctx.language)]


async def _with_quotations(
    judged: JudgedStatement, chunks: Sequence[Chunk], sample: Sample, ctx: Context
) -> JudgedStatement:
    return replace(judged, quotations=await located(judged.analysis, judged.text, chunks, sample, ctx))


def grouped(claims: Sequence[Claim], size: int, seed: str) -> list[list[Claim]]:
    """The claims in groups of at most ``size``, as few and as even as can be, in an order that a hash shuffles.

    Groups of one keep the order as it is.
    """
    if size == 1:
        return [[claim] for claim in claims]
    shuffled = sorted(
        claims, key=lambda claim: hashlib.sha256(f"{seed}\0{claim[0]}".encode("utf-8", "replace")).digest()
    )
    count = -(-len(claims) // size)
    return [shuffled[n::count] for n in range(count)]


def _within_item(text: str) -> str:
    """The text without tags of items: what stands in one can't end it or pretend to be another."""
    return re.sub(r"<(?=\s*/?\s*items?\b)", "‹", text, flags=re.IGNORECASE)


def _support(vote: Vote) -> float:
    """The support, 0 to 1, that one draw of one judge gives."""
    if vote.probabilities is not None:
        return expected_support({label: vote.probabilities[f"[[{label}]]"] for label in SUPPORT})
    return SUPPORT[vote.value]


def spread(judged: Sequence[JudgedStatement]) -> float | None:
    """The standard deviation of the ratings that each judge and draw alone would give; None without several.

    Only those count that gave a verdict on every statement.
    """
    by_draw: dict[tuple[str, int], list[float]] = {}
    for vote in (o for s in judged for o in s.votes):
        by_draw.setdefault((vote.judge, vote.repeat), []).append(_support(vote))
    ratings = [10 * statistics.fmean(supports) for supports in by_draw.values() if len(supports) == len(judged)]
    return statistics.stdev(ratings) if len(ratings) > 1 else None


def expected_support(probabilities: Mapping[str, float]) -> float:
    """The expectation of the support, 0 to 1, under probabilities of the labels."""
    return sum(SUPPORT[label] * p for label, p in probabilities.items()) / sum(probabilities.values())


def _by_label(answer: Answer[str]) -> Mapping[str, float] | None:
    """The probabilities of ``[[label]]`` as those of the labels; None unless the judge gave some, or several spoke."""
    if answer.probabilities is None or (answer.reply_mode != "logprobs" and not answer.votes):
        return None
    return {label: answer.probabilities[f"[[{label}]]"] for label in SUPPORT}
