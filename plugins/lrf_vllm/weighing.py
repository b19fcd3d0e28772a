"""``reply_mode="logprobs"``: an analysis up to the mark, then the labels weighed at that place.

The analysis is computed once, and what comes after it takes one token, rarely a few. It ends where a mark begins: the
judged text has none (see :mod:`lrf.prompting.escaping`), so that can't be a quotation.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from lrf.errors import BadReplyError, RejectedError
from lrf.prompting.labels import cue_of
from lrf.prompting.requests import Reply, Request, Usage
from lrf_vllm.labels import common_beginning, label_probabilities

QUESTIONS = 2
"""Asked at most to tell labels apart: ratings differ in the first or second token, verdicts in the first."""

MOST_LOGPROBS = 20
"""How many likely tokens are asked for: what vLLM gives unless it is started with another ``max_logprobs``."""

Write = Callable[[Sequence[str]], Awaitable[tuple[Reply, bool]]]
"""Writes up to one of these strings, without any to its end: the reply, and whether it came to one."""

NextToken = Callable[[str, Sequence[str]], Awaitable[tuple[Sequence[tuple[str, float]], Usage]]]
"""Likely next tokens after this text with their log probabilities, held to the beginnings of the labels."""


async def weigh(request: Request, write: Write | None, next_token: NextToken) -> Reply:
    """The reply with its probabilities. Without ``write`` there is no analysis."""
    cue = cue_of(request.prompt, request.options)
    written, text = Reply(""), cue
    usages = []
    if write is not None:
        shared = common_beginning(request.options)
        stops = [shared] if shared else list(request.options)
        written, at_mark = await write(stops)
        if written.finish != "stop":
            return written
        usages.append(written.usage)
        text = written.text.lstrip() if at_mark else f"{written.text.strip()}\n{cue}".lstrip()
    asked = 0

    async def tokens(so_far: str, labels: Sequence[str]) -> Sequence[tuple[str, float]]:
        nonlocal asked
        asked += 1
        if asked > QUESTIONS:
            raise RejectedError(
                f"two tokens don't tell {list(request.options)} apart; the dimension needs `rating: text`"
            )
        listed, usage = await next_token(so_far, labels)
        usages.append(usage)
        return listed

    probabilities = await label_probabilities(tokens, text, request.options)
    best = max(request.options, key=lambda option: probabilities[option])
    return replace(written, text=text + best, finish="stop", usage=_sum(usages), probabilities=probabilities)


def held_to_schema(reply: Reply, request: Request) -> Reply:
    """The reply, if it is JSON wherever that was asked for: an engine that knows no constraints ignores them.

    Raises :class:`lrf.errors.BadReplyError`.
    """
    if request.schema is not None and reply.finish == "stop":
        try:
            json.loads(reply.text, strict=False)
        except (ValueError, RecursionError):
            start = " ".join(reply.text[:80].split())
            raise BadReplyError(
                f"the reply was not held to its JSON schema (is it vLLM?); it begins: {start}"
            ) from None
    return reply


def _sum(usages: Sequence[Usage]) -> Usage:
    return Usage(
        sum(u.prompt_tokens for u in usages),
        sum(u.completion_tokens for u in usages),
        sum(u.cached_tokens for u in usages),
        sum(u.calls for u in usages),
    )
