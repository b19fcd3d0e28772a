"""A part of the data, for several runs that share the work."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from lrf.protocols import HashesContent, Source, SpreadsSamples
from lrf.types import BadRow, Sample


@dataclass(frozen=True, slots=True)
class Part:
    """The part ``number``, from 1, of ``of`` parts."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Part:
        """The part that "3/8" names. Raises ValueError."""
        match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise ValueError("expected a part's number, from 1, and the number of parts: 3/8")
        return cls(int(match[1]), int(match[2]))

    def has(self, sample: Sample) -> bool:
        """Whether the sample is in this part, which follows from its documents alone: what they share is paid once."""
        texts = hashlib.blake2b(digest_size=8)
        for document in sample.documents:
            texts.update(hashlib.blake2b(document.text.encode("utf-8", "surrogatepass"), digest_size=16).digest())
        if not sample.documents:
            texts.update(sample.id.encode("utf-8", "surrogatepass"))
        return int.from_bytes(texts.digest(), "big") % self.of == self.number - 1


class PartSource:
    """A source's samples that are in a part, in their order, and all its bad rows."""

    def __init__(self, source: Source, part: Part) -> None:
        self._source = source
        self._part = part

    def read(self) -> Iterator[Sample | BadRow]:
        """See :class:`lrf.protocols.Source`."""
        return (row for row in self._source.read() if isinstance(row, BadRow) or self._part.has(row))

    def spread(self, count: int) -> Iterator[Sample] | None:
        """See :class:`lrf.protocols.SpreadsSamples`."""
        spread = self._source.spread(count * self._part.of) if isinstance(self._source, SpreadsSamples) else None
        return None if spread is None else islice(filter(self._part.has, spread), count)

    def content_hash(self) -> str | None:
        """See :class:`lrf.protocols.HashesContent`."""
        content = self._source.content_hash() if isinstance(self._source, HashesContent) else None
        return None if content is None else f"{content} {self._part.number}/{self._part.of}"
