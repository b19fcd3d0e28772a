"""BM25 over the chunks of one sample: weights of terms, for languages with and without spaces between words.

Okapi BM25 as in Lucene (Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009, section 3): k1 1.2,
b 0.75, and an inverse document frequency that is never negative. Frequencies are the sample's own, so its evidence
never depends on other samples.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from lrf.text.unicode import without_invisible

Sparse = tuple[list[int], list[float]]
"""Numbers of terms, increasing, and the weight of each."""

K1, B = 1.2, 0.75

# Scripts written without spaces: Thai to Tibetan, Burmese, Khmer, kana, Han. Hangul has spaces, but long words.
_UNSPACED = "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3"
_UNSPACED += "\uf900-\ufaff\U00020000-\U0003ffff"
# Marks within words, which \w leaves out: accents, points of Hebrew and Arabic, vowels from Devanagari to Sinhala.
_MARKS = "\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7"
_MARKS += "\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0900-\u0963\u0966-\u0dff"
_TERM = re.compile(rf"[{_UNSPACED}]+|\d+(?:[.,]\d+)+|[^\W{_UNSPACED}]+(?:[{_MARKS}]+[^\W{_UNSPACED}]*)*")
_UNSPACED_RUN = re.compile(f"[{_UNSPACED}]+")


def terms(text: str) -> list[str]:
    """The terms of a text: words and numbers, regardless of case and width; without spaces, pairs of characters.

    A run of Chinese (or Thai, Japanese, Korean, …) gives its bigrams, which need no dictionary; one character itself.
    Soft hyphens and other characters that can't be seen are passed over.
    """
    words: list[str] = []
    for run in _TERM.findall(unicodedata.normalize("NFKC", without_invisible(text)).casefold()):
        if len(run) > 1 and _UNSPACED_RUN.match(run):
            words.extend(run[i : i + 2] for i in range(len(run) - 1))
        else:
            words.append(run)
    return words


class Bm25:
    """Weights of every term in every text, and the sums of them that a query takes."""

    def __init__(self, texts: Sequence[str]) -> None:
        counted = [Counter(terms(text)) for text in texts]
        lengths = np.array([counts.total() for counts in counted], dtype=np.float64)
        self._numbers: dict[str, int] = {}
        # from generators: converting a list of a million items blocks all other threads
        columns = (self._numbers.setdefault(term, len(self._numbers)) for counts in counted for term in counts)
        self._columns = np.fromiter(columns, dtype=np.int64)
        self._rows = np.repeat(np.arange(len(texts)), [len(counts) for counts in counted])
        frequency = np.fromiter((n for counts in counted for n in counts.values()), dtype=np.float64)
        norm = K1 * (1 - B + B * lengths / max(lengths.mean(), 1e-9)) if len(texts) else lengths
        self._weights = (frequency / (frequency + norm[self._rows])).astype(np.float32)
        texts_with = np.bincount(self._columns, minlength=len(self._numbers))
        self._idf = np.log1p((len(texts) - texts_with + 0.5) / (texts_with + 0.5))
        self._by_term = np.argsort(self._columns, kind="stable")
        self._first = np.concatenate(([0], np.cumsum(texts_with)))
        self._size = len(texts)

    def documents(self) -> list[Sparse]:
        """The weights of each text's terms, 0 to 1."""
        first = np.searchsorted(self._rows, np.arange(self._size + 1))
        weights = []
        for a, b in pairwise(first):
            order = a + np.argsort(self._columns[a:b])
            weights.append((self._columns[order].tolist(), self._weights[order].tolist()))
        return weights

    def query(self, text: str) -> Sparse:
        """The weights of a query's terms, summing to 1, so that no text scores above 1; terms of no text left out."""
        known = Counter(number for term in terms(text) if (number := self._numbers.get(term)) is not None)
        numbers = sorted(known)
        weights = np.array([known[n] * self._idf[n] for n in numbers], dtype=np.float64)
        return numbers, (weights / weights.sum()).tolist() if numbers else []

    def rankings(self, queries: Sequence[str], most: int) -> list[list[int]]:
        """For each query the numbers of the texts that :meth:`best` gives."""
        return [self.best(self.query(query), most) for query in queries]

    def best(self, query: Sparse, most: int) -> list[int]:
        """The numbers of the texts that score highest, best first; equal ones in their order; none that scores 0.

        The sum is the product of the sparse vectors, to six places.
        """
        scores = np.zeros(self._size)
        for number, weight in zip(*query, strict=True):
            places = self._by_term[self._first[number] : self._first[number + 1]]
            scores[self._rows[places]] += weight * self._weights[places]
        scores = np.round(scores, 6)
        order = np.argsort(-scores, kind="stable")[:most]
        return [int(number) for number in order if scores[number] > 0]
