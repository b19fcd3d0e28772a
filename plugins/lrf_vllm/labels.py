"""The probability of each of a few strings, from a server that gives the likeliest next tokens.

One token after the strings' common beginning distinguishes those that continue with different tokens. If a token leaves
several strings open ("1" of "1" and "10"), the next token after it is requested too. So a string's probability is the
product along its path, summed over the ways to cut it into tokens, whatever the tokenizer.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence

from lrf.errors import BadReplyError

NextToken = Callable[[str, Sequence[str]], Awaitable[Sequence[tuple[str, float]]]]
"""Takes the text so far and the strings that may follow; gives likely next tokens with their log probabilities.

A text may come more than once, from several tokens. Forbidden tokens have -inf or less than -1,000.
"""

_NEGLIGIBLE = 1e-3  # a probability too small for another request; it is divided equally
_LEAST = 0.5  # the labels' least share of the listed probability


async def label_probabilities(next_token: NextToken, text: str, labels: Sequence[str]) -> dict[str, float]:
    """The probability of each label as the continuation of ``text``, by a model that may write nothing else.

    No label may begin with another one. Raises :class:`lrf.errors.BadReplyError` if other tokens are likelier.
    """
    shared = common_beginning(labels)
    rests = [label[len(shared) :] for label in labels]
    if "" in rests and len(rests) > 1:
        raise ValueError(f"one label begins with another: {sorted(labels)}")
    by_rest = await _follow(next_token, text + shared, rests)
    total = math.fsum(by_rest.values())
    return {label: by_rest[rest] / total for label, rest in zip(labels, rests, strict=True)}


async def _follow(next_token: NextToken, text: str, rests: Sequence[str]) -> dict[str, float]:
    """The probabilities of the rests after ``text``, token by token until one is left."""
    if len(rests) == 1:
        return {rests[0]: 1.0}
    shares = _shares(await next_token(text, rests), rests)

    async def inner(token: str, open_rests: Sequence[str], share: float) -> dict[str, float]:
        if share < _NEGLIGIBLE:
            return dict.fromkeys(open_rests, 1 / len(open_rests))
        if len(open_rests) == 1:
            return {open_rests[0]: 1.0}
        ends = await _follow(next_token, text + token, [rest[len(token) :] for rest in open_rests])
        return {token + end: p for end, p in ends.items()}

    parts = await asyncio.gather(*(inner(token, open_rests, p) for (token, open_rests), p in shares.items()))
    total = dict.fromkeys(rests, 0.0)
    for share, part in zip(shares.values(), parts, strict=True):
        for rest, p in part.items():
            total[rest] += share * p
    return total


def common_beginning(labels: Sequence[str]) -> str:
    """The longest string with which all labels begin."""
    first, last = min(labels), max(labels)
    return next((first[:i] for i, letter in enumerate(first) if not last.startswith(letter, i)), first)


def _shares(tokens: Sequence[tuple[str, float]], rests: Sequence[str]) -> dict[tuple[str, tuple[str, ...]], float]:
    """The probability of each next token that leaves any string open, with these strings; they add up to 1."""
    shares: dict[tuple[str, tuple[str, ...]], float] = {}
    listed = 0.0
    for token, log_p in tokens:
        p = math.exp(log_p) if -1_000 < log_p <= 1e-3 else 0.0
        listed += p
        open_rests = tuple(r for r in rests if token and (r.startswith(token) or token.startswith(r)))
        if open_rests and p:
            shares[token, open_rests] = shares.get((token, open_rests), 0.0) + p
    covered = math.fsum(shares.values())
    if covered < _LEAST * listed or not covered:
        raise BadReplyError(
            f"the labels {list(rests)} have {covered:.2g} of the next token's probability: the server did not restrict "
            "the token to them (is it vLLM, of a version with structured_outputs?)"
        )
    return {key: p / covered for key, p in shares.items()}
