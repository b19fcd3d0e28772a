"""Answers against a reference, as LongBench does: token F1 for questions, ROUGE-L for summaries (arXiv 2308.14508)."""

from __future__ import annotations

import re
import string
from collections import Counter

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_HAN = re.compile(r"[㐀-鿿]")
_ZH_MARKS = "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～、《》「」『』【】〔〕…—“”‘’·"


def tokens(text: str, language: str) -> list[str]:
    """Words in lower case without punctuation and articles; of Chinese every character.

    LongBench cuts Chinese by jieba; characters need no dictionary, and give F1 a little above words.
    """
    text = text.lower()
    if language == "zh":
        text = "".join(c for c in text if c not in _ZH_MARKS and c not in string.punctuation)
        return re.findall(r"[㐀-鿿]|[^\s㐀-鿿]+", text)
    return _ARTICLES.sub(" ", "".join(c for c in text if c not in string.punctuation)).split()


def token_f1(answer: str, reference: str, language: str) -> float:
    """The harmonic mean of precision and recall of tokens, 0 to 1."""
    own, wanted = tokens(answer, language), tokens(reference, language)
    common = sum((Counter(own) & Counter(wanted)).values())
    return 2 * common / (len(own) + len(wanted)) if common else 0.0


def rouge_l(answer: str, reference: str, language: str) -> float:
    """The F-measure of the longest common subsequence of tokens, 0 to 1."""
    from rapidfuzz.distance import LCSseq

    own, wanted = tokens(answer, language), tokens(reference, language)
    longest = LCSseq.similarity(own, wanted)
    return 2 * longest / (len(own) + len(wanted)) if longest else 0.0
