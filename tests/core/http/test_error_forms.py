"""Errors in all the forms in which servers word them: their class, their words, the server's address and the model."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf.errors import (
    BadReplyError,
    ContextTooSmallError,
    JudgeError,
    JudgeMisconfiguredError,
    RateLimitedError,
    RejectedError,
    UnavailableError,
)
from lrf.http.client import HttpClient
from lrf.http.openai import OPENAI_CODES, check_chat, post_chat, post_embeddings, read_chat
from lrf.http.settings import EndpointSettings
from lrf.prompting.requests import Usage
from sockets import saying, socket_server, whole

CUT = {"index": 0, "message": {"role": "assistant", "content": "It is"}}


def body_of(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else json.dumps(value).encode()


async def chat(value: Any, status: str = "200 OK") -> Any:
    """What comes of a chat completion that the server answers with this."""
    async with socket_server(saying(whole(body_of(value), status))) as port:
        settings = EndpointSettings(base_url=f"http://127.0.0.1:{port}/v1", model="the-model", api_key_env="LRF_UNSET")
        client = HttpClient(settings, OPENAI_CODES)
        try:
            return await post_chat(client, {})
        finally:
            await client.aclose()


async def error_of(value: Any, status: str = "200 OK") -> JudgeError:
    with pytest.raises(JudgeError) as caught:
        await chat(value, status)
    return caught.value


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["text", "content", "0"]), inner),
    max_leaves=4,
)


@given(ANY_JSON, st.sampled_from(["choices", "choice", "message", "content"]))
def test_whatever_stands_in_place_of_a_part_of_a_reply_it_is_read_or_an_error_that_names_the_server(
    value: Any, place: str
) -> None:
    content = value if place == "content" else "It is. Rating: [[7]]"
    message = value if place == "message" else {"content": content}
    choices = value if place == "choices" else [value if place == "choice" else {"message": message}]
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    client = HttpClient(EndpointSettings(base_url="http://127.0.0.1:1/v1", model="the-model", api_key_env="LRF_UNSET"))
    refused: JudgeError | None = None
    try:
        checked = check_chat(client, {"choices": choices, "usage": usage})
    except JudgeError as error:
        refused = error
    if refused is None:
        assert isinstance(read_chat(checked).text, str)
    else:
        assert "http://127.0.0.1:1/v1 (model the-model): " in str(refused)
        assert refused.usage == Usage(7, 3)


@pytest.mark.parametrize(
    ("value", "raised", "words"),
    [
        ({"choices": None, "error": {"message": "Provider error", "code": 429}}, RateLimitedError, "Provider error"),
        ({"choices": [], "error": {"message": "over", "code": "429"}}, RateLimitedError, "over"),
        ({"error": "rate limit reached"}, RateLimitedError, "rate limit reached"),
        ([{"error": {"code": 503, "message": "overloaded"}}], UnavailableError, "overloaded"),
        ({"errors": [{"message": "Insufficient credits"}]}, JudgeMisconfiguredError, "Insufficient credits"),
        ({"code": 500, "msg": "system busy"}, UnavailableError, "system busy"),
        ({"code": "InvalidApiKey", "message": "Invalid API-key provided."}, JudgeMisconfiguredError, "Invalid API-key"),
        ({"error_code": 18, "error_msg": "Open api qps request limit reached"}, RateLimitedError, "qps request"),
        ({"base_resp": {"status_code": 1008, "status_msg": "余额不足"}}, JudgeMisconfiguredError, "余额不足"),
        ({"Response": {"Error": {"Code": "Busy", "Message": "Try again later"}}}, UnavailableError, "Try again later"),
        ({"detail": "Not authenticated"}, JudgeMisconfiguredError, "Not authenticated"),
        ({"success": False, "message": "The service is down"}, UnavailableError, "The service is down"),
        ({"error": {"message": "prompt is too long: 9 tokens"}}, ContextTooSmallError, "prompt is too long"),
        ({"choices": [{**CUT, "finish_reason": "error"}]}, UnavailableError, r"broke off \(error\)"),
        (
            {"choices": [{**CUT, "finish_reason": "error", "error": {"code": 502, "message": "idle upstream"}}]},
            UnavailableError,
            "idle upstream",
        ),
        (
            {"error": {"message": "Provider returned error", "code": 502, "metadata": {"raw": "the disk is full"}}},
            UnavailableError,
            "Provider returned error: the disk is full",
        ),
        ('data: {"error": {"message": "overloaded", "code": 529}}\n\n', UnavailableError, "overloaded"),
        ("<html><title>Sign in</title><body>Welcome", JudgeMisconfiguredError, "a web page: Sign in Welcome; check"),
        ("<!DOCTYPE html><h1>We'll be back</h1>", BadReplyError, "a web page: We'll be back; check `base_url`"),
        ({"object": "list"}, BadReplyError, "no completion: it holds no choices"),
    ],
)
async def test_an_error_inside_a_200_is_read_as_that_error(value: Any, raised: type[JudgeError], words: str) -> None:
    error = await error_of(value)
    assert type(error) is raised
    assert words.replace("\\", "") in str(error)
    assert "127.0.0.1" in str(error)
    assert "(model the-model)" in str(error)


@pytest.mark.parametrize(
    "words",
    [
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 40000 tokens.",
        "request (40000 tokens) exceeds the available context size (4096 tokens), try increasing it",
        "prompt is too long: 210000 tokens > 200000 maximum",
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        "Input validation error: `inputs` must have less than 4096 tokens. Given: 40000",
        "Please reduce the length of the messages or completion.",
        "Range of input length should be [1, 30720]: the input length exceeds it",
        "Requested token count exceeds the model's maximum context length of 25480 tokens.",
        "输入内容超长，请缩短后重试",
        "too many tokens in the prompt",
    ],
)
@pytest.mark.parametrize("status", ["400 Bad Request", "413 Too Large", "422 Unprocessable", "500 Oh"])
async def test_a_full_context_has_one_class_whatever_the_words(words: str, status: str) -> None:
    error = await error_of({"error": {"message": words}}, status)
    assert type(error) is ContextTooSmallError
    assert words[:40] in str(error)


@pytest.mark.parametrize(
    ("status", "value", "raised", "words"),
    [
        ("402 Payment Required", {"error": {"message": "needs more credits"}}, JudgeMisconfiguredError, "add some"),
        ("400 Bad Request", [{"error": {"message": "API key not valid."}}], JudgeMisconfiguredError, "LRF_UNSET"),
        ("400 Bad Request", {"message": "upstream connect error, overflow"}, UnavailableError, "overflow"),
        ("404 Not Found", {"error": "model is still loading, try again later"}, UnavailableError, "loading"),
        ("400 Bad Request", {"error": {"code": 503, "message": "x"}}, UnavailableError, "x"),
        ("403 Forbidden", {"error": {"message": "flagged"}}, RejectedError, "flagged"),
        ("413 Too Large", "<html><h1>413 Request Entity Too Large</h1></html>", RejectedError, "Entity Too Large"),
        ("400 Bad Request", {"error": {"message": "temperature is not supported"}}, RejectedError, "temperature"),
    ],
)
async def test_words_and_codes_say_more_than_a_status(
    status: str, value: Any, raised: type[JudgeError], words: str
) -> None:
    error = await error_of(value, status)
    assert type(error) is raised
    assert words in str(error)


async def test_a_wait_of_a_day_is_told_with_the_servers_words() -> None:
    body = {"error": {"message": "Rate limit exceeded: free-models-per-day", "retry_after": 86_400}}
    error = await error_of(body, "429 Too Many Requests")
    assert isinstance(error, RateLimitedError)
    assert error.retry_after_s == 86_400
    assert "status 429: Rate limit exceeded: free-models-per-day (it asks to wait 24 h)" in str(error)


@pytest.mark.parametrize("status", ["451 Unavailable For Legal Reasons", "501 Not Implemented"])
async def test_what_will_never_be_served_is_refused(status: str) -> None:
    assert type(await error_of({"error": "unavailable"}, status)) is RejectedError


async def test_a_refusal_knows_the_setting_that_may_cause_it() -> None:
    error = await error_of({"error": {"message": "unknown model: the-model"}}, "400 Bad Request")
    assert isinstance(error, RejectedError)
    assert error.hint == "check `model`"


USAGE = {"prompt_tokens": 4241, "completion_tokens": 512, "total_tokens": 4753}


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ({"choices": [], "usage": USAGE}, "200 OK"),
        ({"choices": None, "error": {"message": "slow down", "code": 429}, "usage": USAGE}, "200 OK"),
        ({"choices": [{**CUT, "finish_reason": "error"}], "usage": USAGE}, "200 OK"),
        ({"error": {"message": "no"}, "usage": {"input_tokens": 4241, "output_tokens": 512}}, "400 Bad Request"),
        (f"data: {json.dumps({'usage': USAGE})}\n\ndata: {json.dumps({'error': {'message': 'gone'}})}\n\n", "200 OK"),
    ],
)
async def test_a_usage_that_is_reported_is_billed_whatever_comes_with_it(value: Any, status: str) -> None:
    error = await error_of(value, status)
    assert error.usage == Usage(4241, 512)
    assert error.sent


@pytest.mark.parametrize("content_type", ["text/event-stream", "application/json", "text/plain"])
async def test_a_stream_that_was_not_asked_for_is_read(content_type: str) -> None:
    chunk = {"choices": [{"index": 0, "delta": {"content": "[[7]]"}, "finish_reason": None}]}
    said = whole(f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode(), "200 OK", f"Content-Type: {content_type}")
    async with socket_server(saying(said)) as port:
        client = HttpClient(EndpointSettings(base_url=f"http://127.0.0.1:{port}", model="m", api_key_env="LRF_UNSET"))
        assert read_chat(await post_chat(client, {})).text == "[[7]]"
        await client.aclose()


@pytest.mark.parametrize("error", [None, False, "", {}, {"code": 0, "message": "success"}])
async def test_a_field_named_error_that_is_none_is_no_error(error: Any) -> None:
    assert read_chat(await chat({"error": error, "choices": [CUT]})).text == "It is"


async def test_a_batch_that_is_too_large_names_the_setting() -> None:
    body = body_of({"error": "batch size 64 > maximum allowed batch size 32", "error_type": "Validation"})
    async with socket_server(saying(whole(body, "413 Too Large"))) as port:
        client = HttpClient(EndpointSettings(base_url=f"http://127.0.0.1:{port}", model="m", api_key_env="LRF_UNSET"))
        with pytest.raises(JudgeMisconfiguredError, match=r"batch size 32; set a smaller `batch_size`"):
            await post_embeddings(client, {}, 64)
        await client.aclose()
