"""Checks of judges and embedders, to be called from their own tests. They make a handful of real calls.

Each check raises AssertionError that says what is wrong, and returns None when nothing is.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any, get_args

import numpy as np

from lrf.prompting.expectations import Choice, Rating, Statements, Text, Verdict
from lrf.prompting.requests import FinishReason, Reply, ReplyMode, Request
from lrf.prompting.templates import Segment
from lrf.protocols import Capabilities, Embedder, Judge
from lrf.testing.require import must, must_be_json


async def check_judge(judge: Judge) -> None:
    """A judge replies with text to every kind of request, several at once, and keeps what its capabilities promise.

    One that can answer some kinds only is asked for probabilities of these; the prompts have the fields ``context``
    and ``statement``.
    """
    must(isinstance(judge, Judge), f"{type(judge).__name__} lacks a member of lrf.protocols.Judge")
    must_be_json(dict(judge.identity), "identity")
    must(dict(judge.identity) == dict(judge.identity), "identity differs from call to call")
    must(isinstance(judge.capabilities, Capabilities), "capabilities must be lrf.protocols.Capabilities")
    must(judge.max_concurrency >= 1, f"max_concurrency must be 1 or more, not {judge.max_concurrency}")
    must(judge.request_timeout_s > 0, f"request_timeout_s must be above 0, not {judge.request_timeout_s}")
    kinds = judge.capabilities.kinds
    ways: list[ReplyMode] = ["text"] if kinds is None else []
    if judge.capabilities.structured:
        ways.append("json")
    if judge.capabilities.probabilities:
        ways.append("logprobs")
    labels = {"Fully supported": 1.0, "No support": 0.0}
    expectations = (Rating(), Verdict(labels), Choice(("A", "B")), Statements(), Text())
    requests = [
        _request(expects, reply_mode)
        for reply_mode in ways
        for expects in expectations
        if kinds is None or expects.kind in kinds
        if reply_mode == "text"
        or (reply_mode == "json" and expects.schema)
        or (reply_mode == "logprobs" and expects.options)
    ]
    must(bool(requests), f"a judge of {kinds} must give what they ask for, probabilities or structured replies")
    await asyncio.gather(*(_check_reply(judge, request) for request in requests))
    await judge.aclose()
    await judge.aclose()


async def check_embedder(embedder: Embedder) -> None:
    """An embedder gives float32 vectors of one width, in order, that don't depend on what else is in the batch."""
    must(isinstance(embedder, Embedder), f"{type(embedder).__name__} lacks a member of lrf.protocols.Embedder")
    must_be_json(dict(embedder.identity), "identity")
    must(embedder.batch_size >= 1, f"batch_size must be 1 or more, not {embedder.batch_size}")
    must(embedder.max_concurrency >= 1, f"max_concurrency must be 1 or more, not {embedder.max_concurrency}")
    texts = ("The contract was signed in 1997.", "合同无效。", "…", "Birds sing in the morning. " * 50)
    alone = [(await embedder.embed([text], "document"))[0] for text in texts]
    for start in range(0, len(texts), embedder.batch_size):
        batch = texts[start : start + embedder.batch_size]
        vectors = await embedder.embed(batch, "document")
        must(vectors.ndim == 2 and len(vectors) == len(batch), f"{len(batch)} texts got the shape {vectors.shape}")
        must(vectors.dtype == np.float32, f"vectors must be float32, not {vectors.dtype}")
        must(bool(np.isfinite(vectors).all()), "a vector holds NaN or infinity")
        must(bool(vectors.any(axis=1).all()), "a vector is all zeros")
        for vector, single in zip(vectors, alone[start:], strict=False):
            must(
                vector.shape == single.shape and np.allclose(vector, single, atol=1e-2),
                "a text's vector depends on the batch it is in",
            )
    queries = await embedder.embed([texts[0]], "query")
    must(queries.shape == (1, len(alone[0])), "queries and documents have vectors of different widths")
    await embedder.aclose()
    await embedder.aclose()


def _request(expects: Any, reply_mode: ReplyMode) -> Request:
    asked = ", ".join(expects.options) or "<statement>…</statement>"
    prompt = (
        Segment(f"Judge the answer and end with the fitting one of: {asked}.\n\nAnswer: "),
        Segment("The sky is blue. 天空是蓝色的。", trusted=False, name="context"),
        Segment("\nStatement: "),
        Segment("The sky is blue.", trusted=False, name="statement"),
    )
    return Request(prompt=prompt, expects=expects, max_tokens=64, temperature=0.01, reply_mode=reply_mode, seed=1)


async def _check_reply(judge: Judge, request: Request) -> None:
    what = f"the reply to a {request.expects.kind} request (reply_mode {request.reply_mode!r})"
    reply = await judge.complete(request)
    must(isinstance(reply, Reply) and isinstance(reply.text, str), f"{what} is no Reply with a text")
    must(reply.finish in get_args(FinishReason), f"{what} has the finish {reply.finish!r}")
    for count in asdict(reply.usage).values():
        must(isinstance(count, int) and count >= 0, f"{what} has the usage {reply.usage}")
    if request.reply_mode == "logprobs":
        p = reply.probabilities or {}
        must(set(p) == set(request.options), f"{what} has probabilities of {sorted(p)}, not of {request.options}")
        must(all(0 <= v <= 1 for v in p.values()), f"{what} has a probability outside 0 to 1")
        must(abs(sum(p.values()) - 1) < 1e-3, f"{what} has probabilities that add up to {sum(p.values())}")
    if request.reply_mode == "json" and reply.finish == "stop":
        request.expects.read(reply, "json")
