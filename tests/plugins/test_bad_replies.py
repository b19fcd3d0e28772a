"""Whatever a judge's server sends in place of a rating: the candidate has a reason of a stable name, and no rating."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from lrf.engine.asked import Asked
from lrf.engine.budget import BudgetLedger
from lrf.engine.judge_calls import JudgeCalls
from lrf.engine.paid_call import Caller
from lrf.errors import UnscorableError
from lrf.prompting.expectations import Rating, Statements
from lrf.prompting.requests import Expectation
from lrf.prompting.templates import Segment
from lrf.store.journal import Journal
from lrf_openai.judge import OpenAIJudge
from lrf_openai.settings import OpenAIJudgeSettings
from serving import Serve

PROMPT = (Segment("Rate this.\n"), Segment("an answer", trusted=False), Segment("\nRating:"))


def says(content: Any, finish: str = "stop", **message: Any) -> bytes:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content, **message}}
    return json.dumps({"model": "m", "choices": [choice]}).encode()


async def ask(
    serve: Serve,
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    expects: Expectation[Any] | None = None,
) -> Any:
    settings = OpenAIJudgeSettings(base_url=await serve(handler), model="m", max_reply_mb=1, request_timeout_s=0.3)
    journal = Journal()
    calls = JudgeCalls("main", OpenAIJudge(settings), journal, BudgetLedger())
    try:
        return await calls.ask(Asked(PROMPT, expects or Rating(), 64, Caller("s", "helpfulness")))
    finally:
        await calls.aclose()
        journal.close()


async def reason_of(serve: Serve, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> str:
    with pytest.raises(UnscorableError) as caught:
        await ask(serve, handler)
    return caught.value.reason


def answering(body: bytes) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type="application/json")

    return answer


CHANNELS = "<|channel|>analysis<|message|>Perhaps [[3]].<|end|><|start|>assistant<|channel|>final<|message|>[[7]]"


@pytest.mark.parametrize(
    "text",
    [
        "Fine.\nRating: [[7/10]]", "分析。\n评分：【【7】】", "[THINK]Perhaps [[3]].[/THINK][[7]]", CHANNELS,
        "<think>hm</think>Rating: [[7]]\n</think>",
    ],
)  # fmt: skip
async def test_dressed_ratings_and_reasoning_in_the_text_are_read_at_the_first_attempt(serve: Serve, text: str) -> None:
    answer = await ask(serve, answering(says(text)))
    assert (answer.value, answer.attempts) == (7, 1)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (says(None, reasoning_content="I'd say [[7]]."), "all of it came as reasoning"),
        (says(None, "tool_calls", tool_calls=[{"id": "x"}]), "the judge called a tool"),
        (says("<think>I'd say [[7]]."), "all of it came as reasoning"),
    ],
)
async def test_a_reply_without_text_says_where_it_went(serve: Serve, body: bytes, words: str) -> None:
    with pytest.raises(UnscorableError, match=words):
        await ask(serve, answering(body))


async def test_statements_whose_last_one_is_not_closed_were_cut_off(serve: Serve) -> None:
    body = says("<statement>It closed.</statement>\n<statement>It will reopen as a cable car in 2031")
    with pytest.raises(UnscorableError) as caught:
        await ask(serve, answering(body), Statements())
    assert caught.value.reason == "truncated_reply"


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrf.engine.retries.backoff_s", lambda n: 0.0)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<html><body>Welcome.</body></html>", "judge_bad_reply"),
        (b"", "judge_bad_reply"),
        (b"\xff\xfe" + says("[[7]]"), "judge_bad_reply"),
        (says("[[7]]")[:-9], "judge_bad_reply"),
        (b'{"choices": []}', "judge_bad_reply"),
        (says("It is \udcff"), "no_rating"),
        (says(""), "no_rating"),
        (says(None), "no_rating"),
        (says(None, refusal="I can't help with that."), "filtered"),
        (says("[[7]]", "content_filter"), "filtered"),
        (says("[[7", "length"), "truncated_reply"),
        (says("[[11]]"), "rating_out_of_range"),
        (says("[[-1]]"), "rating_out_of_range"),
        (says("[[7]] [[3]]"), "ambiguous_rating"),
        (says("Seven of ten."), "no_rating"),
    ],
)
async def test_what_is_no_rating_has_a_named_reason(serve: Serve, body: bytes, reason: str) -> None:
    assert await reason_of(serve, answering(body)) == reason


@pytest.mark.parametrize("told", [True, False], ids=["its length is told", "its length is not told"])
async def test_two_hundred_megabytes_have_a_named_reason(serve: Serve, told: bool) -> None:
    async def answer(http: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "200000000"} if told else {})
        await response.prepare(http)
        for _ in range(200):
            await response.write(b" " * 1_000_000)
        return response

    assert await reason_of(serve, answer) == "judge_bad_reply"


async def test_a_reply_that_never_ends_has_a_named_reason(serve: Serve) -> None:
    async def answer(http: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(http)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.02)

    assert await reason_of(serve, answer) == "judge_timed_out"
