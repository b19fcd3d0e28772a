"""What a reply must contain: a rating, a verdict, statements, a choice, or any text.

An expectation knows the mark in free text, the options whose probabilities a judge can give, and the JSON schema, and
reads all three. Marks are those of the paper (arXiv 2410.21252, section 3.1) and its public prompts; see
:mod:`lrf.prompting.labels` for how they are found. Each kind reads its own marks and ignores the others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar

from lrf.errors import ParseError, Reason
from lrf.prompting.labels import (
    distinct,
    ending_of,
    folded,
    json_object,
    label_of,
    labels_in,
    mark_of,
    number_in,
    number_marks,
    one_of,
)
from lrf.prompting.requests import Reply, ReplyMode
from lrf.types import JSON

__all__ = [
    "Choice",
    "Rating",
    "Statements",
    "Text",
    "Verdict",
    "Verdicts",
    "YesOrNo",
]


@dataclass(frozen=True, slots=True)
class Rating:
    """A number from ``low`` to ``high``, written ``[[n]]``; the value is a float.

    With ``reply_mode="logprobs"`` it is the expectation over the whole numbers. Raises ParseError: ``no_rating``,
    ``ambiguous_rating``, ``rating_out_of_range``, ``invalid_json``, ``no_probabilities``.
    """

    low: int = 0
    high: int = 10
    kind: str = "rating"

    @property
    def options(self) -> tuple[str, ...]:
        return number_marks(self.low, self.high)

    @property
    def schema(self) -> Mapping[str, JSON]:
        rating = {"type": "number", "minimum": self.low, "maximum": self.high}
        return _object_schema({"analysis": {"type": "string"}, "rating": rating})

    def read(self, reply: Reply, reply_mode: ReplyMode) -> float:
        if reply_mode == "logprobs":
            p = _probabilities(reply, self.options)
            mean = sum(float(label_of(option)) * share for option, share in p.items())
            return min(max(mean, float(self.low)), float(self.high))  # rounding may carry it past an end
        if reply_mode == "json":
            return self._in_range(self._number(json_object(reply.text).get("rating")))
        numbers = (number_in(label, self.high) for label in labels_in(reply.text))
        return self._in_range(distinct([n for n in numbers if n is not None], "rating", reply))

    def _number(self, value: JSON) -> float:
        if isinstance(value, str):
            value = number_in(value, self.high)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ParseError(Reason.NO_RATING, 'the reply\'s object has no number "rating"')
        return value

    def _in_range(self, value: float) -> float:
        if not self.low <= value <= self.high:
            raise ParseError(Reason.RATING_OUT_OF_RANGE, f"{str(value)[:20]} is not within {self.low} to {self.high}")
        return float(value)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One of a few labels, written ``[[label]]`` and read without regard to case; the value is the label.

    Parameters
    ----------
    labels: each label, as the prompt writes it, with its support, 0 to 1.
    synonyms: other words that can only mean one of the labels, each with that label.
    """

    labels: Mapping[str, float]
    kind: str = "verdict"
    synonyms: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def options(self) -> tuple[str, ...]:
        return tuple(map(mark_of, self.labels))

    @property
    def schema(self) -> Mapping[str, JSON]:
        return _object_schema({"analysis": {"type": "string"}, "verdict": _one_of_schema(self.labels)})

    def read(self, reply: Reply, reply_mode: ReplyMode) -> str:
        if reply_mode == "logprobs":
            p = _probabilities(reply, self.options)
            return label_of(max(p, key=lambda option: p[option]))
        known = _known(self.labels, self.synonyms)
        if reply_mode == "json":
            label = _label(json_object(reply.text).get("verdict"), known)
            if label is None:
                raise ParseError(Reason.NO_VERDICT, f'the reply\'s "verdict" is not one of {", ".join(self.labels)}')
            return label
        labels = (one_of(label, known) for label in labels_in(reply.text))
        return distinct([label for label in labels if label is not None], "verdict", reply)


