"""The probability of each of a few strings, asked of a server that tells the likeliest next tokens.

Asking for one token after what the strings have in common tells apart those that go on with different tokens. Where
a token leaves several open ("1" of "1" and "10"), the question is asked again after it. So a string's probability is
the product along its path, added up over the ways of cutting it into tokens, whatever the tokenizer.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence

from lrf.errors import BadReplyError

NextToken = Callable[[str, Sequence[str]], Awaitable[Sequence[tuple[str, float]]]]
"""Asked with the text so far and the strings that may follow: likely next tokens with their log probabilities.

A token may come more than once (several tokens are written alike). Forbidden ones have -inf or less than -1,000.
"""

_NEGLIGIBLE = 1e-3  # a share of the probability too small to ask again for; it is shared out equally
_LEAST = 0.5  # the labels' part of the probability that the answer must cover


async def label_probabilities(next_token: NextToken, text: str, labels: Sequence[str]) -> dict[str, float]:
    """The probability with which the model, held to the labels, goes on after ``text`` with each of them.

    No label may begin with another one. Raises :class:`lrf.errors.BadReplyError` when the answers don't bear on them.
    """
    shared = common_beginning(labels)
    rests = [label[len(shared) :] for label in labels]
    if "" in rests and len(rests) > 1:
        raise ValueError(f"one label begins with another: {sorted(labels)}")
    found = await _follow(next_token, text + shared, rests)
    total = math.fsum(found.values())
    return {label: found[rest] / total for label, rest in zip(labels, rests, strict=True)}


async def _follow(next_token: NextToken, text: str, rests: Sequence[str]) -> dict[str, float]:
    """The probabilities of the rests after ``text``, token by token until each is alone."""
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
    found = dict.fromkeys(rests, 0.0)
    for share, part in zip(shares.values(), parts, strict=True):
        for rest, p in part.items():
            found[rest] += share * p
    return found


def common_beginning(labels: Sequence[str]) -> str:
    """The longest string that all of the labels begin with."""
    first, last = min(labels), max(labels)
    return next((first[:i] for i, letter in enumerate(first) if not last.startswith(letter, i)), first)


def _shares(tokens: Sequence[tuple[str, float]], rests: Sequence[str]) -> dict[tuple[str, tuple[str, ...]], float]:
    """The probability of each next token with the strings it leaves open, added up to 1 over those that leave any."""
    shares: dict[tuple[str, tuple[str, ...]], float] = {}
    everything = 0.0
    for token, log_p in tokens:
        p = math.exp(log_p) if -1_000 < log_p <= 1e-3 else 0.0
        everything += p
        open_rests = tuple(r for r in rests if token and (r.startswith(token) or token.startswith(r)))
        if open_rests and p:
            shares[token, open_rests] = shares.get((token, open_rests), 0.0) + p
    covered = math.fsum(shares.values())
    if covered < _LEAST * everything or not covered:
        raise BadReplyError(
            f"the labels {list(rests)} have {covered:.2g} of the next token's probability: the server did not hold the "
            "token to them (is it vLLM, at a version that knows structured_outputs?)"
        )
    return {key: p / covered for key, p in shares.items()}
