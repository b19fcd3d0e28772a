"""The texts of a run's samples in one temporary file, for searching all of them without keeping any in memory."""

from __future__ import annotations

import os
import tempfile
from array import array
from bisect import bisect_right
from collections.abc import Iterator

from lrf.types import Sample

BLOCK = 8_000_000
"""Bytes that are searched at once."""


class SearchedTexts:
    """Documents and answers in small letters, one sample after another; a search reads the file once, in blocks.

    Chosen before an index of words or of trigrams: it finds any part of any language's words, its size is that of the
    texts, and a hundred megabytes take some 50 ms.

    Parameters
    ----------
    folder: where the file is made. It has no name and is gone with this object.
    """

    def __init__(self, folder: str) -> None:
        self._ends = array("Q")  # in bytes, of each sample's texts
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # as long as the object

    def add(self, sample: Sample) -> None:
        """Add the next sample's texts."""
        texts = [sample.reference or "", *(d.text for d in sample.documents), *(c.text for c in sample.candidates)]
        line = "\0".join(texts).lower().encode("utf-8", "surrogatepass") + b"\0"
        self._file.write(line)
        self._ends.append((self._ends[-1] if self._ends else 0) + len(line))

    def flush(self) -> None:
        """Let searches see what was added."""
        self._file.flush()

    def positions(self, text: str) -> Iterator[int]:
        """The numbers of the samples, from 0, whose texts contain this one, in any case of letters."""
        wanted = text.lower().encode("utf-8", "surrogatepass")
        ends = self._ends[:]  # those of now: another thread may add some
        first = 0
        while first < len(ends):
            start = ends[first - 1] if first else 0
            last = max(first, bisect_right(ends, start + BLOCK) - 1)
            block = os.pread(self._file.fileno(), ends[last] - start, start)
            at = block.find(wanted)
            while at >= 0:
                number = bisect_right(ends, start + at)
                yield number
                at = block.find(wanted, ends[number] - start)
            first = last + 1
