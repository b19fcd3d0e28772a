"""Makes marks and tags in untrusted text harmless before a judge reads it, and undoes that in what the judge quotes.

A judge's rating is read from a mark (``[[8]]``), its reasoning ends at a tag (``</think>``), and the parts of a prompt
lie between tags (``<answer>`` … ``</answer>``). A document or an answer could write any of these. So everything
untrusted is *escaped* on its way into a prompt: one character is inserted, the text stays readable, and nothing that
a judge quotes can be taken for its own mark.

===================  ====================  =========================================================================
in the text          in the prompt         rule
===================  ====================  =========================================================================
``[[8]]``            ``[ [8] ]``           a space between two brackets of one direction
``</answer>``        ``<·/answer>``        a middle dot behind the bracket of a tag that frames a part of the prompt
``</think>``         ``<·/think>``         the same for all forms of reasoning
``<|im_end|>``       ``<·|im_end|>``       and for the turns and tools of chat templates: ``</s>``, ``[INST]``, …
``⟦8⟧``              ``⟦·8⟧``              the same for a double bracket that is one character
===================  ====================  =========================================================================

Text is compared in a normal form (:func:`normal_form`), so ``【【8】】``, fullwidth letters, Cyrillic look-alikes and
invisible characters within a tag make no difference. Text that already looks escaped gets one more of the inserted
character, therefore :func:`unescape` is an exact inverse. Both take time in proportion to the text's length.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Set
from functools import lru_cache
from itertools import pairwise

FRAME_TAGS = frozenset((
    "answer", "context", "document", "documents", "evidence", "example", "item", "items", "judgement", "note", "notes",
    "part", "passage", "passages", "question", "statement", "statements",
))  # fmt: skip
"""Tags that are escaped in every prompt. A template adds those that close a part of its own text."""

_REASONING_TAGS = (
    "think", "thinking", "thought", "thoughts", "reasoning", "reflection", "scratchpad", "analysis", "seed:think",
    "mm:think", "longcat_think",
)  # fmt: skip

# What else chat templates frame turns and tools with: a server reads these as special tokens wherever they stand.
_TURNS = (
    r"s|sys|(?:seed:)?[be]os|[se]op|(?:start|end)_of_turn|tool_(?:calls?|response)|function_calls?"
    r"|(?:unused|reserved_|special_|extra_id_)\d{1,5}"
)
_SQUARE_TAGS = r"think(?:ing)?|inst|system_prompt|available_tools|tool_(?:calls|results|content)|gmask"


def _marks() -> str:
    """The combining and format characters of all scripts, for a class: a reader may drop any of them.

    Rare scripts beyond U+FFFF count with the letters among them, which no Latin one looks like: a class of many ranges
    there makes every match slow.
    """
    marks = [n for n in range(0x300, 0x1E950) if unicodedata.category(chr(n)) in ("Mn", "Me", "Cf")]
    pairs = [(one, other) for one, other in pairwise(marks) if other - one > (1 if other <= 0xFFFF else 256)]
    begins, ends = [marks[0], *(other for _, other in pairs)], [*(one for one, _ in pairs), marks[-1]]
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in zip(begins, ends, strict=True))


# Characters that normalisation, display or a tokenizer may drop: format, variation, filling, combining, control.
_INVISIBLE = _marks() + (
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u115f\u1160\u1acf-\u1aff\u2065\u20f1-\u20ff\u3164\uffa0\ufff0-\ufff8"
    "\U000e0000-\U000e0fff"
)
# With escapes where normalisation makes another character of one, so that no editor does.
_OPEN = r"\[［﹇【〔〖﹝⁅❲⦋⦍⦏︻︗⟬〘⦗⹕⹗" + "\ufe39"
_CLOSE = r"\]］﹈】〕〗﹞⁆❳⦌⦎⦐︼︘⟭〙⦘⹖⹘" + "\ufe3a"
_ANGLES = "<＜﹤‹〈《⟨⟪❮❬❰˂ᐸ◁«≪⋘⪡⦑⧼" + "\u226e\u2329\ufe3d\ufe3f"
_ANGLES_BACK = ">＞﹥›〉》⟩⟫❯❭❱˃ᐳ▷»≫⋙⪢⦒⧽" + "\u226f\u232a\ufe3e\ufe40"
_DOUBLES, _DOUBLES_BACK = "⟦〚", "⟧〛"
_DOT = "·"

# Cyrillic, Greek, Armenian, Latin small capitals, Cherokee, Lisu and Coptic, in the case in which folding leaves them.
_LOOK_ALIKE_LETTERS = {
    "a": "аαɑᴀꭺᎪꓮⲁ", "b": "ьβʙꞵᏏᏼᏴꓐⲃ", "c": "сᴄᏟꓚⲥϲ", "d": "ԁᴅᎠᏧꓓ", "e": "еεᴇᎬꓰⲉ", "f": "ꓝϝ", "g": "ԍɡɢᏀᏻᏳꓖց",
    "h": "һհʜᎻꓧⲏ", "i": "іιıɩɪᎥꓲⲓ", "j": "јᴊᎫꓙϳ", "k": "кκᴋᏦꓗⲕ", "l": "ӏʟᏞꓡⳑ", "m": "мᴍᎷꓟⲙ", "n": "пηոɴꓠⲛ",
    "o": "оοօᴏᎾꓳⲟσ", "p": "рρᴘᏢꓑⲣ", "q": "ԛգ", "r": "гʀᎡᏒꓣⲅ", "s": "ѕꜱᏚᏕꓢ", "t": "тτᴛᎢꓔⲧ", "u": "υսᴜꓴ", "v": "νᴠᏙꓦѵ",
    "w": "ԝωᴡᎳᏔꓪⲱ", "x": "хχꓫⲭ", "y": "уγʏᎩꓬⲩү", "z": "ᴢᏃꓜⲍ",
}  # fmt: skip

_LOOK_ALIKES = str.maketrans(
    {
        **dict.fromkeys(_OPEN.removeprefix("\\"), "["),
        **dict.fromkeys(_CLOSE.removeprefix("\\"), "]"),
        **dict.fromkeys(_ANGLES, "<"),
        **dict.fromkeys(_ANGLES_BACK, ">"),
        **dict.fromkeys(_DOUBLES, "[["),
        **dict.fromkeys(_DOUBLES_BACK, "]]"),
        **dict.fromkeys("∕⁄⧸╱⟋", "/"),
        **dict.fromkeys("∣ǀ│❘", "|"),
        **{other: letter for letter, others in _LOOK_ALIKE_LETTERS.items() for other in others},
    }
)

# Two brackets of one direction, also as Markdown escapes them, or a double one, or MiniMax's ends of turns (]~b]). The
# first character decides, so that other text is skipped quickly.
_PAIRS = (
    rf"(?<=[{_OPEN}]){{0}}(?=[ \\{_INVISIBLE}]*+(?:[{_OPEN}]|[eE]~\[))"
    rf"|(?<=[{_CLOSE}]){{0}}(?=[ \\{_INVISIBLE}]*+(?:[{_CLOSE}]|~!?[bB][\[\]]))"
    rf"|(?<=[{_DOUBLES}]){{1}}"
)
_BRACKETS = re.compile(f"[{_OPEN}{_CLOSE}{_DOUBLES}](?:{_PAIRS.format('', '')})")
_ESCAPED_BRACKETS = re.compile(f"[{_OPEN}{_CLOSE}{_DOUBLES}](?:{_PAIRS.format(' ', _DOT)})")
_DROPPED = re.compile(f"[{_INVISIBLE}]+")
_SQUARES = re.compile(f"[{_OPEN}{_CLOSE}{_DOUBLES}]")
_ANGLE = re.compile(f"[{_ANGLES}]")
_SPECIAL = re.compile(f"[{_OPEN}{_CLOSE}{_DOUBLES}{_ANGLES}]")
# What follows the bracket of a tag, up to another bracket: no more characters than a tag has, invisible ones aside.
_BEHIND = re.compile(rf"(?:[{_INVISIBLE}\s]*+[^{_INVISIBLE}\s{_OPEN}{_ANGLES}]){{0,64}}")
_ALL_BRACKETS = _OPEN + _CLOSE + _DOUBLES + _ANGLES + _ANGLES_BACK
_ANY_BRACKET = re.compile(f"[{_ALL_BRACKETS}]")
_CJK = "\u3041-\u3098\u309b-\u3163\u3165-\u9fff\uac00-\ud7a3"  # no look-alikes of a tag's characters
_DISGUISED = rf"(?-i:[^\x00-\x7f{_CJK}]|[{_INVISIBLE}])"  # what may stand for another character, or for none
_SQUARE = re.compile(
    rf"[{_OPEN}]({_DOT}*+)(?=\s*+[/\\]*+\s*+(?:{_SQUARE_TAGS}|\|)|[ \t\n\r/\\|a-z_]{{0,24}}+{_DISGUISED})",
    re.IGNORECASE,
)

_CACHED_FROM, _CACHED = 2_000, 64  # characters of a text that is escaped once for all its prompts; such texts
_SHORT_BEHIND = 256  # characters behind a bracket that are remembered; a run of white space can be of any length


def escape(text: str, tags: Set[str] = FRAME_TAGS) -> str:
    """The text with its marks and tags made harmless.

    ``tags``: names of tags (without brackets, in small letters) that frame the prompt's parts.
    """
    if not _has_one(text, _SPECIAL, "[]<"):
        return text
    return (_escaped_before if len(text) >= _CACHED_FROM else _escaped)(text, frozenset(tags))


def unescape(text: str, tags: Set[str] = FRAME_TAGS) -> str:
    """The inverse of :func:`escape`, for a whole text or for what a judge quotes of it."""
    if _DOT in text:  # else no tag is escaped
        text = _tags_unescaped(text, tags)
    if text.isascii() and "[ " not in text and "] " not in text:
        return text
    return _ESCAPED_BRACKETS.sub(lambda m: m[0][0], text)


def _has_one(text: str, special: re.Pattern[str], ascii_characters: str) -> bool:
    """Whether the text has a special character: which those in ASCII are is said, since looking for them is quicker."""
    if text.isascii():
        return any(character in text for character in ascii_characters)
    return special.search(text) is not None


def normal_form(text: str) -> str:
    """The text as a careless reader sees it: compatibility forms, look-alikes and case folded, no accents.

    What can't be seen is gone.
    """
    if text.isascii():  # it has neither look-alikes nor compatibility forms
        return _DROPPED.sub("", text).lower()
    text = unicodedata.normalize("NFKD", _DROPPED.sub("", text).translate(_LOOK_ALIKES)).casefold()
    return unicodedata.normalize("NFC", _DROPPED.sub("", text).translate(_LOOK_ALIKES))


def tags_of(literal: str) -> frozenset[str]:
    """The names of the tags that a template's own text closes, in small letters."""
    return frozenset(name.casefold() for name in re.findall(r"</\s*([^\W\d_][\w:-]{0,40})\s*>", literal))


