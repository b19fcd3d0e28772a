"""How far the document supports what an answer states (LongReward, section 3.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lrf.errors import Unscorable
from lrf.protocols import Context
from lrf.replies import Answer, Statements, Verdict
from lrf.types import Candidate, Chunk, JudgedStatement, Judgement, Sample
from lrf_longreward.asking import all_of, analysis_of
from lrf_longreward.documents import heading
from lrf_longreward.prompts import Prompts
from lrf_longreward.settings import FaithfulnessSettings, Language

SUPPORT: Mapping[str, float] = {"Fully supported": 1.0, "Partially supported": 0.5, "No support": 0.0}
STATEMENTS_TOKENS = 2048
VERDICT_TOKENS = 512
NO_EVIDENCE: Mapping[Language, str] = {
    "en": "(The document has no passage on this.)",
    "zh": "（文档中没有与此有关的段落。）",
}


class Faithfulness:
    """Breaks the answer into factual statements and has each judged on its evidence.

    The rating is 10 times the mean support of the distinct statements. A statement that the answer repeats is
    judged and counted once.
    """

    def __init__(self, settings: FaithfulnessSettings | None = None) -> None:
        self._settings = settings or FaithfulnessSettings()
        self._statements = Prompts("statements", self._settings)
        self._verdict = Prompts("verdict", self._settings)

    async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        template = self._statements.template(ctx.language)
        prompt = template.fill({"question": sample.query, "answer": candidate.text})
        found = (await ctx.ask(prompt, Statements(), max_tokens=STATEMENTS_TOKENS)).value
        statements = distinct(found)
        extra = {"repeated_statements": len(found) - len(statements)}
        if not statements:
            if self._settings.no_statements == "unscored":
                raise Unscorable("no_statements", "the answer makes no factual statement")
            return Judgement(rating=self._settings.no_statements, way="statements", extra=extra)
        if len(statements) > self._settings.max_statements:
            raise Unscorable(
                "too_many_statements",
                f"the answer makes {len(statements)} factual statements; max_statements is "
                f"{self._settings.max_statements}",
            )
        evidence = await ctx.evidence(statements, self._settings.top_k)
        judged = await all_of(
            self._judge(sample, text, chunks, ctx) for text, chunks in zip(statements, evidence, strict=True)
        )
        rating = 10 * sum(s.support for s in judged) / len(judged)
        return Judgement(rating=rating, way="statements", statements=tuple(judged), extra=extra)

    async def _judge(self, sample: Sample, text: str, chunks: Sequence[Chunk], ctx: Context) -> JudgedStatement:
        template = self._verdict.template(ctx.language)
        passages = [f"[{n}]{heading(sample, c)}\n{c.text}" for n, c in enumerate(chunks, start=1)]
        context = "\n\n".join(passages) or NO_EVIDENCE[self._verdict.language(ctx.language)]
        prompt = template.fill({"context": context, "question": sample.query, "statement": text})
        answer = await ctx.ask(prompt, Verdict(SUPPORT), max_tokens=VERDICT_TOKENS)
        probabilities = _by_label(answer)
        return JudgedStatement(
            text=text,
            verdict=answer.value,
            support=SUPPORT[answer.value] if probabilities is None else expected_support(probabilities),
            evidence=tuple(chunk.span for chunk in chunks),
            analysis=analysis_of(answer),
            probabilities=probabilities,
        )


def distinct(statements: Sequence[str]) -> list[str]:
    """The statements without exact repetitions (white space and case aside), in order of first appearance."""
    kept: dict[str, str] = {}
    for statement in statements:
        kept.setdefault(" ".join(statement.split()).casefold(), statement)
    return list(kept.values())


def expected_support(probabilities: Mapping[str, float]) -> float:
    """The expectation of the support, 0 to 1, under probabilities of the labels."""
    return sum(SUPPORT[label] * p for label, p in probabilities.items()) / sum(probabilities.values())


def _by_label(answer: Answer[str]) -> Mapping[str, float] | None:
    """The probabilities of ``[[label]]`` as those of the labels; None unless the verdict was asked for so."""
    if answer.way != "expected" or answer.probabilities is None:
        return None
    return {label: answer.probabilities[f"[[{label}]]"] for label in SUPPORT}
