"""How much of a thing a clause speaks of: all, most, some, few or only this, at least or at most so many."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Set

_ENGLISH: Mapping[str, str] = {
    "neutral": "not all|not every|not always|not only|at all|after all|above all|all over|all right|only if|if only"
    r"|some \d+|some hundred|some thousand|all but|each other|at any rate|just as",
    "least": "at least|not less than|no fewer than|no less than|or more|a minimum of|upwards of",
    "limit": "at most|at the most|up to|no more than|not more than|a maximum of|or less|or fewer",
    "most": r"(?:nearly|almost|virtually|practically) (?:all|every\w*|always|each|entirely|the entire|the whole)|most"
    "|mostly|majority|usually|mainly|largely|generally|normally|typically|more than half|greater part|predominantly",
    "none": "no one|nobody|none",
    "few": "only a few|very few|few|rarely|seldom|hardly any|hardly ever|hardly|barely|scarcely|little|minority"
    "|handful",
    "some": "a few|a couple of|some|sometimes|partly|partially|part of|occasionally|in part|a number of",
    "many": "many|often|several|numerous|a lot of|lots of|frequently|plenty of|various|multiple",
    "all": "all|every|everyone|everybody|everything|each|always|both|entire|entirely|whole|wholly|fully|completely"
    "|any|anybody|anyone|anything|everywhere|without exception|in full",
    "only": "only|solely|exclusively|merely|sole|nothing but|no other|alone",
    "except": "the other|others|remaining|the rest|except|excepting|apart from|excluding|other than|unless"
    "|with the exception of",
}
_CHINESE: Mapping[str, str] = {
    "neutral": "并非|并不都|不都|未必都|不一定|不仅仅?|不只|不光|不但|不全"
    "|都市|都城|首都|成都|均匀|均衡|平均|只好|只要",
    "least": "至少|最少|起码|不少于|不低于|不小于|不下于?|以上",
    "limit": "至多|最多|顶多|不超过|不多于|不高于|不大于|以内|以下|之内",
    "most": "几乎(?:全部?|所有|每|都)|差不多(?:都|全)"
    "|绝?大多数?|绝?大部分|大都|多半|多数|通常|一般(?=[在会来要可是不])|主要|往往",
    "none": "无人|没有?人|谁也没有?",
    "few": "个别|少数|极少数?|很少|少有|罕见|鲜有|难得|寥寥",
    "some": "部分|有些|一些|有的|有时|若干|某些|偶尔",
    "many": "许多|很多|不少|众多|大量|经常|常常|时常|多次|好几",
    "all": "所有|全部|全体|全都|全[由靠为是]|一律|一概|每(?!个?[日天年月周])|都|总是|始终|任何|均|完全|整个|一切|皆",
    "only": "只|仅|唯一|唯有|单单|独家|限于",
    "except": "除|例外|以外|之外|其他|其它|其余|另外",
}
_FIRST = "".join(sorted({found[0] for words in _CHINESE.values() for found in re.findall(r"[^\W_]+", words)}))
_EITHER = re.compile(
    f"(?=[a-z{_FIRST}])(?:"
    + "|".join(rf"(?P<{name}>\b(?:{_ENGLISH[name]})\b|{_CHINESE[name]})" for name in _ENGLISH)
    + ")",
    re.IGNORECASE,
)
_PLAIN = re.compile("|".join(rf"(?P<{name}>{words})" for name, words in _ENGLISH.items()).join((r"\b(?:", r")\b")))
_WORD = re.compile("[a-z]+")
_WORDS = frozenset(_WORD.findall(" ".join(_ENGLISH.values()))) - frozenset(
    ["a", "an", "the", "of", "at", "in", "or", "to", "not", "some"]
) | {"some"}
_LEVELS: Mapping[str, float] = {"all": 1.0, "most": 0.8, "many": 0.65, "some": 0.4, "few": 0.1, "none": 0.0}
_LESS = frozenset({"only", "except"})
_BOUNDS = frozenset({"least", "limit"})


def scopes_in(text: str) -> Iterator[tuple[int, str]]:
    """Each word of scope: its place, and its class, one of the names above."""
    if text.isascii():
        text = text.lower()
        if _WORDS.isdisjoint(_WORD.findall(text)):
            return iter(())
        matches = _PLAIN.finditer(text)
    else:
        matches = _EITHER.finditer(text)
    return ((match.start(), match.lastgroup) for match in matches if match.lastgroup)


def conflict(stated: Set[str], evidence: Set[str]) -> float:
    """How far what is stated of how much differs from the evidence, 0 to 1, where both say something of it."""
    if "neutral" in stated | evidence:
        return 0.0
    if (
        "all" in stated
        and not stated & _LESS
        and ("except" in evidence or (evidence & _LESS and "all" not in evidence))
    ):
        return 0.8
    if stated & _LEVELS.keys() & evidence:
        return 0.0
    mine, theirs = _level(stated), _level(evidence)
    if mine is not None and theirs is not None:
        return min(1.0, 0.3 + abs(mine - theirs))
    bounds = stated & _BOUNDS, evidence & _BOUNDS
    return float(all(bounds) and not bounds[0] & bounds[1])


def added(stated: Set[str], evidence: Set[str]) -> float:
    """How much a statement says of scope where the evidence says nothing of it, 0 to 1."""
    if "neutral" in stated | evidence or stated <= evidence:
        return 0.0
    if "only" in stated - evidence:
        return 1.0
    if _level(stated) is not None and _level(evidence) is None:
        return 0.7
    return 0.5 if stated & _BOUNDS and not evidence & _BOUNDS else 0.0


def _level(classes: Set[str]) -> float | None:
    levels = [_LEVELS[name] for name in classes if name in _LEVELS]
    return min(levels) if levels else None
