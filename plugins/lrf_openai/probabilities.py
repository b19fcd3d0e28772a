"""The probabilities of labels, from the log probabilities that come with a reply.

A server tells, for each token of the reply, the likeliest tokens at its place. What they say of the label is looked up
where the label begins. A token may leave several labels open ("1" of "1" and "10"). Where the list also has a token
"10", the "1" is a 1; else the token after it decides, which is told only for the token that was written. Where too
much is left open, there are no probabilities at all, so that none is ever wrong. Tokens are compared as bytes, so it
makes no difference how a text is cut into them; distinct tokens that are written alike are added up.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lrf_openai.places import LabelPosition

MOST_LISTED = 20
"""How many likely tokens are asked for: as many as OpenAI's API gives."""

_OPEN = 1e-3  # the share of what was decided that may be left open between labels
_LEAST = 0.5  # the labels' part of the probability of the token that the label begins with
_ROUNDING = 0.01  # two numbers for a token's probability are of the same token when they differ by no larger a part
_BEFORE = 32  # bytes before the label in which a token could begin that reaches into it


@dataclass(frozen=True, slots=True)
class _Token:
    """A token of the reply: what is written, and with which probability; and the same of what else was likely."""

    text: bytes
    p: float
    others: tuple[tuple[bytes, float], ...]


def label_probabilities(choice: Mapping[str, Any], text: str, place: LabelPosition) -> dict[str, float] | None:
    """The probability of each option at its place, adding up to 1; None where the tokens don't decide it.

    ``choice`` is a completion's, ``text`` its content.
    """
    tokens = _tokens(choice)
    whole = b"".join(token.text for token in tokens)
    begin = whole.rfind(text.encode("utf-8", "replace").lower())  # thoughts before it may say the same
    if begin < 0 or not text:
        return None
    found = _weigh(_near(tokens, whole, begin + place.start), place)
    if found is None:
        return None
    total = math.fsum(found.values())
    return {option: found[option] / total for option in place.forms}


def _near(tokens: Sequence[_Token], whole: bytes, start: int) -> tuple[Sequence[_Token], bytes]:
    """The tokens from a little before ``start`` on, and what they write before it."""
    at = 0
    for i, token in enumerate(tokens):
        if at >= start - _BEFORE or at + len(token.text) > start:
            return tokens[i:], whole[at:start].lower()
        at += len(token.text)
    return (), b""


def _weigh(near: tuple[Sequence[_Token], bytes], place: LabelPosition) -> dict[str, float] | None:
    tokens, before = near
    full = {option: tuple(before + form for form in forms) for option, forms in place.forms.items()}
    shares = dict.fromkeys(full, 0.0)
    undecided, reached, so_far, still = 0.0, 1.0, b"", set(full)
    for token in tokens:
        texts = {text for text, _ in token.others} | {token.text}
        opens = _whole({text: _left_open(so_far + text, before, full) for text in texts})
        of_labels = math.fsum(p for text, p in token.others if opens[text])
        everything = math.fsum(p for _, p in token.others)
        for text, p in token.others:
            if len(opens[text]) == 1:
                shares[min(opens[text])] += reached * p
            elif opens[text]:
                undecided += reached * p
        left = opens[token.text]
        if not left or (left < still and of_labels + token.p < _LEAST * (everything + token.p)):
            return None
        reached *= token.p
        so_far += token.text
        still = left
        if len(left) == 1:
            shares[min(left)] += reached
            decided = math.fsum(shares.values())
            return shares if decided > 0 and undecided <= _OPEN * decided else None
    return None


def _left_open(written: bytes, before: bytes, full: Mapping[str, tuple[bytes, ...]]) -> set[str]:
    """The options that what is written can still become, or has become."""
    if len(written) <= len(before):
        return set(full) if before.startswith(written) else set()
    return {o for o, forms in full.items() if written.startswith(forms) or any(f.startswith(written) for f in forms)}


def _whole(opens: Mapping[bytes, set[str]]) -> dict[bytes, set[str]]:
    """The options left open by each token, without those that have a longer token of their own at this place.

    A model writes a text by the same tokens always: where "10" is a token, "1" isn't the beginning of a 10.
    """
    own = [(text, min(options)) for text, options in opens.items() if len(options) == 1]
    return {
        text: options - {o for longer, o in own if len(longer) > len(text) and longer.startswith(text)}
        if len(options) > 1
        else options
        for text, options in opens.items()
    }


def _tokens(choice: Mapping[str, Any]) -> list[_Token]:
    """The tokens of a reply; none where the server tells none or tells them in another way."""
    logprobs = choice.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    try:
        return list(_read(content)) if isinstance(content, list) else []
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return []


def _read(content: list[Any]) -> Iterator[_Token]:
    for entry in content:
        text, p = _bytes(entry), _probability(entry)
        others = [(_bytes(other).lower(), _probability(other)) for other in entry.get("top_logprobs") or ()]
        alike = [other for other in others if other[0] == text.lower() and math.isclose(other[1], p, rel_tol=_ROUNDING)]
        if alike:  # the token itself is among them, as a rule
            others.remove(min(alike, key=lambda other: abs(other[1] - p)))
        yield _Token(text.lower(), p, tuple(others))


def _bytes(entry: Mapping[str, Any]) -> bytes:
    raw = entry.get("bytes")
    return bytes(raw) if isinstance(raw, list) else str(entry["token"]).encode("utf-8", "replace")


def _probability(entry: Mapping[str, Any]) -> float:
    logprob = float(entry["logprob"])
    if logprob > 1e-3 or math.isnan(logprob):
        raise ValueError("no log probability")
    return math.exp(logprob)
