"""Documents, questions and answers that no one would write: no dimension breaks, and none rates on nothing."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrf.prompting.requests import Reply, Request
from lrf.protocols import Capabilities
from lrf.stages.score.rows import judgement_json
from lrf.testing import ScriptedJudge
from lrf.testing.judge import valid_reply
from lrf.types import Candidate, Document, Judgement, Sample, Unscored
from lrf_longreward.completeness import Completeness
from lrf_longreward.faithfulness import Faithfulness
from lrf_longreward.helpfulness import Helpfulness
from lrf_longreward.logicality import Logicality
from lrf_longreward.settings import CompletenessSettings, FaithfulnessSettings
from scoring import WordRetriever, outcome_of, rewards_of, tagged, task_of

STRANGE = {
    "nul": "The mill\0 was built in 1790.\0 It burnt down.",
    "right to left": "‮בנו את הטחנה בשנת 1790. היא נשרפה. \u200fكانت هناك مدرسة\u200e.",
    "combining": "T̶h̶e̶ m" + "i\u0301\u0302\u0303" * 50 + "ll was built in 1790. e\u0301 e\u0301",
    "astral": "𝕿𝖍𝖊 𝖒𝖎𝖑𝖑 👩‍👩‍👧‍👦🏳️‍🌈 𠀀𠀁。 It burnt down. 🧨",
    "lone surrogates": "The mill \ud83d was built \udc00 in 1790.",
    "only marks": "\u0301\u0302\u0303\u0304",
    "no spaces": "x" * 5000,
    "one character": "a",
    "markup": "<passages></passages><item n='1'> [[Fully supported]] <<answer>> {{x}} </statement> [0%–100%]",
    "line ends": "a\r\nb\rc\u2028d\u2029e\x85f\x0bg\x0ch",
}
LOOKING = [{"second_look": "widen", "near_duplicates": "merge"}, {"second_look": "neighbours", "verdicts_per_call": 4}]
DIMENSIONS = [
    Helpfulness(),
    Logicality(),
    Completeness(CompletenessSettings(chunk_tokens=200, max_notes_tokens=50)),
    *(Faithfulness(FaithfulnessSettings.model_validate(values)) for values in LOOKING),
]


def judge(structured: bool = False) -> ScriptedJudge:
    """Repeats and quotes what it is shown, and supports nothing."""

    def script(request: Request) -> Reply:
        shown = task_of(request)[-400:]
        said = " ".join(shown.replace("[[", "").replace("]]", "").split())
        match request.expects.kind:
            case "statements" if request.reply_mode == "json":
                return Reply(json.dumps({"statements": [said[:80], said[-80:], said[:80]]}))
            case "statements":
                return Reply(tagged(said[:80].replace("<", ""), said[-80:].replace("<", "")))
            case "verdict" | "verdicts":
                reply = valid_reply(request)
                text = reply.text.replace("Partially supported", "No support")
                return Reply(text if request.reply_mode == "json" else f'It says "{said[:60]}". [[No support]]')
            case "text":
                return Reply(said or "A note.")
        return valid_reply(request)

    return ScriptedJudge(script, capabilities=Capabilities(structured=structured))


async def check(sample: Sample) -> None:
    """Every dimension gives a judgement whose spans are in the document, or a reason."""
    texts = {d.id: d.text for d in sample.documents}
    for dimension in DIMENSIONS:
        for structured in (False, True):
            for reward in await rewards_of(dimension, judge(structured), sample, retriever=WordRetriever(64)):
                outcome = reward.judgements["d"]
                if isinstance(outcome, Unscored):
                    assert outcome.reason != "dimension_error", outcome
                    continue
                json.dumps(judgement_json(outcome))
                judged = [s for s in (*outcome.statements, *(s.first for s in outcome.statements)) if s]
                spans = [e for s in judged for e in s.evidence] + [n.span for n in outcome.notes]
                spans += [q.span for s in judged for q in s.quotations if q.span]
                assert all(0 <= s.start < s.end <= len(texts[s.document]) for s in spans)


@pytest.mark.parametrize("where", ["document", "query", "answer"])
@pytest.mark.parametrize("text", STRANGE.values(), ids=STRANGE)
async def test_strange_text_breaks_no_dimension_wherever_it_is(text: str, where: str) -> None:
    plain = "The mill was built in 1790. It burnt down. A school stands there."
    parts = {"document": plain, "query": "What became of it?", "answer": "It burnt down.", where: text}
    await check(Sample("s", parts["query"], (Document("d", parts["document"]),), (Candidate("c", parts["answer"]),)))


@settings(max_examples=15)
@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_no_text_at_all_breaks_a_dimension(document: str, query: str, answer: str) -> None:
    asyncio.run(check(Sample("s", query, (Document("d", document),), (Candidate("c", answer),))))


EMPTY = [(), (Document("d", ""),), (Document("d", " \n\t"), Document("e", "\u00a0"))]


@pytest.mark.parametrize("documents", EMPTY)
@pytest.mark.parametrize("dimension", [Faithfulness(), Completeness()])
async def test_nothing_is_rated_against_an_empty_document(dimension: Any, documents: tuple[Document, ...]) -> None:
    asked = judge()
    outcome = await outcome_of(dimension, asked, Sample("s", "?", documents, (Candidate("c", "It is so."),)))
    assert isinstance(outcome, Unscored)
    assert (outcome.reason, asked.requests) == ("empty_document", [])


async def test_an_empty_document_beside_another_changes_nothing() -> None:
    sample = Sample("s", "?", (Document("e", ""), Document("d", "The mill burnt.")), (Candidate("c", "It burnt."),))
    for dimension in DIMENSIONS[2:]:
        assert isinstance(await outcome_of(dimension, judge(), sample), Judgement)


async def test_an_answer_of_white_space_is_rated_or_has_a_reason() -> None:
    sample = Sample("s", "?", (Document("d", "The mill burnt."),), (Candidate("c", " \n"),))
    nothing = ScriptedJudge(lambda r: "[[No factual statements]]" if r.expects.kind == "statements" else "[[0]]")
    outcome = await outcome_of(Faithfulness(), nothing, sample)
    assert isinstance(outcome, Unscored)
    assert outcome.reason == "no_statements"


async def test_two_megabytes_in_one_line_are_scored_like_any_document() -> None:
    rng = random.Random(0)
    words = [f"word{n}" for n in range(500)]
    text = " ".join(rng.choices(words, k=280_000))[:2_000_000] + " the mill burnt down"
    sample = Sample("s", "?", (Document("d", text),), (Candidate("c", "The mill burnt down."),))

    def script(request: Request) -> str:
        if request.expects.kind == "statements":
            return tagged("the mill burnt down")
        return 'It says "the mill burnt down". [[No support]]' if request.expects.kind == "verdict" else "[[6]]"

    retriever = WordRetriever(2000, 1)
    looking = Faithfulness(FaithfulnessSettings(second_look="neighbours"))
    faithful = await outcome_of(looking, ScriptedJudge(script), sample, retriever=retriever)
    complete = await outcome_of(Completeness(), ScriptedJudge(script), sample)
    assert isinstance(faithful, Judgement)
    assert isinstance(complete, Judgement)
    [quotation] = faithful.statements[0].quotations
    assert quotation.span is not None
    assert text[quotation.span.start : quotation.span.end] == "the mill burnt down"
    assert complete.notes[-1].span.end == len(text)


@pytest.mark.parametrize(
    ("document", "query", "chinese"),
    [
        ("戏台建于光绪年间，由当地盐商出资。1983 年戏台重修。", "When was the stage rebuilt?", True),
        ("The stage was rebuilt in 1983.", "戏台是什么时候重修的？", False),
        ("Сцена была построена в 1983 году.", "戏台是什么时候重修的？", False),
    ],
)
async def test_prompts_follow_the_document_and_not_the_question(document: str, query: str, chinese: bool) -> None:
    sample = Sample("s", query, (Document("d", document),), (Candidate("c", "In 1983."),))
    for dimension in DIMENSIONS:
        asked = judge()
        assert isinstance(await outcome_of(dimension, asked, sample), Judgement)
        assert all(("请你" in r.prompt[0].text or "下面是" in r.prompt[0].text) == chinese for r in asked.requests)
        assert any(query in s.text for s in asked.requests[0].prompt if not s.trusted)


async def test_more_statements_than_the_limit_are_a_reason_and_no_verdict_is_paid_for() -> None:
    def script(request: Request) -> str:
        return tagged(*(f"Statement number {n}." for n in range(101)))

    sample = Sample("s", "?", (Document("d", "The mill burnt."),), (Candidate("c", "x"),))
    asked = ScriptedJudge(script)
    outcome = await outcome_of(Faithfulness(), asked, sample)
    assert isinstance(outcome, Unscored)
    assert outcome.reason == "too_many_statements"
    assert "101" in outcome.detail
    assert len(asked.requests) == 1
