"""The embedder ``openai`` against real servers on this machine."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from lrf.errors import BadReplyError, UnavailableError
from lrf.protocols import Embedder
from lrf.text.chunking import count_tokens
from lrf_openai.embedder import OpenAIEmbedder
from lrf_openai.settings import OpenAIEmbedderSettings
from serving import Serve


def listing(*vectors: Any, order: Sequence[int] | None = None) -> dict[str, Any]:
    order = order or range(len(vectors))
    return {"object": "list", "model": "e", "data": [{"index": i, "embedding": vectors[i]} for i in order]}


async def embed(
    serve: Serve, reply: Any, texts: Sequence[str], status: int = 200, **settings: Any
) -> tuple[Any, dict[str, Any]]:
    """The vectors from a server that answers ``reply``, and the body that it was sent."""
    sent: dict[str, Any] = {}

    async def handler(http: web.Request) -> web.Response:
        sent.update(await http.json(), path=http.path)
        return web.Response(status=status, body=json.dumps(reply).encode(), content_type="application/json")

    settings = {"base_url": await serve(handler), "model": "e", **settings}
    embedder = OpenAIEmbedder(OpenAIEmbedderSettings(**settings))
    try:
        return await embedder.embed(texts, "document"), sent
    finally:
        await embedder.aclose()


async def test_texts_go_in_one_request_and_vectors_come_back_as_float32(serve: Serve) -> None:
    vectors, sent = await embed(serve, listing([1, 2.5], [0, -1]), ["one", "二"])
    assert sent == {"model": "e", "input": ["one", "二"], "path": "/embeddings"}
    assert vectors.dtype == np.float32
    assert vectors.tolist() == [[1, 2.5], [0, -1]]


async def test_vectors_are_put_in_the_order_of_the_texts(serve: Serve) -> None:
    vectors, _ = await embed(serve, listing([1], [2], [3], order=[2, 0, 1]), ["a", "b", "c"])
    assert vectors.ravel().tolist() == [1, 2, 3]


async def test_vectors_without_numbers_are_taken_as_they_come(serve: Serve) -> None:
    vectors, _ = await embed(serve, {"data": [{"embedding": [1]}, {"embedding": [2]}]}, ["a", "b"])
    assert vectors.ravel().tolist() == [1, 2]


async def test_base64_vectors_are_asked_for_and_read(serve: Serve) -> None:
    packed = base64.b64encode(np.array([0.5, -2], dtype="<f4").tobytes()).decode()
    vectors, sent = await embed(serve, listing(packed), ["a"], encoding_format="base64")
    assert sent["encoding_format"] == "base64"
    assert vectors.tolist() == [[0.5, -2]]


async def test_dimensions_are_asked_for(serve: Serve) -> None:
    _, sent = await embed(serve, listing([1, 0]), ["a"], dimensions=2)
    assert sent["dimensions"] == 2


async def test_texts_beyond_max_input_tokens_are_cut_and_others_left_alone(serve: Serve) -> None:
    long = "堤岸と港 the harbour " * 200
    _, sent = await embed(serve, listing([1], [2]), [long, "short"], max_input_tokens=64)
    cut, short = sent["input"]
    assert short == "short"
    assert long.startswith(cut)
    assert 60 <= count_tokens(cut) <= 64


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (listing([1.0]), "1 embeddings for 2 texts"),
        (listing([1], [2], [3]), "3 embeddings for 2 texts"),
        ({}, "no embeddings of 2 texts"),
        ([], "no embeddings"),
        ({"data": "x"}, "no embeddings"),
        ({"data": [1, 2]}, "for 2 texts"),
        (listing([1, 2], [1]), "different or no length"),
        (listing([], []), "different or no length"),
        (listing([1], [float("nan")]), "not finite"),
        (listing([1], [float("inf")]), "not finite"),
        (listing([1], [1e300]), "not finite"),
        (listing([1], None), "no list of numbers"),
        (listing([1], ["a"]), "no list of numbers"),
        (listing([1], [[1]]), "no list of numbers"),
        (listing([1], [{}]), "no list of numbers"),
        (listing([1], "not base64!"), "no list of numbers"),
        (listing([1], "AAA="), "no list of numbers"),
        ({"data": [{"index": 0, "embedding": [1]}, {"index": 0, "embedding": [2]}]}, "numbered wrongly"),
        ({"data": [{"index": 0, "embedding": [1]}, {"index": 5, "embedding": [2]}]}, "numbered wrongly"),
        ({"data": [{"index": 0, "embedding": [1]}, {"index": "1", "embedding": [2]}]}, "numbered wrongly"),
    ],
)
async def test_embeddings_that_do_not_fit_the_texts_are_a_bad_reply(serve: Serve, reply: Any, says: str) -> None:
    with pytest.raises(BadReplyError, match=says):
        await embed(serve, reply, ["a", "b"])


async def test_a_server_in_trouble_is_unavailable(serve: Serve) -> None:
    with pytest.raises(UnavailableError):
        await embed(serve, {}, ["a"], status=503)


def test_it_satisfies_the_protocol_and_says_what_vectors_depend_on() -> None:
    embedder = OpenAIEmbedder(OpenAIEmbedderSettings(model="e", dimensions=256, batch_size=16))
    assert isinstance(embedder, Embedder)
    assert embedder.identity == {"type": "openai", "model": "e", "dimensions": 256, "max_input_tokens": None}
    assert (embedder.batch_size, embedder.max_concurrency) == (16, 4)
