"""Marks and labels: how a rating or a verdict is written in free text, and how it is found there.

A mark is a label between doubled square brackets, ``[[7]]`` or ``[[No support]]``. Judges dress it up; which dressings
are read is a table in ``docs/how-to/choose-how-to-rate.md``. Untrusted text holds no mark when it reaches the judge
(see :mod:`lrf.prompting.escaping`), so every mark in a reply is the judge's own.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, TypeVar

from lrf.errors import ParseError, Reason
from lrf.prompting.requests import Answer, Reply
from lrf.prompting.templates import Prompt, prompt_text
from lrf.types import JSON

T = TypeVar("T")

MOST_CHARACTERS = 2_000
"""Characters of a label; what is longer between brackets is no label."""
REMEMBERED_CHARACTERS = 32
"""Of labels that are remembered."""

# White space is stripped afterwards: an expression that matched it apart would take cubic time.
_MARK = re.compile(r"[\[［【]{2}([^\[\]［］【】]*)[\]］】]{2}")
_ASCII_MARK = re.compile(r"\[\[([^\[\]]*)\]\]")
_NUMBER = re.compile(
    r"(?:(?:rating|score|评分|得分|分数) ?[:=] ?)?([+-]?\d+(?:\.\d*)?)"
    r"(?: ?(?:/|out of|of) ?(\d{1,9}))?(?: ?(?:points?|分))?"
)
_NAMED = re.compile(r"(?:rating|verdict|label|choice|评级|结论|判断) ?[:=] ?")
_AROUND = " \"'“”‘’`*_"
_AT_THE_END = ".。,;:!…"


def mark_of(label: str) -> str:
    """The label as a mark: ``[[label]]``."""
    return f"[[{label}]]"


def label_of(mark: str) -> str:
    """The label in a mark that :func:`mark_of` wrote."""
    return mark[2:-2]


@cache
def number_marks(low: int, high: int) -> tuple[str, ...]:
    """The marks of the whole numbers from ``low`` to ``high``."""
    return tuple(mark_of(str(n)) for n in range(low, high + 1))


def labels_in(text: str) -> Iterator[str]:
    """The labels of all marks in a text, in order and as they are written."""
    return (match[1] for match in _marks(text).finditer(text))


def _marks(text: str) -> re.Pattern[str]:
    return _ASCII_MARK if text.isascii() else _MARK  # the first is many times quicker


def first_mark(text: str) -> int | None:
    """Where the first mark in a text begins, or None without one."""
    match = _marks(text).search(text)
    return match.start() if match else None


def number_in(label: str, scale: int) -> float | None:
    """The number in a label, or None if the label is no number.

    "7", "7.5", "７", "7/10", "7 out of 10", "Rating: 7" and "**7.**" are numbers. What comes after a slash must be
    ``scale``, the highest rating.
    """
    if len(label) > REMEMBERED_CHARACTERS:
        return _number_in(label, scale)
    return _known_number_in(label, scale)


def _number_in(label: str, scale: int) -> float | None:
    match = _NUMBER.fullmatch(_plain(label))
    if match is None or (match[2] is not None and int(match[2]) != scale):
        return None
    return float(match[1])


_known_number_in = lru_cache(256)(_number_in)
"""Ratings are few."""


def one_of(label: str, labels: Mapping[str, str]) -> str | None:
    """The label that this one means, or None. ``labels`` maps labels, as :func:`folded` writes them, to their names."""
    return labels.get(folded(label))


def folded(label: str) -> str:
    """A label without what doesn't belong to it: case, white space, quotation marks, emphasis, a final full stop."""
    plain = _plain(label)
    name = _NAMED.match(plain)
    return plain[name.end() if name else 0 :].replace("_", " ").replace("-", " ").strip()


def _plain(label: str) -> str:
    if len(label) > MOST_CHARACTERS:
        return ""
    text = " ".join(unicodedata.normalize("NFKC", label).casefold().split())
    return text.strip(_AROUND).rstrip(_AT_THE_END + _AROUND)