@dataclass(frozen=True, slots=True)
class Verdicts:
    """A verdict on each of ``count`` statements, numbered from 1, in one reply; the value has the labels in order.

    It can only be asked for as a JSON object: ``{"v1": {"analysis": …, "verdict": …}, "v2": …}``. Raises ParseError
    (``no_verdict``) for a reply that lacks one of them.
    """

    structured_only: ClassVar[bool] = True
    labels: Mapping[str, float]
    count: int
    kind: str = "verdicts"
    synonyms: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def options(self) -> tuple[str, ...]:
        return ()

    @property
    def schema(self) -> Mapping[str, JSON]:
        one = Verdict(self.labels).schema
        return _object_schema({f"v{n}": one for n in range(1, self.count + 1)})

    def read(self, reply: Reply, reply_mode: ReplyMode) -> tuple[str, ...]:
        if reply_mode != "json":
            raise ParseError(Reason.NO_VERDICT, "several verdicts in one reply can only be read from a JSON object")
        value, known = json_object(reply.text), _known(self.labels, self.synonyms)
        labels = []
        for n in range(1, self.count + 1):
            one = value.get(f"v{n}")
            label = _label(one.get("verdict") if isinstance(one, dict) else None, known)
            if label is None:
                raise ParseError(Reason.NO_VERDICT, f"the reply's object has no verdict v{n} of {self.count}")
            labels.append(label)
        return tuple(labels)


NO_STATEMENTS = "[[No factual statements]]"
"""How a judge says that an answer makes no statement; a reply with neither this nor a statement can't be read."""

