"""Which language's prompts fit a text: Chinese or, for everything else, English."""

from __future__ import annotations

import re
from typing import Literal

_PLACES, _LENGTH = 10, 400  # of a long text: how many places are looked at, and how many characters at each
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+")
_KANA_OR_HANGUL = re.compile(r"[\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9d\u1100-\u11ff\u3130-\u318f\uac00-\ud7af]+")
_LETTERS = re.compile(r"[^\W\d_]+")
_LEADING_BYTES = bytes(range(0xE3, 0x100))
"""In UTF-8, what every character from U+3000 on begins with, and no other."""


def language_of(text: str) -> Literal["zh", "en"]:
    """ "zh" if the text is mainly Chinese, else "en".

    Chinese means more Han characters than words of other scripts, and hardly any kana or hangul (at most one for
    ten Han characters). Of a long text ten places are looked at, from its start to its end.
    """
    if len(text) > _PLACES * _LENGTH:
        step = (len(text) - _LENGTH) // (_PLACES - 1)
        text = "\n".join(text[place * step : place * step + _LENGTH] for place in range(_PLACES))
    if not _may_have_han(text):
        return "en"
    han = _characters(_HAN, text)
    if not han or 10 * _characters(_KANA_OR_HANGUL, text) > han:
        return "en"
    other_words = len(_LETTERS.findall(_HAN.sub(" ", text)))
    return "zh" if han > other_words else "en"


def _may_have_han(text: str) -> bool:
    """Whether the text has a character from U+3000 on: many times quicker than looking for Han characters."""
    if text.isascii():
        return False
    encoded = text.encode("utf-8", "replace")
    return len(encoded.translate(None, _LEADING_BYTES)) < len(encoded)


def _characters(of: re.Pattern[str], text: str) -> int:
    return sum(map(len, of.findall(text)))
