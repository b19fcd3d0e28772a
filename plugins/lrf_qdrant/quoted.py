"""Chunks that contain a text word for word. BM25 alone may prefer a shorter chunk with the same rare words."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

from lrf.types import Chunk, Document


class Quoted:
    """The documents of a sample, searched for text that was copied from them."""

    def __init__(self, documents: Sequence[Document], chunks: Sequence[Sequence[Chunk]]) -> None:
        """``chunks`` are those of each document, numbered through."""
        self._parts = []
        first = 0
        for document, own in zip(documents, chunks, strict=True):
            self._parts.append((document.text, first, [c.start for c in own], [c.end for c in own]))
            first += len(own)

    def holding(self, text: str) -> dict[int, int]:
        """The numbers of the chunks that contain the text, with the number of its characters that each contains.

        Where none contains all of it, the chunks with the largest part, and those with at least half as much.
        """
        text = text.strip()
        held: dict[int, int] = {}
        for number, characters in self._overlaps(text) if text else ():
            held[number] = max(characters, held.get(number, 0))
        most = max(held.values(), default=0)
        return {number: characters for number, characters in held.items() if 2 * characters >= most}

    def _overlaps(self, text: str) -> Iterator[tuple[int, int]]:
        """(the number of a chunk, how many characters of the text it holds).

        Of all occurrences that start before the next chunk does, the first holds most of the chunk they start in, and
        the last most of those that follow; the others are passed over.
        """
        for document, first, starts, ends in self._parts:
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
