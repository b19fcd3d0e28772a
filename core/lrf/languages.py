"""Which language's prompts fit a text: Chinese or, for everything else, English."""

from __future__ import annotations

import re
from typing import Literal

_SAMPLE = 4_000  # characters looked at, at the start, in the middle and at the end
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_KANA_OR_HANGUL = re.compile(r"[\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9d\u1100-\u11ff\u3130-\u318f\uac00-\ud7af]")
_LETTERS = re.compile(r"[^\W\d_]+")


def language_of(text: str) -> Literal["zh", "en"]:
    """ "zh" if the text is mainly Chinese, else "en".

    Chinese means more Han characters than words of other scripts, and hardly any kana or hangul (at most one for
    ten Han characters). Of a long text the start, the middle and the end are looked at.
    """
    if len(text) > 3 * _SAMPLE:
        middle = (len(text) - _SAMPLE) // 2
        text = "\n".join((text[:_SAMPLE], text[middle : middle + _SAMPLE], text[-_SAMPLE:]))
    han = len(_HAN.findall(text))
    if 10 * len(_KANA_OR_HANGUL.findall(text)) > han:
        return "en"
    other_words = len(_LETTERS.findall(_HAN.sub(" ", text)))
    return "zh" if han > other_words else "en"
