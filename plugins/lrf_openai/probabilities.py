"""The probabilities of labels, from the log probabilities that come with a reply.

For each token of the reply, the server lists the likeliest tokens at its position. The probabilities of the labels are
read where the label begins. A token may leave several labels open ("1" of "1" and "10"). If the list also has a token
"10", the "1" is a 1; else the next token decides, which is listed only after the token that was written. If too much
probability stays open, there are no probabilities, so that none is ever wrong. Tokens are compared as bytes, so the
tokenizer makes no difference; the probabilities of distinct tokens with the same bytes are added.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lrf_openai.label_positions import LabelPosition

MOST_LISTED = 20
"""Likely tokens to ask for: the most that OpenAI's API gives."""

_OPEN = 1e-3  # the probability that may stay open between labels, as a share of the decided probability
_LEAST = 0.5  # the labels' least share of the probability at the label's first token
_ROUNDING = 0.01  # relative difference up to which two probabilities are of the same token
_BEFORE = 32  # bytes before the label in which a token may begin that reaches into it


@dataclass(frozen=True, slots=True)
class _Token:
    """A token of the reply with its probability, and the other likely tokens with theirs."""

    text: bytes
    p: float
    others: tuple[tuple[bytes, float], ...]


def label_probabilities(choice: Mapping[str, Any], text: str, position: LabelPosition) -> dict[str, float] | None:
    """The probability of each option at this position, adding up to 1; None where the tokens don't decide it.

    ``choice`` is a completion's choice, ``text`` its content.
    """
    tokens = _tokens(choice)
    whole = b"".join(token.text for token in tokens)
    begin = whole.rfind(text.encode("utf-8", "replace").lower())  # the thoughts before it may hold the same text
    if begin < 0 or not text:
        return None
    shares = _weigh(_near(tokens, whole, begin + position.start), position)
    if shares is None:
        return None
    total = math.fsum(shares.values())
    return {option: shares[option] / total for option in position.forms}


def _near(tokens: Sequence[_Token], whole: bytes, start: int) -> tuple[Sequence[_Token], bytes]:
    """The tokens from shortly before ``start``, and the bytes that they write before it."""
    offset = 0
    for i, token in enumerate(tokens):
        if offset >= start - _BEFORE or offset + len(token.text) > start:
            return tokens[i:], whole[offset:start].lower()
        offset += len(token.text)
    return (), b""


def _weigh(near: tuple[Sequence[_Token], bytes], position: LabelPosition) -> dict[str, float] | None:
    tokens, before = near
    full = {option: tuple(before + form for form in forms) for option, forms in position.forms.items()}
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
    """The options that these bytes can still become, or have become."""
    if len(written) <= len(before):
        return set(full) if before.startswith(written) else set()
    return {o for o, forms in full.items() if written.startswith(forms) or any(f.startswith(written) for f in forms)}


def _whole(opens: Mapping[bytes, set[str]]) -> dict[bytes, set[str]]:
    """The options left open by each token, without those that have a longer token at this position.

    A model always writes a text with the same tokens: if "10" is a token, "1" does not begin a 10.
    """
    single = [(text, min(options)) for text, options in opens.items() if len(options) == 1]
    return {
        text: options - {o for longer, o in single if len(longer) > len(text) and longer.startswith(text)}
        if len(options) > 1
        else options
        for text, options in opens.items()
    }


def _tokens(choice: Mapping[str, Any]) -> list[_Token]:
    """The tokens of a reply; empty if the server lists none, or lists them in another form."""
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
        if alike:  # the list usually has the written token too
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
