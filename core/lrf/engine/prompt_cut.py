"""Whether a server read the whole prompt, by the tokens that it counts."""

from __future__ import annotations

from lrf.errors import Reason, RejectedError
from lrf.prompting.requests import Reply, Request

LEAST_SHARE = 0.5
"""A server that counts a smaller share of our tokens (o200k_base) has cut the prompt.

Tokenizers of current models count 0.7 to 2 times as many as o200k_base, on English, Chinese, and other languages alike.
"""

LEAST_TOKENS = 2_000
"""Shorter prompts, by our count, are not looked at: no server's window is smaller."""

BYTES_A_TOKEN = 6.0  # of the prompt for each token that the server counts; above it, tokens are counted


class PromptCutError(RejectedError):
    """The server dropped a part of the prompt. It has worked on the rest, and bills it."""

    reason = Reason.PROMPT_CUT
    sent = True


def may_be_cut(request: Request, reply: Reply) -> bool:
    """Whether the tokens are worth counting: a quick look at the prompt's bytes."""
    told = reply.usage.prompt_tokens / max(1, reply.usage.calls)
    if not told:
        return False
    size = sum([_bytes(segment.text) for segment in request.prompt])
    return size > BYTES_A_TOKEN * max(told, LEAST_TOKENS * LEAST_SHARE)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def check_whole(title: str, reply: Reply, tokens: int) -> None:
    """Raises :class:`PromptCutError` if the server counted far fewer than the ``tokens`` that the prompt has."""
    told = reply.usage.prompt_tokens / max(1, reply.usage.calls)
    if tokens >= LEAST_TOKENS and told < LEAST_SHARE * tokens:
        raise PromptCutError(
            f"{title} counted {told:,.0f} tokens of a prompt of about {tokens:,}: it has dropped a part, so its reply "
            "says nothing. Give the model a longer context at its server (Ollama: `num_ctx`; llama.cpp: `-c`), or set "
            "`context_window` so that longer prompts are not sent; then `lrf rescore PIPELINE --failed` asks again"
        )
