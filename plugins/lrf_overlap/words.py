"""What is known of a word of a language with spaces, wherever it stands."""

from __future__ import annotations

from collections.abc import Set
from functools import lru_cache
from typing import NamedTuple

from lrf_overlap.lexicon import DENIERS, IRREGULAR, MARKERS, NEGATIONS, PARTICIPLES, STOP_WORDS
from lrf_overlap.opposites import CONVERSES, OPPOSITES, PRIVATIVE, Signs
from lrf_overlap.patterns import NUMBER_WORDS

NUMBER = "#"
"""The key of what a number, a date or a measure may begin with."""
NO_GAP = frozenset({"of", "and", "the", "a", "an"})
"""Words without content that part nothing."""
BE = frozenset({"is", "are", "was", "were", "be", "been", "being"})


_ENDINGS = {"g": ("ing",), "d": ("ed",), "y": ("ly",), "r": ("er",)}


@lru_cache(maxsize=16384)
def stem(word: str) -> str:
    """The word in lower case without the endings of English grammar."""
    word = word.lower().replace("’", "'")
    if word.endswith("'s"):
        word = word[:-2]
    if word in IRREGULAR:
        return _plain(IRREGULAR[word])
    if len(word) > 4 and word.endswith("ies"):
        word = word[:-3] + "y"
    elif len(word) > 4 and word.endswith("ied"):
        return word[:-3] + "y"
    elif len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-2] if word.endswith(("sses", "shes", "ches", "xes", "zes")) else word[:-1]
    for ending in _ENDINGS.get(word[-1:], ()):
        if word.endswith(ending) and len(word) - len(ending) >= 3 + (ending in ("ly", "er")):
            word = word[: -len(ending)]
            if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
                word = word[:-1]
            break
    return _plain(IRREGULAR.get(word, word))


def _plain(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("e") else word


def soft(word: str) -> str:
    """What related words share: their beginning."""
    return "~" + word[:5] if len(word) >= 5 else ""


class Word(NamedTuple):
    """What is known of a word of a language with spaces, wherever it stands.

    ``found_by``: its keys, none of a word without content. ``denied``: the key of "qualified", of "unqualified";
    ``marks``: whether it does more than have content; ``plain``: neither that, nor a name, nor a gap.
    """

    lower: str
    key: str
    soft: str
    empty: bool
    coded: bool
    negation: bool
    participle: bool
    opposites: Signs
    converses: Signs
    denied: str
    found_by: tuple[str, ...]
    marks: bool
    plain: bool


@lru_cache(maxsize=16384)
def word_of(form: str) -> Word:
    """What is known of a word."""
    lower, key = form.lower(), stem(form)
    contracted = lower.endswith(("n't", "n’t"))
    negation = contracted or lower in NEGATIONS or key in NEGATIONS
    participle = lower.endswith(("ed", "en", "wn")) or lower in PARTICIPLES
    opposites = OPPOSITES.get(lower, ())
    converses = _CONVERSE_STEMS.get(key, ())
    denied = stem(match["rest"]) if lower[0] in "undi" and (match := PRIVATIVE.match(lower)) else ""
    noted = denied or negation or participle or opposites or converses or key in DENIERS
    marks = bool(noted or lower in BE or lower in MARKERS or lower in ("until", "unless", "till", "up", "down", "off"))
    empty = lower in STOP_WORDS or lower in NEGATIONS or contracted
    coded = len(form) > 1 and not form.isalpha() and any(c.isdigit() for c in form)
    return Word(
        lower=lower,
        key=key,
        soft=soft(key),
        empty=empty,
        coded=coded,
        negation=negation,
        participle=participle,
        opposites=opposites,
        converses=converses,
        denied=denied,
        found_by=_found_by(form, lower, key, empty=empty),
        marks=marks,
        plain=not (marks or coded or form[0].isupper() or (empty and lower not in NO_GAP)),
    )


class _Vocabulary:
    """Words that were met, and for each key those that have it."""

    MOST = 200_000

    def __init__(self) -> None:
        self.known: set[str] = set()
        self.forms: dict[str, set[str]] = {}


_vocabulary = _Vocabulary()


def vocabulary_with(words: Set[str]) -> _Vocabulary:
    """A vocabulary that has these words and, of documents before, most others. It grows to 200,000 words, then anew."""
    global _vocabulary
    vocabulary = _vocabulary
    if len(vocabulary.known) > _Vocabulary.MOST:
        vocabulary = _vocabulary = _Vocabulary()
    for word in words - vocabulary.known:
        for key in word_of(word).found_by:
            vocabulary.forms.setdefault(key, set()).add(word)
        vocabulary.known.add(word)
    return vocabulary


def _found_by(form: str, lower: str, key: str, *, empty: bool) -> tuple[str, ...]:
    keys = [] if empty and len(form) > 1 else [key, *filter(None, [soft(key)])]
    if lower.partition("-")[0] in NUMBER_WORDS or not lower.isalpha():
        keys.append(NUMBER)
    return tuple(keys)


_CONVERSE_STEMS = {stem(word): signs for word, signs in CONVERSES.items()}
