"""Passages of documents: chunks with the text around them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

from lrf.text.chunking import joined
from lrf.types import Chunk, Document

TIMES = 3
"""The most that a chunk grows by the text around it: to this many times its length."""

_BREAK = re.compile(r"\s|[。！？；，、]")
_MOST_TO_BREAK = 80  # characters given up so that a passage starts and ends between words


def around(documents: Sequence[Document], chunks: Sequence[Chunk]) -> list[Chunk]:
    """The chunks with the text around them, as much again on both sides; passages that touch become one.

    ``chunks`` are in document order.
    """
    passages: list[Chunk] = []
    by_id = {document.id: document for document in documents}
    for name, of_document in groupby(chunks, lambda chunk: chunk.document):
        spans: list[tuple[int, int]] = []
        for start, end in sorted(_wide(by_id[name], chunk) for chunk in of_document):
            if spans and start <= spans[-1][1]:
                spans[-1] = spans[-1][0], max(end, spans[-1][1])
            else:
                spans.append((start, end))
        passages += [Chunk(name, start, end, by_id[name].text[start:end]) for start, end in spans]
    return passages


def _wide(document: Document, chunk: Chunk) -> tuple[int, int]:
    text, length = document.text, chunk.end - chunk.start
    start, end = max(0, chunk.start - length), min(len(text), chunk.end + length)
    if start:
        space = _BREAK.search(text, start, min(chunk.start, start + _MOST_TO_BREAK))
        start = space.end() if space else start
    if end < len(text):
        spaces = list(_BREAK.finditer(text, max(chunk.end, end - _MOST_TO_BREAK), end))
        end = spaces[-1].end() if spaces else end
    while 0 < start < chunk.start and joined(text, start):
        start += 1
    while chunk.end < end < len(text) and joined(text, end):
        end -= 1
    return start, end
