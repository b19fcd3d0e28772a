"""The sentence of the evidence that a statement is most like, so that a reader need not look through all of it.

Likeness is Dice's coefficient of the sets of words; of scripts without spaces, of pairs of neighbouring characters.
It only says where to look first: a verdict never depends on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lrf.types import Span

_SENTENCE = re.compile(
    r"""(?:[^.!?。！？；…\n]|[.!?](?!\s)|[.!?](?=\s[a-z])|\n(?=[^\S\n]*[a-z]))+(?:[.!?。！？；…]+["'”’»)\]}」』）】》]*)?"""
)
"""Up to a full stop or the line's end, unless it goes on in small letters ("e.g. this", a wrapped line)."""
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Thai, Lao, Burmese, Khmer, Japanese, Chinese."""
_TERM = re.compile(rf"(?=([{_UNSPACED}]{{2}}))|([^\W{_UNSPACED}]+)")


@dataclass(slots=True)
class Sentences:
    """The sentences of documents, by the span they are looked for in; each is cut once.

    Parameters
    ----------
    texts: the documents' texts by id.
    """

    texts: Mapping[str, str]
    _cut: dict[Span, list[tuple[Span, frozenset[str]]]] = field(default_factory=dict)

    def closest(self, statement: str, evidence: Iterable[Span]) -> Span | None:
        """The sentence most like the statement, the first of equals; None where none has a word of it."""
        words, best, place = terms(statement), 0.0, None
        for span in evidence:
            for sentence, its in self._sentences(span):
                likeness = 2 * len(words & its) / (len(words) + len(its)) if its else 0.0
                if likeness > best:
                    best, place = likeness, sentence
        return place

    def _sentences(self, span: Span) -> list[tuple[Span, frozenset[str]]]:
        if span not in self._cut:
            text = self.texts.get(span.document, "")
            self._cut[span] = [
                (Span(span.document, m.start() + _indent(m[0]), m.end()), terms(m[0]))
                for m in _SENTENCE.finditer(text, span.start, min(span.end, len(text)))
                if not m[0].isspace()
            ]
        return self._cut[span]


def terms(text: str) -> frozenset[str]:
    """The words of a text; of scripts without spaces, the pairs of neighbouring characters."""
    return frozenset(pair or word for pair, word in _TERM.findall(text.casefold()))


def _indent(text: str) -> int:
    return len(text) - len(text.lstrip())