def meet_harmfully(before: str, after: str, tags: Set[str]) -> bool:
    """Whether a mark or tag begins at the end of one text and ends at the beginning of the next."""
    before, after = before[-_EDGE:], after[:_EDGE]
    if not _leaves_open(before):
        return False
    added = len(escape(before + after, tags)) - len(before + after)
    return added > len(escape(before, tags)) - len(before) + len(escape(after, tags)) - len(after)


_EDGE = 96


@lru_cache(256)  # the ends of a template's own words come again and again
def _leaves_open(text: str) -> bool:
    brackets = _ANY_BRACKET.findall(text)
    return bool(brackets) and brackets[-1] not in _ANGLES_BACK


def _escaped(text: str, tags: frozenset[str]) -> str:
    if _has_one(text, _SQUARES, "[]"):
        text = _BRACKETS.sub(_with_insertion, text)
    return _tags_escaped(text, tags)


_escaped_before = lru_cache(_CACHED)(_escaped)
"""A sample's documents are in the prompts of all its candidates, which are made one after another."""


def _with_insertion(match: re.Match[str]) -> str:
    return match[0] + (_DOT if match[0] in _DOUBLES else " ")


def _tags_escaped(text: str, tags: Set[str]) -> str:
    if _has_one(text, _ANGLE, "<"):
        angle, names = _angle(frozenset(tags))
        text = angle.sub(lambda m: m[0] + _DOT if names.match(_behind(m)) else m[0], text)
    if _has_one(text, _SQUARES, "["):
        text = _SQUARE.sub(lambda m: m[0] + _DOT if _IN_SQUARES.match(_behind(m)) else m[0], text)
    return text


