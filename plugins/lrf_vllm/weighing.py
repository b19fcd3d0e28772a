"""``reply_mode="logprobs"``: the model writes its analysis up to the mark, then the labels are weighed there.

The analysis is computed once, and the weighing takes one token, rarely two. The analysis stops where a mark begins. It
can't be a quotation, since the judged text has no marks (:mod:`lrf.prompting.escaping`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from lrf.errors import BadReplyError, RejectedError
from lrf.prompting.labels import cue_of
from lrf.prompting.questions import as_decision, decided
from lrf.prompting.requests import Reply, Request, Usage
from lrf_vllm.labels import common_beginning, label_probabilities

MAX_QUESTIONS = 2
"""Tokens that distinguish the labels: ratings differ in the first or second token, verdicts in the first."""

MAX_LOGPROBS = 20
"""Likely tokens to ask for: vLLM's default of ``max_logprobs``."""

Write = Callable[[Sequence[str]], Awaitable[tuple[Reply, bool]]]
"""Takes strings to stop at (none: write to the end); gives the reply, and whether it stopped at one of them."""

NextToken = Callable[[str, Sequence[str]], Awaitable[tuple[Sequence[tuple[str, float]], Usage]]]
"""Takes the text so far and the labels; gives likely next tokens with their log probabilities, and the usage."""


async def weigh(request: Request, write: Write | None, next_token: NextToken) -> Reply:
    """The reply with the labels' probabilities. Without ``write``, or of a decision, there is no analysis."""
    write = None if request.material else write  # a question on material is decided at once
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
    questions = 0

    async def tokens(so_far: str, labels: Sequence[str]) -> Sequence[tuple[str, float]]:
        nonlocal questions
        questions += 1
        if questions > MAX_QUESTIONS:
            raise RejectedError(
                f"two tokens don't distinguish {list(request.options)}; the dimension needs `rating: text`"
            )
        listed, usage = await next_token(so_far, labels)
        usages.append(usage)
        return listed

    probabilities = await label_probabilities(tokens, text, request.options)
    best = max(request.options, key=lambda option: probabilities[option])
    return replace(written, text=text + best, finish="stop", usage=_sum(usages), probabilities=probabilities)


def checked_json(reply: Reply, request: Request) -> Reply:
    """The reply, which must be JSON if the request has a schema. Servers without constrained decoding ignore it.

    Raises :class:`lrf.errors.BadReplyError`.
    """
    if request.schema is not None and reply.finish == "stop":
        try:
            json.loads(reply.text, strict=False)
        except (ValueError, RecursionError):
            start = " ".join(reply.text[:80].split())
            raise BadReplyError(
                f"the reply does not follow its JSON schema (is the server vLLM?); it begins: {start}"
            ) from None
    return reply


def _sum(usages: Sequence[Usage]) -> Usage:
    return Usage(
        sum(u.prompt_tokens for u in usages),
        sum(u.completion_tokens for u in usages),
        sum(u.cached_tokens for u in usages),
        sum(u.calls for u in usages),
    )


async def decide(complete: Callable[[Request], Awaitable[Reply]], requests: Sequence[Request]) -> list[Reply]:
    """The replies to questions on one material. The first goes alone: vLLM's prefix cache then has the material."""
    first, *others = map(as_decision, requests)
    return decided([await complete(first), *await asyncio.gather(*map(complete, others))])
