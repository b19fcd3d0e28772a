"""Cuts documents into chunks by tokens, with exact character offsets.

Tokens are those of ``o200k_base`` unless another tokenizer is named: nothing is downloaded, and chunks are the same
whatever judge or embedder is used.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lrf.text.tokenizers import DEFAULT, Tokenizer, TokenizerName, tokenizer_of
from lrf.types import Chunk, Document

if TYPE_CHECKING:
    from lrf.text.tokenizers import Numbers

MIN_TOKENS = 4
"""The smallest chunk: a character may take four tokens, and no character is ever cut."""

_JOINERS = "\u200c\u200d"
_CLOSERS = "\"'”’»)]}」』）】》*_"
_FULL_STOPS = "。！？；…"  # end a sentence wherever they stand
_STOPS = ".!?"  # end one when white space follows
_LOOK = 16  # characters looked at before a possible sentence end


def count_tokens(text: str, tokenizer: TokenizerName = DEFAULT) -> int:
    """The number of tokens of a text. Takes any string, lone surrogates included."""
    return tokenizer_of(tokenizer).count(text)


def chunk_document(
    document: Document,
    tokens: int,
    *,
    overlap: int = 0,
    whole_sentences: bool = False,
    tokenizer: TokenizerName = DEFAULT,
) -> tuple[Chunk, ...]:
    """The document cut into chunks of at most ``tokens`` tokens, in order and without gaps.

    Parameters
    ----------
    tokens: the most tokens of a chunk, :data:`MIN_TOKENS` or more.
    overlap: tokens of the previous chunk that each chunk repeats, at most half of ``tokens``.
    whole_sentences: end every chunk at a sentence's end if possible, at the cost of somewhat more chunks (for
        retrieval); a chunk then hardly depends on the text after it. Otherwise there are as few chunks as possible, as
        a rule ⌈T / tokens⌉ for T tokens, which end at a sentence's end within their last quarter where there is room.
    tokenizer: whose tokens are counted.

    Chunks of white space only are left out. No chunk starts or ends inside a character, nor between a character and its
    combining marks unless the chunk has nothing else. Raises :class:`lrf.errors.ConfigError` when the tokenizer can't
    be read, ValueError when ``tokens`` or ``overlap`` is out of range.
    """
    if tokens < MIN_TOKENS:
        raise ValueError(f"chunks must have at least {MIN_TOKENS} tokens, not {tokens}")
    if not 0 <= overlap <= tokens // 2:
        raise ValueError(f"overlap must be within 0 and half of the chunk's {tokens} tokens, not {overlap}")
    text, measure = document.text, tokenizer_of(tokenizer)
    places, counts = measure.places(text)
    end = len(places) - 1
    step = tokens - overlap
    chunks = []
    here = stop = 0
    while here < end:
        rest = int(counts[end] - counts[here])
        left = -(-(rest - overlap) // step)  # chunks still to come, if each is full
        # half of the spare tokens: the rest is for characters that don't fit at the end of a chunk
        slack = tokens // 4 if whole_sentences else min((left * step + overlap - rest) // 2, tokens // 4)
        before, stop = stop, _cut(measure, text, places, counts, here, tokens, slack)
        if stop <= before:  # the repeated part leaves no room for anything new
            here, stop = before, before
            continue
        piece = document.text[places[here] : places[stop]]
        if piece.strip():
            chunks.append(Chunk(document.id, int(places[here]), int(places[stop]), piece))
        if stop == end:
            break
        here = _restart(text, places, counts, here, stop, overlap)
    return tuple(chunks)


class Slice(NamedTuple):
    """A piece of a document, and the numbers of tokens before its start and before its end."""

    chunk: Chunk
    start: int
    end: int


def slices(document: Document, tokens: int, tokenizer: TokenizerName = DEFAULT) -> list[Slice]:
    """The document in pieces of exactly ``tokens`` tokens, 1 or more, wherever sentences end; the last one is shorter.

    Tokens are those of the whole text. Where a piece would end within a character, it ends before it. Raises
    :class:`lrf.errors.ConfigError` when the tokenizer can't be read.
    """
    text = document.text
    places, counts = tokenizer_of(tokenizer).places(text)
    total = int(counts[-1])
    pieces = []
    for first in range(0, total, tokens):
        stop = min(first + tokens, total)
        start, end = (int(places[np.searchsorted(counts, t, side="right") - 1]) for t in (first, stop))
        if start < end:
            pieces.append(Slice(Chunk(document.id, start, end, text[start:end]), first, stop))
    return pieces


def _cut(measure: Tokenizer, text: str, places: Numbers, counts: Numbers, here: int, tokens: int, slack: int) -> int:
    """Which place the chunk that starts at place number ``here`` ends at. It may give up ``slack`` tokens."""
    limit = tokens
    while True:
        full = int(np.searchsorted(counts, counts[here] + limit, side="right")) - 1
        full = max(full, here + 1)
        stop = _good_end(text, places, full, max(here + 1, int(np.searchsorted(counts, counts[full] - slack))), here)
        # on its own, a text may take a few tokens more than it does within the document
        excess = measure.count(text[places[here] : places[stop]]) - tokens
        if excess <= 0 or stop == here + 1:
            return stop
        limit = int(counts[stop] - counts[here]) - excess


def _good_end(text: str, places: Numbers, full: int, lowest: int, here: int) -> int:
    """The last sentence end from place number ``full`` back to ``lowest``, else one that parts nothing joined."""
    if full == len(places) - 1:
        return full
    for stop in range(full, lowest - 1, -1):
        at = int(places[stop])
        if _ends_sentence(text, at) and not joined(text, at):
            return stop
    for stop in range(full, max(here, full - _LOOK), -1):
        if not joined(text, int(places[stop])):
            return stop
    return full


def _restart(text: str, places: Numbers, counts: Numbers, here: int, stop: int, overlap: int) -> int:
    """The place number at which the chunk after the one from ``here`` to ``stop`` starts."""
    first = int(np.searchsorted(counts, counts[stop] - overlap))
    for place in range(max(first, here + 1), stop):
        if not joined(text, int(places[place])):
            return place
    return stop


def joined(text: str, at: int) -> bool:
    """Whether the characters on both sides of this place belong together (a base and its marks, "\\r\\n")."""
    before, after = text[at - 1], text[at]
    if after.isascii():
        return before == "\r" and after == "\n"
    return unicodedata.category(after)[0] == "M" or after in _JOINERS or before in _JOINERS


def _ends_sentence(text: str, at: int) -> bool:
    """Whether a sentence, or a line, ends right before this place."""
    spaced = text[at].isspace()
    floor = max(0, at - _LOOK)
    while at > floor and text[at - 1].isspace():
        if text[at - 1] == "\n":
            return True
        spaced = True
        at -= 1
    while at > floor and text[at - 1] in _CLOSERS:
        at -= 1
    return at > floor and (text[at - 1] in _FULL_STOPS or (spaced and text[at - 1] in _STOPS))


def first_tokens(text: str, tokens: int) -> str:
    """The start of a text: the longest one of at most ``tokens`` tokens that cuts no character."""
    if count_tokens(text) <= tokens:
        return text
    places, counts = tokenizer_of(DEFAULT).places(text)
    stop = max(0, int(np.searchsorted(counts, tokens, side="right")) - 1)
    while stop and count_tokens(text[: places[stop]]) > tokens:
        stop -= 1
    return text[: places[stop]]
