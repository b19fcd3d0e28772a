"""Answers against a reference, as LongBench does: token F1 for questions, ROUGE-L for summaries (arXiv 2308.14508).

LongBench cuts Chinese into words by jieba, which is an extra (``lrf[zh]``): without it Chinese is cut into characters,
and the figures differ from published ones. ROUGE-L is that of the package ``rouge``, which LongBench uses: over
sentences, of distinct words, in the case that they are written in.
"""

from __future__ import annotations

import logging
import os
import re
import string
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

FIRST_LINE = frozenset({"trec", "triviaqa", "samsum", "lsht"})
"""Data sets of which LongBench counts the first line of an answer only."""

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_CHARACTER = re.compile(r"[㐀-鿿]|[^\s㐀-鿿]+")
_ZH_MARKS = (
    "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、"
    "〃》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏"
)
_NO_MARK = str.maketrans("", "", string.punctuation)
_NO_ZH_MARK = str.maketrans("", "", string.punctuation + _ZH_MARKS)


@cache
def cuts_words() -> bool:
    """Whether Chinese is cut into words, as LongBench does; else into characters."""
    return find_spec("jieba") is not None


def _cut(text: str) -> Iterable[str]:
    """The words of a Chinese text with what stands between them; its characters without jieba."""
    if not cuts_words():
        return _CHARACTER.findall(text)
    words: Iterable[str] = _jieba().cut(text)
    return words


@cache
def _jieba() -> Any:
    """The tokenizer. Its dictionary is cached in the user's folder, and not where anybody could put another one."""
    import jieba

    jieba.setLogLevel(logging.WARNING)
    tokenizer = jieba.Tokenizer()
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lrf"
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.tmp_dir = str(folder)
    return tokenizer


def tokens(text: str, language: str) -> list[str]:
    """Words in lower case without punctuation; of English without articles."""
    if language == "zh":
        words = ("".join(word.lower().translate(_NO_ZH_MARK).split()) for word in _cut(text))
        return [word for word in words if word]
    return _ARTICLES.sub(" ", text.lower().translate(_NO_MARK)).split()


def token_f1(answer: str, reference: str, language: str) -> float:
    """The harmonic mean of precision and recall of tokens, 0 to 1."""
    own, wanted = tokens(answer, language), tokens(reference, language)
    common = sum((Counter(own) & Counter(wanted)).values())
    return 2 * common / (len(own) + len(wanted)) if common else 0.0


def rouge_l(answer: str, reference: str, language: str) -> float:
    """The F-measure of ROUGE-L, 0 to 1.

    Found are the distinct words of the longest common subsequences of each sentence of the reference with each of the
    answer; precision and recall are their share of the distinct words of either. Sentences end at a full stop.
    """
    own, wanted = _sentences(answer, language), _sentences(reference, language)
    common = {word for theirs in wanted for ours in own for word in _common_words(theirs, ours)}
    if not common:
        return 0.0
    precision, recall = (len(common) / len({word for s in sentences for word in s}) for sentences in (own, wanted))
    return 2 * precision * recall / (precision + recall + 1e-8)


def _sentences(text: str, language: str) -> list[list[str]]:
    if language == "zh":
        text = " ".join(_cut(text))
    return [" ".join(sentence.split()).split(" ") for sentence in text.split(".") if sentence]


def _common_words(one: Sequence[str], other: Sequence[str]) -> Iterator[str]:
    """The words of a longest common subsequence, from the last; of several that which keeps late words of ``one``.

    A row of the table of lengths is a number whose bit j is 0 where the length grows with word j of ``other`` (Hyyrö,
    Bit-parallel LCS-length computation revisited, 2004).
    """
    places: dict[str, int] = {}
    for n, word in enumerate(other):
        places[word] = places.get(word, 0) | 1 << n
    everything = (1 << len(other)) - 1
    rows, row = [], everything
    for word in one:
        hits = row & places.get(word, 0)
        row = (row + hits | row - hits) & everything
        rows.append(row)
    i, j = len(one) - 1, len(other) - 1
    while i >= 0 and j >= 0:
        if one[i] == other[j]:
            yield one[i]
            i, j = i - 1, j - 1
        elif rows[i] >> j & 1:
            j -= 1
        else:
            i -= 1