def _tags_unescaped(text: str, tags: Set[str]) -> str:
    angle, names = _angle(frozenset(tags))
    text = angle.sub(lambda m: m[0][:-1] if m[1] and names.match(_behind(m)) else m[0], text)
    return _SQUARE.sub(lambda m: m[0][:-1] if m[1] and _IN_SQUARES.match(_behind(m)) else m[0], text)


def _behind(bracket: re.Match[str]) -> str:
    """What follows a bracket and the dots behind it, in the normal form with single spaces."""
    behind = _BEHIND.match(bracket.string, bracket.end())
    text = behind[0] if behind else ""
    return _known_normal_form(text) if len(text) <= _SHORT_BEHIND else _in_normal_form(text)


def _in_normal_form(behind: str) -> str:
    return re.sub(r"\s+", " ", normal_form(behind))


_known_normal_form = lru_cache(4096)(_in_normal_form)
"""Passages come again with each statement that they are evidence of."""


_IN_SQUARES = re.compile(rf" ?[/\\]* ?(?:{_SQUARE_TAGS}) ?\\?\]|\| ?[\w /]{{1,20}} ?\|\]")


@lru_cache(256)
def _angle(tags: frozenset[str]) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Where a tag may begin, and what must then stand behind its bracket in the normal form with single spaces.

    Both look no further than the end of the tag's name and at no other bracket, so escaping a later tag changes
    neither, and they decide alike on a text and on the escaped text.
    """
    names = "|".join(sorted(map(re.escape, {*tags, *_REASONING_TAGS}), key=len, reverse=True))
    name = rf"(?:{names})(?![\w:-])"
    behind = (
        rf" ?[/\\]+ ?{name}|{name}| {name} ?>"
        r"| ?/? ?\| ?[\w :./▁-]{1,40}\|? ?>| ?/? ?[\w:]{1,20} ?\| ?>"  # <|special|>, <|special>, <special|>
        rf"| ?[/\\]* ?(?:{_TURNS}) ?\\?>"
    )
    plain = rf"(?-i:[\t\n\r /\\|:.0-9A-Za-z_{_CJK}-]{{0,64}}+)"
    begins = rf"\s*+[/\\]*+\s*+(?:{names}|\||[\w:]{{1,20}}\s*+\||(?:{_TURNS})[\s\\>])|{plain}{_DISGUISED}"
    return re.compile(rf"[{_ANGLES}]({_DOT}*+)(?={begins})", re.IGNORECASE), re.compile(behind)
