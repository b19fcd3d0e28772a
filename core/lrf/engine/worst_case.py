"""The most that a request can take, for budgets, for a plan's upper bound, and for a judge's window."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from lrf.prompting.labels import label_of
from lrf.prompting.requests import Request
from lrf.prompting.templates import Prompt
from lrf.protocols import Judge
from lrf.store.files import dump
from lrf.text.chunking import count_tokens

MOST_TOKENS = 8192
LABEL_BYTES = 64  # a rating or verdict, and the words before it, that a reply is continued with
DECISION_TOKENS = 16  # of the reply to one of several questions in a request, at most
CHAT_TOKENS = 256  # what a chat template, with a system prompt of the model's own, may add to a prompt


def next_limit(max_tokens: int) -> int:
    """The limit of the next attempt after a reply was cut off."""
    return min(2 * max_tokens, max(MOST_TOKENS, max_tokens))


def most_prompt_tokens(request: Request) -> int:
    """The most tokens that a request's prompt can have: no tokenizer makes more of a text than it has bytes."""
    texts = [s.text for s in request.prompt]
    if request.schema:
        texts.append(dump(request.schema))
    return CHAT_TOKENS + sum(map(_bytes, texts))


def most_tokens(prompts: Iterable[Prompt]) -> int:
    """The most tokens that the texts of these prompts can have together."""
    return sum(_bytes(segment.text) for prompt in prompts for segment in prompt)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def most_question_tokens(request: Request) -> int:
    """The most tokens that a question in a request of several has besides its text: type, id and options."""
    return _most_option_tokens(request.options)


@lru_cache(256)
def _most_option_tokens(options: tuple[str, ...]) -> int:
    return 96 + sum(16 + len(label_of(option).encode("utf-8", "surrogatepass")) for option in options)


def most_reply_tokens(judge: Judge, max_tokens: int) -> int:
    """The most tokens that a reply of this limit can have, thoughts included."""
    return max_tokens + judge.capabilities.reasoning_tokens


class Counted:
    """Tokens of prompts; what many of them share is counted once. Not exact to the token where segments meet."""

    ROOM = 4096

    def __init__(self) -> None:
        self._tokens: dict[int, int] = {}  # by the texts' hashes: the texts would take too much memory

    def tokens(self, prompt: Prompt) -> int:
        """Takes a while: not for the event loop."""
        return sum(self._of(segment.text) for segment in prompt)

    def _of(self, text: str) -> int:
        key = hash(text)
        tokens = self._tokens.get(key)
        if tokens is None:
            if len(self._tokens) >= self.ROOM:
                self._tokens.clear()
            tokens = self._tokens[key] = count_tokens(text)
        return tokens


class WorstCase(NamedTuple):
    """The most that a request can take: calls, and the tokens of all of them."""

    calls: int
    prompt: int
    reply: int


def worst_case_of(judge: Judge, request: Request) -> WorstCase:
    """The most of one try. Labels are weighed in calls of one token, after the prompt and what was written before."""
    return worst_of_tries(judge, request, (request.max_tokens,))


def worst_of_tries(judge: Judge, request: Request, limits: Sequence[int]) -> WorstCase:
    """The most of several tries together, which differ in the limits of their replies only."""
    prompt = most_prompt_tokens(request)
    again = judge.capabilities.calls - 1 if request.reply_mode == "logprobs" else 0
    replies = [most_reply_tokens(judge, limit) for limit in limits]
    return WorstCase(
        len(limits) * (1 + again),
        sum(prompt + again * (prompt + reply + LABEL_BYTES) for reply in replies),
        sum(reply + again for reply in replies),
    )