def distinct(values: Sequence[T], kind: str, reply: Reply) -> T:
    """The only value among those found in a reply.

    Raises :class:`lrf.errors.ParseError`: ``no_KIND`` without any, ``ambiguous_KIND`` with several different ones.
    """
    different = list(dict.fromkeys(values))
    if not different:
        raise ParseError(Reason(f"no_{kind}"), f"the reply has no {kind}{ending_of(reply)}")
    if len(different) > 1:
        raise ParseError(
            Reason(f"ambiguous_{kind}"), f"the reply has {len(different)} different {kind}s: {str(different[:4])[1:-1]}"
        )
    return different[0]


def ending_of(reply: Reply) -> str:
    """The end of a message about a reply that can't be read: nothing, or where the text of an empty reply went."""
    if reply.text.strip():
        return ""
    if reply.finish == "tool_call":
        return ": the judge called a tool and wrote nothing; turn tools off at its server"
    if reply.reasoning and reply.reasoning.strip():
        return (
            ": all of it came as reasoning; turn reasoning off, give it more tokens (`reasoning_tokens`), or check the "
            "server's reasoning parser"
        )
    return ": it is empty"


def analysis_of(answer: Answer[Any]) -> str | None:
    """What a judge wrote beside its rating, verdict or choice; None if nothing. Of a JSON reply its "analysis"."""
    if answer.reply_mode != "json":
        return answer.text.strip() or None
    analysis = json_object(answer.text).get("analysis")
    return (analysis.strip() or None) if isinstance(analysis, str) else None


def json_object(text: str) -> Mapping[str, JSON]:
    """The JSON object that a whole text is, also in a Markdown fence. Line breaks may be in its strings.

    Raises :class:`lrf.errors.ParseError` (``invalid_json``) for anything else, and for a name that occurs twice.
    """
    try:
        value = json.loads(_without_fence(text), strict=False, object_pairs_hook=_each_name_once)
    except (ValueError, RecursionError) as error:
        raise ParseError(Reason.INVALID_JSON, str(error)) from None
    if not isinstance(value, dict):
        raise ParseError(Reason.INVALID_JSON, f"expected an object, got {type(value).__name__}")
    return value


def _without_fence(text: str) -> str:
    text = text.strip().removeprefix("\ufeff").removeprefix("<|begin_of_box|>").removesuffix("<|end_of_box|>").strip()
    for fence in ("```", "~~~"):
        if text.startswith(fence) and text.endswith(fence):
            text = text.strip(fence[0]).lstrip()
            return text[4:] if text[:4].casefold() == "json" else text
    return text


def _each_name_once(pairs: Sequence[tuple[str, JSON]]) -> Mapping[str, JSON]:
    value = dict(pairs)
    if len(value) < len(pairs):  # the last one would win, but two ratings are ambiguous
        raise ValueError(f"an object has a name twice: {', '.join(name for name, _ in pairs)[:200]}")
    return value


def cue_of(prompt: Prompt, options: Sequence[str]) -> str:
    """What the prompt's own examples write before a mark on its line, such as "Verdict: "; "Rating: " without any.

    Only the template's words count, never what filled its fields.
    """
    trusted = prompt_text(tuple(segment for segment in prompt if segment.trusted))
    marks = "|".join(re.escape(option) for option in options)
    cues = re.findall(rf"^([^\n\[\]]{{1,40}})(?:{marks})", trusted, re.MULTILINE | re.IGNORECASE)
    return cues[-1] if cues and cues[-1].strip() else "Rating: "


def analysis_before_mark(text: str, cue: str) -> str:
    """What a judge wrote before its first mark, or all of it without one, without the cue (see :func:`cue_of`).

    For judges that write an analysis first and then weigh the options.
    """
    return text[: first_mark(text)].rstrip().removesuffix(cue.strip()).rstrip()