_TAG = re.compile(r"<\s{0,3}(/?)\s{0,3}statement(?:\s[^<>]{0,100})?>", re.IGNORECASE)
_SHOWN, _LONGEST_BULLET = 80, 20
_PART_OF_A_TAG = re.compile(r"</?(?:s|st|sta|stat|state|statem|stateme|statemen|statement)?\s*\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Statements:
    """The factual statements of an answer, each written ``<statement>…</statement>``; the value is a tuple of texts.

    It is empty only for a reply that says :data:`NO_STATEMENTS`, or for an empty list in a JSON object. Raises
    ParseError: ``truncated_reply`` when a statement isn't closed, ``no_statement_mark``, ``no_statements_list``.
    """

    kind: str = "statements"

    @property
    def options(self) -> tuple[str, ...]:
        return ()

    @property
    def schema(self) -> Mapping[str, JSON]:
        return _object_schema({"statements": {"type": "array", "items": {"type": "string"}}})

    def read(self, reply: Reply, reply_mode: ReplyMode) -> tuple[str, ...]:
        if reply_mode == "json":
            value = json_object(reply.text).get("statements")
            if not isinstance(value, list) or not all(isinstance(s, str) for s in value):
                raise ParseError(Reason.NO_STATEMENTS_LIST, 'the reply\'s "statements" is not a list of strings')
            return tuple(s.strip() for s in value if s.strip())
        statements = _between_tags(reply.text)
        if _PART_OF_A_TAG.search(reply.text[-20:]):
            raise ParseError(Reason.TRUNCATED_REPLY, "the reply's last statement isn't closed")
        if not statements and folded(label_of(NO_STATEMENTS)) not in map(folded, labels_in(reply.text)):
            raise ParseError(
                Reason.NO_STATEMENT_MARK, f"the reply has neither a statement nor {NO_STATEMENTS}{ending_of(reply)}"
            )
        return statements


def _between_tags(text: str) -> tuple[str, ...]:
    """The texts between opening and closing tags, which may have attributes.

    Raises ParseError for a statement that isn't closed. A tag in the midst of a line that isn't closed, or that is
    followed by another one on its line, begins none: the judge speaks of it, or quotes what it was told to do.
    """
    statements, opened, begin = [], 0, None
    for tag in _TAG.finditer(text):
        between = "" if begin is None else text[begin : tag.start()].strip()
        if tag[1]:
            statements.append(between)
            begin = None
        elif between and "\n" in text[opened : tag.start()] and _begins_a_line(text, opened):
            raise ParseError(Reason.TRUNCATED_REPLY, f'a statement of the reply isn\'t closed: "{between[:_SHOWN]}"')
        else:
            opened, begin = tag.start(), tag.end()
    if begin is not None:
        raise ParseError(Reason.TRUNCATED_REPLY, "the reply's last statement isn't closed")
    return tuple(filter(None, statements))


def _begins_a_line(text: str, at: int) -> bool:
    """Whether nothing but a bullet or a number stands before this place on its line."""
    line = text[max(0, at - _LONGEST_BULLET) : at].rpartition("\n")
    return not line[2].strip(" \t-*•·>.)0123456789") and (bool(line[1]) or at <= _LONGEST_BULLET)


@dataclass(frozen=True, slots=True)
class Text:
    """Free text, stripped. Raises ParseError (``empty_reply``) for a reply without any."""

    kind: str = "text"
    options: tuple[str, ...] = field(default=(), init=False)
    schema: Mapping[str, JSON] | None = field(default=None, init=False)

    def read(self, reply: Reply, reply_mode: ReplyMode) -> str:
        if not reply.text.strip():
            raise ParseError(Reason.EMPTY_REPLY, f"the reply has no text{ending_of(reply)}")
        return reply.text.strip()


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few strings, written ``[[option]]``: a verdict without supports."""

    choices: tuple[str, ...]
    kind: str = "choice"

    @property
    def options(self) -> tuple[str, ...]:
        return tuple(map(mark_of, self.choices))

    @property
    def schema(self) -> Mapping[str, JSON]:
        return _object_schema({"analysis": {"type": "string"}, "choice": _one_of_schema(self.choices)})

    def read(self, reply: Reply, reply_mode: ReplyMode) -> str:
        verdict = Verdict(dict.fromkeys(self.choices, 0.0))
        if reply_mode == "json":
            value = json_object(reply.text).get("choice")
            reply = Reply(mark_of(value) if isinstance(value, str) else "")
        return verdict.read(reply, "logprobs" if reply_mode == "logprobs" else "text")


@dataclass(frozen=True, slots=True)
class YesOrNo:
    """Yes or no, written ``[[yes]]`` or ``[[no]]``; the value is the probability of yes, 0 to 1.

    It is 0 or 1 where the judge gives no probabilities. Raises ParseError: ``no_choice``, ``ambiguous_choice``,
    ``invalid_json``, ``no_probabilities``.
    """

    kind: str = "yes_or_no"
    options: tuple[str, ...] = field(default=("[[yes]]", "[[no]]"), init=False)

    @property
    def schema(self) -> Mapping[str, JSON]:
        return _object_schema({"analysis": {"type": "string"}, "choice": _one_of_schema(("yes", "no"))})

    def read(self, reply: Reply, reply_mode: ReplyMode) -> float:
        if reply_mode == "logprobs":
            return _probabilities(reply, self.options)["[[yes]]"]
        known = {"yes": "yes", "no": "no", "是": "yes", "否": "no", "true": "yes", "false": "no"}
        if reply_mode == "json":
            label = _label(json_object(reply.text).get("choice"), known)
            if label is None:
                raise ParseError(Reason.NO_CHOICE, 'the reply\'s "choice" is neither yes nor no')
            return float(label == "yes")
        labels = (one_of(label, known) for label in labels_in(reply.text))
        return float(distinct([label for label in labels if label is not None], "choice", reply) == "yes")


Ratable = Rating | Verdict | Verdicts | Choice | YesOrNo
"""What several judges, or one of them several times, can be asked; everything else is written by one."""

RATED_KINDS = ("rating", "verdict", "verdicts", "choice", "yes_or_no")
"""The kinds of what is rated."""


def _object_schema(properties: Mapping[str, JSON]) -> Mapping[str, JSON]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _one_of_schema(labels: Sequence[str] | Mapping[str, float]) -> Mapping[str, JSON]:
    return {"type": "string", "enum": list(labels)}


def _known(labels: Mapping[str, float], synonyms: Mapping[str, str]) -> Mapping[str, str]:
    """Each way to write a label, folded, with the label."""
    return {_folded_once(word): label for word, label in (*synonyms.items(), *((name, name) for name in labels))}


_folded_once = lru_cache(256)(folded)
"""A dimension's labels are the same in all its questions."""


def _label(value: JSON, known: Mapping[str, str]) -> str | None:
    return one_of(value, known) if isinstance(value, str) else None


def _probabilities(reply: Reply, options: Sequence[str]) -> Mapping[str, float]:
    p = reply.probabilities
    if p is None or set(p) != set(options) or min(p.values()) < 0 or not abs(sum(p.values()) - 1) < 1e-3:
        raise ParseError(Reason.NO_PROBABILITIES, "the reply has no probabilities of the options")
    total = sum(p.values())
    return {option: p[option] / total for option in options}
