"""Statements on real texts that are known to be true or false: sentences said otherwise, and with one error planted.

True ones are reworded by a table, merged with their neighbour, or have their numbers written in another form. False
ones have another number, year, name or negation, two parts exchanged, or are sentences of another passage.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from retrieval_recall import reworded_chinese, reworded_english

KINDS = ("number", "date", "name", "negation", "relation", "scope", "passage")
"""The kinds of planted errors."""

_ENDS = {"en": re.compile(r"(?<=[.!?])\s+(?=[A-Z])"), "zh": re.compile("(?<=[。！？])\\s*")}
_LENGTHS = {"en": (50, 260), "zh": (16, 110)}
_AUXILIARY = r"\b(is|are|was|were|can|must|should|will|has|have|may)\b"
_ONES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_HAN_DIGITS = "零一二三四五六七八九"
_PART = re.compile(
    r"(?<=[a-z,;] )[A-Z][a-z]{3,}\b(?! [A-Z])|(?<=[\u4e00-\u9fff] )[A-Z][a-z]{2,}\b|(?<![\w.])\d+(?![\w.])"
)
_ZH_AROUND = re.compile(
    "([\u4e00-\u9fff\\w ]{2,12})(使用|提供|包含|取代|支持|管理|控制|依赖|安装|创建|允许|代表|影响)"
    "([\u4e00-\u9fff\\w ]{2,12})([。，；].*)"
)
_PRONOUNS = "It|This|That|These|Those|They|There|We|You|He|She|All|Here|When|If|Note|One|Some|Such|What|Each"
_VERBS = "uses|provides|contains|includes|replaces|requires|needs|supports|allows|controls|manages|reads|follows"
_VERBS += "|precedes|shows|gives|helps|affects|influences|made|gave|wrote|founded|led|sees|defines|creates|leads"
_AROUND = re.compile(
    rf"(?!(?:{_PRONOUNS}) )((?:[\w'-]+ ){{1,4}})({_VERBS}) ((?:[\w'-]+ ?){{1,4}}?)"
    r"(?=[,.;]| (?:to|in|on|for|with|from|by|as|of|and|that)\b)(.*)"
)
_NAME = re.compile(r"(?<=[a-z,;] )[A-Z][a-z]{3,}\b(?! [A-Z])")


@dataclass(frozen=True)
class Row:
    """A statement on a document; ``kind`` is "true" or that of the error, ``source`` where the document is from."""

    document: str
    statement: str
    label: int
    lang: str
    kind: str = ""
    source: str = ""


def planted(text: str, lang: str, source: str, count: int, rng: random.Random) -> Iterator[Row]:
    """Rows on sentences of a text, at most ``count`` of each kind; each sees some sentences around its own."""
    sentences = [s for s in (" ".join(p.split()) for p in _ENDS[lang].split(text)) if s]
    low, high = _LENGTHS[lang]
    places = [n for n, s in enumerate(sentences) if low <= len(s) <= high and s[-1] in ".!?。！？"]
    names = sorted({m[0] for s in sentences for m in _NAME.finditer(s)})
    makers = _makers(lang, sentences, names, rng)
    for kind, make in makers.items():
        rng.shuffle(places)
        made = 0
        for place in places:
            statement = make(place)
            if statement is None or (statement == sentences[place] and kind not in ("true verbatim", "passage")):
                continue
            first = max(0, place - rng.randrange(12))
            document = " ".join(sentences[first : first + 14])
            if kind == "passage" and statement in document:
                continue
            label = int(kind.startswith("true"))
            yield Row(document, statement, label, lang, "true" if label else kind, source)
            made += 1
            if made >= (count if label == 0 or kind != "true verbatim" else count // 2):
                break


def _makers(
    lang: str, sentences: Sequence[str], names: Sequence[str], rng: random.Random
) -> dict[str, Callable[[int], str | None]]:
    def passage(place: int) -> str | None:
        far = (place + len(sentences) // 2 + rng.randrange(20)) % len(sentences)
        low, high = _LENGTHS[lang]
        return sentences[far] if low <= len(sentences[far]) <= high else None

    def merged(place: int) -> str | None:
        if place + 1 >= len(sentences):
            return None
        one, two = sentences[place], sentences[place + 1]
        if lang == "zh":
            return one.rstrip("。！？") + "，并且" + two if len(two) < 110 else None
        return f"{one.rstrip('.!?')}, and {two[0].lower() + two[1:]}" if len(two) < 220 else None

    reword = reworded_english if lang == "en" else reworded_chinese
    return {
        "true verbatim": lambda p: sentences[p],
        "true reworded": lambda p: reword(sentences[p]),
        "true merged": merged,
        "true forms": lambda p: _other_form(sentences[p], lang),
        "number": lambda p: _other_number(sentences[p], lang, rng),
        "date": lambda p: _other_year(sentences[p], rng),
        "name": lambda p: _other_name(sentences[p], names, rng),
        "negation": lambda p: _negated(sentences[p], lang),
        "relation": lambda p: _exchanged(sentences[p], lang),
        "scope": lambda p: _other_scope(sentences[p], lang, rng),
        "passage": passage,
    }


def _other_form(sentence: str, lang: str) -> str | None:
    """The sentence with its first number written otherwise: 7 as seven, 2000 as 2,000 or 二千, 5% as five percent."""
    match = re.search(r"(?<![\d.,\w-])(\d{1,4})( ?%)?(?![\d.,\w-])", sentence)
    if match is None or 1900 <= int(match[1]) < 2100:
        return None
    value = int(match[1])
    if lang == "zh":
        written = _chinese(value)
        changed = f"百分之{written}" if match[2] else written
    elif value <= 12:
        changed = _ONES[value] + (" percent" if match[2] else "")
    else:
        changed = f"{value:,}" + (" per cent" if match[2] else "")
    return sentence[: match.start()] + changed + sentence[match.end() :] if changed != match[0] else None


def _chinese(value: int) -> str:
    """A numeral below 10,000."""
    written, zero = "", False
    for size, word in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit = value // size % 10
        if digit:
            written += ("零" if zero and written else "") + _HAN_DIGITS[digit] + word
        zero = not digit
    return written.removeprefix("一") if 10 <= value < 20 else written or "零"


def _other_number(sentence: str, lang: str, rng: random.Random) -> str | None:
    matches = [m for m in re.finditer(r"(?<![\w.,-])\d+(?![\w.,-]\d)", sentence) if not re.fullmatch("(19|20)..", m[0])]
    if matches:
        match = rng.choice(matches)
        changed = str(int(match[0]) * rng.choice((2, 3)) + rng.randrange(1, 9))
    else:
        words = _ONES[2:] if lang == "en" else list("二三四五六七八九")
        pattern = rf"\b({'|'.join(words)})\b" if lang == "en" else f"[{''.join(words)}](?=[个名天年月日种条次])"
        match_ = re.search(pattern, sentence)
        if match_ is None:
            return None
        match, changed = match_, rng.choice([w for w in words if w != match_[0]])
    return sentence[: match.start()] + changed + sentence[match.end() :]


def _other_year(sentence: str, rng: random.Random) -> str | None:
    match = re.search(r"(?<!\d)(19|20)\d\d(?!\d)", sentence)
    if match is None:
        return None
    return sentence[: match.start()] + str(int(match[0]) + rng.choice((-11, -3, 2, 7))) + sentence[match.end() :]


def _other_name(sentence: str, names: Sequence[str], rng: random.Random) -> str | None:
    match = _NAME.search(sentence) or re.search(
        r"(?<=[\u4e00-\u9fff] )[A-Z][a-z]{3,}\b|(?<=[\u4e00-\u9fff])[A-Z][a-z]{3,}", sentence
    )
    if match is None or not names:
        return None
    others = [name for name in names if name not in sentence]
    return sentence[: match.start()] + rng.choice(others) + sentence[match.end() :] if others else None


def _negated(sentence: str, lang: str) -> str | None:
    if lang == "zh":
        if match := re.search("不(?=[是会能需要])|没有(?=[被])", sentence):
            return sentence[: match.start()] + sentence[match.end() :]
        match = re.search("(?<!不)(?<!就)(是(?!否|非)|可以|需要|应该|能够)", sentence)
        return sentence[: match.start()] + "不" + sentence[match.start() :] if match else None
    if match := re.search(rf"{_AUXILIARY} not\b", sentence):
        return sentence[: match.end() - 4] + sentence[match.end() :]
    match = re.search(_AUXILIARY + "(?! (?:also|to|no|never))", sentence)
    if re.search(r"\b(not|no|never|nothing|without|nor)\b|n't", sentence):
        return None
    return sentence[: match.end()] + " not" + sentence[match.end() :] if match else None


_SCOPES = {
    "en": (
        ("all", "some", "few"), ("every", "hardly any"), ("most", "few", "all"), ("many", "few"), ("some", "all"),
        ("always", "rarely", "sometimes"), ("often", "rarely", "always"), ("usually", "rarely", "always"),
        ("sometimes", "always"), ("at least", "at most"), ("only", "not only"), ("several", "all"), ("both", "neither"),
    ),
    "zh": (
        ("所有", "部分", "少数"), ("全部", "部分"), ("许多", "少数", "所有"), ("很多", "很少"), ("部分", "全部"),
        ("某些", "所有"), ("有些", "所有"), ("大多数", "少数", "所有"), ("大部分", "全部"), ("通常", "很少", "总是"),
        ("经常", "很少"), ("至少", "最多"),
        ("最多", "至少"), ("只有", "不只有"), ("仅", "不仅"), ("总是", "偶尔"), ("一些", "全部"), ("有时", "总是"),
    ),
}  # fmt: skip


def _other_scope(sentence: str, lang: str, rng: random.Random) -> str | None:
    """The sentence with another word of how much or how often, or with "only" where it has none."""
    for word, *others in rng.sample(_SCOPES[lang], len(_SCOPES[lang])):
        pattern = rf"(?<![\w-]){word}(?![\w-])" if lang == "en" else word
        if match := re.search(pattern, sentence, re.IGNORECASE):
            other = rng.choice(others)
            other = other.capitalize() if match[0][0].isupper() else other
            return sentence[: match.start()] + other + sentence[match.end() :]
    return None


def _exchanged(sentence: str, lang: str) -> str | None:
    """The sentence with two names or numbers exchanged, or what stands around its verb where both are short."""
    for one, two in pairwise(_PART.finditer(sentence)):
        between = sentence[one.end() : two.start()]
        same = one[0].isdigit() == two[0].isdigit() and one[0] != two[0]
        if same and len(between) > 12 and not re.fullmatch(r".*(,| and| or|、|和|与|或) ?", between):
            return sentence[: one.start()] + two[0] + between + one[0] + sentence[two.end() :]
    match = (_ZH_AROUND if lang == "zh" else _AROUND).match(sentence)
    if match is None:
        return None
    before, verb, after, rest = match.groups()
    return (
        after + verb + before + rest if lang == "zh" else f"{after.strip().capitalize()} {verb} {before.strip()}{rest}"
    )
