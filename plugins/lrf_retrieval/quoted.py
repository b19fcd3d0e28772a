"""Chunks that contain a text word for word. BM25 alone may prefer a shorter chunk with the same rare words."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from lrf.text.unicode import invisible_spans, without_invisible
from lrf.types import Chunk, Document


class Quoted:
    """The documents of a sample, searched for text that was copied from them."""

    def __init__(self, documents: Sequence[Document], chunks: Sequence[Sequence[Chunk]]) -> None:
        """``chunks`` are those of each document, numbered through."""
        self._parts: list[_Part] = []
        first = 0
        for document, own in zip(documents, chunks, strict=True):
            self._parts.append(_Part(document.text, first, [c.start for c in own], [c.end for c in own]))
            first += len(own)
        self._visible = [part.visible() for part in self._parts]
        self._hidden = any(v is not part for v, part in zip(self._visible, self._parts, strict=True))

    def holding(self, text: str) -> dict[int, int]:
        """The numbers of the chunks that contain the text, with the number of its characters that each contains.

        Where none contains all of it, the chunks with the largest part, and those with at least half as much. A text
        that isn't there character by character is searched for without characters that can't be seen.
        """
        text = text.strip()
        shown = without_invisible(text).strip()
        held = _holding(text, self._parts)
        if not held and (self._hidden or shown != text):
            return _holding(shown, self._visible)
        return held


class _Part(NamedTuple):
    """A document, the number of its first chunk, and where its chunks start and end."""

    text: str
    first: int
    starts: Sequence[int]
    ends: Sequence[int]

    def visible(self) -> _Part:
        """The document without characters that can't be seen; itself if it has none of them."""
        spans = invisible_spans(self.text)
        if not spans:
            return self
        ends = [end for _, end in spans]
        removed = [0, *accumulate(end - start for start, end in spans)]

        def moved(place: int) -> int:
            after = bisect_right(ends, place)  # the first span that ends after this place
            return place - removed[after] - (max(0, place - spans[after][0]) if after < len(spans) else 0)

        starts, stops = list(map(moved, self.starts)), list(map(moved, self.ends))
        return _Part(without_invisible(self.text), self.first, starts, stops)


def _holding(text: str, parts: Sequence[_Part]) -> dict[int, int]:
    held: dict[int, int] = {}
    for part in parts if text else ():
        for number, characters in _overlaps(text, part):
            held[number] = max(characters, held.get(number, 0))
    most = max(held.values(), default=0)
    return {number: characters for number, characters in held.items() if 2 * characters >= most}


def _overlaps(text: str, part: _Part) -> Iterator[tuple[int, int]]:
    """(the number of a chunk, how many characters of the text it holds).

    Of all occurrences that start before the next chunk does, the first holds most of the chunk they start in, and
    the last most of those that follow; the others are passed over.
    """
    document, first, starts, ends = part
    at = document.find(text)
    while at >= 0:
        beyond = bisect_right(starts, at)  # the first chunk that starts after this occurrence
        after = starts[beyond] if beyond < len(starts) else len(document)
        for start in {at, document.rfind(text, at, after - 1 + len(text))}:
            stop = start + len(text)
            for i in range(bisect_right(ends, start), len(starts)):
                if starts[i] >= stop:
                    break
                yield first + i, min(stop, ends[i]) - max(start, starts[i])
        at = document.find(text, after)
