"""The bases of judges and embedders over HTTP: a subclass adds asking and reading, and is complete."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from lrf.errors import UnavailableError
from lrf.http.bases import HttpEmbedder, HttpJudge
from lrf.http.error_classes import ErrorCodes
from lrf.http.settings import EndpointSettings
from lrf.prompting.requests import Reply, Request
from lrf.prompting.templates import prompt_text
from lrf.protocols import Capabilities, Embedder, Judge
from lrf.testing import check_embedder, check_judge
from serving import Serve


class EchoJudge(HttpJudge[EndpointSettings]):
    async def complete(self, request: Request) -> Reply:
        value = await self.client.post("/ask", {"prompt": prompt_text(request.prompt)})
        return Reply(value["text"])


class LengthEmbedder(HttpEmbedder[EndpointSettings]):
    async def embed(self, texts: Sequence[str], kind: str) -> Any:
        value = await self.client.post("/embed", {"texts": list(texts)})
        return np.array(value["vectors"], dtype=np.float32)


def settings(base_url: str, **changes: Any) -> EndpointSettings:
    return EndpointSettings(**{"base_url": base_url, "model": "m", "api_key_env": "HTTP_BASE_KEY", **changes})


async def test_a_judge_that_adds_only_complete_passes_lrfs_own_check(serve: Serve) -> None:
    async def answer(http: web.Request) -> web.Response:
        return web.json_response({"text": "Rating: [[7]]"})

    judge = EchoJudge(settings(await serve(answer)), identity={"type": "echo", "model": "m"})
    assert isinstance(judge, Judge)
    await check_judge(judge)


async def test_an_embedder_that_adds_only_embed_passes_lrfs_own_check(serve: Serve) -> None:
    async def answer(http: web.Request) -> web.Response:
        texts = (await http.json())["texts"]
        return web.json_response({"vectors": [[1.0, float(len(text))] for text in texts]})

    embedder = LengthEmbedder(settings(await serve(answer)), identity={"type": "length"}, batch_size=3)
    assert isinstance(embedder, Embedder)
    assert embedder.batch_size == 3
    await check_embedder(embedder)


async def test_what_a_judge_tells_comes_from_its_settings_and_its_constructor() -> None:
    can = Capabilities(seed=True, context_window=8192)
    judge = EchoJudge(
        settings("http://127.0.0.1:1/v1", max_concurrency=3, request_timeout_s=7),
        identity={"type": "echo"},
        capabilities=can,
    )
    assert (judge.identity, judge.capabilities) == ({"type": "echo", "model": "m"}, can)
    assert (judge.max_concurrency, judge.request_timeout_s) == (3, 7)
    await judge.aclose()


async def test_the_key_goes_where_the_provider_wants_it_and_its_codes_are_known(serve: Serve, monkeypatch: Any) -> None:
    monkeypatch.setenv("HTTP_BASE_KEY", "secret-1")
    seen = {}

    async def answer(http: web.Request) -> web.Response:
        seen.update(http.headers)
        return web.json_response({"error": {"type": "out_of_paper", "message": "no paper"}}, status=400)

    judge = EchoJudge(
        settings(await serve(answer)),
        ErrorCodes(busy=frozenset({"out_of_paper"})),
        identity={"type": "echo"},
        key_header="x-key",
        headers={"x-version": "2"},
    )
    with pytest.raises(UnavailableError, match="no paper"):
        await judge.client.post("/ask", {})
    await judge.aclose()
    assert (seen["x-key"], seen["x-version"]) == ("secret-1", "2")
