"""The judge and the embedder ``glm`` against real servers on this machine."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from lrf.errors import (
    ContextTooSmallError,
    JudgeError,
    JudgeMisconfiguredError,
    RateLimitedError,
    RejectedError,
    UnavailableError,
)
from lrf.prompting.expectations import Rating
from lrf.prompting.requests import Reply, Request, Usage
from lrf.prompting.templates import Segment
from lrf.protocols import Capabilities, Embedder, Judge
from lrf.text.chunking import count_tokens
from lrf_glm.embedder import GLMEmbedder
from lrf_glm.judge import GLMJudge
from lrf_glm.settings import THINKING_TOKENS, GLMEmbedderSettings, GLMJudgeSettings
from serving import Serve

KEY = "0123456789abcdef.very-secret"


def request(**changes: Any) -> Request:
    prompt = (Segment("Rate: "), Segment("an answer", trusted=False))
    return Request(**{"prompt": prompt, "expects": Rating(), "max_tokens": 512, "temperature": 0.01, **changes})


def completion(content: str = "[[7]]", finish: str = "stop", **message: Any) -> dict[str, Any]:
    return {
        "model": "glm-4-plus",
        "request_id": "r",
        "choices": [
            {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content, **message}}
        ],
        "usage": {"prompt_tokens": 20, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 8}},
    }


async def ask(
    serve: Serve, reply: Any, asked: Request | None = None, status: int = 200, **settings: Any
) -> tuple[Reply, dict[str, Any]]:
    sent: dict[str, Any] = {}

    async def handler(http: web.Request) -> web.Response:
        sent.update(await http.json())
        sent["path"] = http.path
        return web.json_response(reply, status=status)

    url = await serve(handler) + "/api/paas/v4"
    judge = GLMJudge(GLMJudgeSettings(**{"base_url": url, "model": "glm-4-plus", **settings}))
    try:
        return await judge.complete(asked or request()), sent
    finally:
        await judge.aclose()


async def test_a_plain_request_holds_nothing_but_prompt_limit_and_temperature(serve: Serve) -> None:
    reply, sent = await ask(serve, completion())
    assert sent == {
        "path": "/api/paas/v4/chat/completions",
        "model": "glm-4-plus",
        "messages": [{"role": "user", "content": "Rate: an answer"}],
        "max_tokens": 512,
        "temperature": 0.01,
    }
    assert reply == Reply("[[7]]", "stop", Usage(20, 5, 8), model="glm-4-plus")


@pytest.mark.parametrize(
    ("settings", "fields", "max_tokens"),
    [
        ({"thinking": "disabled"}, {"thinking": {"type": "disabled"}}, 512),
        ({"thinking": "enabled"}, {"thinking": {"type": "enabled"}}, 512 + THINKING_TOKENS),
        ({"thinking": "enabled", "reasoning_tokens": 100}, {"thinking": {"type": "enabled"}}, 612),
        ({"reasoning_effort": "low"}, {"reasoning_effort": "low"}, 512 + THINKING_TOKENS),
        ({"extra_body": {"do_sample": True}}, {"do_sample": True}, 512),
    ],
)
async def test_thinking_is_switched_and_given_room(
    serve: Serve, settings: dict[str, Any], fields: dict[str, Any], max_tokens: int
) -> None:
    _, sent = await ask(serve, completion(), **settings)
    assert {name: sent.get(name) for name in fields} == fields
    assert sent["max_tokens"] == max_tokens


@pytest.mark.parametrize(
    ("model", "thinking", "thinks"),
    [
        ("glm-4-plus", None, False),
        ("glm-4-flash-250414", None, False),
        ("glm-4-plus", "enabled", True),
        ("glm-4.5", None, True),
        ("GLM-4.6", None, True),
        ("glm-4.6", "disabled", False),
        ("glm-5", "disabled", False),
        ("glm-5.2", None, True),
        ("glm-5.3", None, True),
        ("glm-5.3-flash", "disabled", True),
        ("glm-6", "disabled", True),
        ("my-tuned-model", None, False),
    ],
)
def test_a_model_that_thinks_by_itself_gets_room_for_it(model: str, thinking: Any, thinks: bool) -> None:
    settings = GLMJudgeSettings(model=model, thinking=thinking)
    assert settings.tokens_for_thoughts == (THINKING_TOKENS if thinks else 0)
    assert GLMJudge(settings).capabilities.reasoning_tokens == settings.tokens_for_thoughts


def test_the_context_window_is_the_settings() -> None:
    assert GLMJudge(GLMJudgeSettings(model="glm-4-plus", context_window=128_000)).capabilities.context_window == 128_000


async def test_a_model_that_broke_off_is_unavailable(serve: Serve) -> None:
    with pytest.raises(UnavailableError, match="broke off"):
        await ask(serve, completion("half", "network_error"))


async def test_a_structured_reply_is_asked_for_as_a_json_object_with_its_schema_in_the_prompt(serve: Serve) -> None:
    _, sent = await ask(serve, completion('{"rating": 7}'), request(reply_mode="json"), structured=True)
    assert sent["response_format"] == {"type": "json_object"}
    [message] = sent["messages"]
    beginning, _, schema = message["content"].partition("JSON schema, and with nothing else:\n")
    assert beginning.startswith("Rate: an answer\n\n")
    assert json.loads(schema) == json.loads(json.dumps(Rating().schema))


@pytest.mark.parametrize(
    ("status", "code", "raised"),
    [
        (429, "1302", RateLimitedError),
        (429, "1303", RateLimitedError),
        (429, "1305", RateLimitedError),
        (500, "1305", RateLimitedError),
        (429, "1312", RateLimitedError),
        (429, 1302, RateLimitedError),
        (429, "1113", JudgeMisconfiguredError),
        (429, "1304", JudgeMisconfiguredError),
        (429, "1308", JudgeMisconfiguredError),
        (429, "1310", JudgeMisconfiguredError),
        (429, "1112", JudgeMisconfiguredError),
        (401, "1002", JudgeMisconfiguredError),
        (400, "1211", JudgeMisconfiguredError),
        (400, "1261", ContextTooSmallError),
        (400, "1301", RejectedError),
        (400, "1214", RejectedError),
        (400, "1210", RejectedError),
        (400, "1215", RejectedError),
        (400, "1234", UnavailableError),
        (500, "500", UnavailableError),
        (429, "no such code", RateLimitedError),
    ],
)
async def test_its_codes_decide_what_is_retried(
    serve: Serve, status: int, code: str | int, raised: type[JudgeError]
) -> None:
    with pytest.raises(raised) as caught:
        await ask(serve, {"error": {"code": code, "message": "您的账户出了问题"}}, status=status)
    assert type(caught.value) is raised
    assert "您的账户出了问题" in str(caught.value)


@pytest.mark.parametrize(
    ("code", "says"), [("1113", "top it up"), ("1308", "run again after that"), ("1211", "`model`")]
)
async def test_a_code_that_stops_the_run_says_what_to_do(serve: Serve, code: str, says: str) -> None:
    with pytest.raises(JudgeMisconfiguredError, match=says):
        await ask(serve, {"error": {"code": code, "message": "no"}}, status=429)


async def test_a_refused_key_names_its_variable_and_never_itself(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZHIPUAI_API_KEY", KEY)
    with pytest.raises(JudgeMisconfiguredError, match="ZHIPUAI_API_KEY, which is set") as caught:
        await ask(serve, {"error": {"message": f"key {KEY} is wrong"}}, status=401)
    assert KEY not in str(caught.value)


def test_it_satisfies_the_protocols_and_promises_no_probabilities() -> None:
    judge = GLMJudge(GLMJudgeSettings(model="glm-4-plus"))
    assert isinstance(judge, Judge)
    assert judge.capabilities == Capabilities()
    assert GLMJudge(GLMJudgeSettings(model="m", structured=True)).capabilities == Capabilities(structured=True)
    assert isinstance(GLMEmbedder(GLMEmbedderSettings()), Embedder)


def test_both_addresses_are_accepted_and_are_no_part_of_the_identity() -> None:
    china = GLMJudge(GLMJudgeSettings(model="m"))
    world = GLMJudge(GLMJudgeSettings(model="m", base_url="https://api.z.ai/api/paas/v4"))
    assert china.identity == world.identity
    assert china.identity != GLMJudge(GLMJudgeSettings(model="m", thinking="disabled")).identity


async def embedded(serve: Serve, texts: list[str], **settings: Any) -> dict[str, Any]:
    sent: dict[str, Any] = {}

    async def handler(http: web.Request) -> web.Response:
        sent.update(await http.json())
        data = [{"index": i, "embedding": [float(i), 1.0]} for i in range(len(texts))]
        return web.json_response({"model": "embedding-3", "data": data})

    embedder = GLMEmbedder(GLMEmbedderSettings(base_url=await serve(handler), **settings))
    vectors = await embedder.embed(texts, "document")
    assert vectors.tolist() == [[float(i), 1.0] for i in range(len(texts))]
    await embedder.aclose()
    return sent


async def test_texts_are_embedded_in_one_request(serve: Serve) -> None:
    assert await embedded(serve, ["一", "two"], dimensions=256) == {
        "model": "embedding-3",
        "input": ["一", "two"],
        "dimensions": 256,
    }


@pytest.mark.parametrize(("model", "limit"), [("embedding-2", 512), ("embedding-3", 3072)])
async def test_texts_are_cut_to_what_the_model_takes(serve: Serve, model: str, limit: int) -> None:
    sent = await embedded(serve, ["The harbour was rebuilt. 港口重建。" * 1_000], model=model)
    assert 0.8 * limit < count_tokens(sent["input"][0]) < limit


@pytest.mark.parametrize("settings", [{"batch_size": 65}, {"dimensions": 128}, {"dimensions": 4096}])
def test_settings_outside_the_apis_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        GLMEmbedderSettings(**settings)
