"""How a judge's reply is read.

An *expectation* says which kind of mark a reply must hold and reads it (the paper, section 3.1, and its public
prompts fix the forms). Each reads only its own kind of mark and passes over the others. Two different marks of
its own kind make the reply ambiguous. A mark that also stands, word for word, in what the judge was shown of
untrusted text could be a quotation and is never read as the judge's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, TypeVar

from lrf.errors import ParseError, Reason
from lrf.prompting.requests import Reply, ReplyMode, Request
from lrf.prompting.templates import Prompt, prompt_text, untrusted_text
from lrf.types import JSON

__all__ = [
    "Choice",
    "Rating",
    "Statements",
    "Text",
    "Verdict",
    "Verdicts",
]

T = TypeVar("T")


def cue_of(prompt: Prompt, options: Sequence[str]) -> str:
    """What the prompt's own examples write before an option on its line ("Verdict: "), else "Rating: ".

    Only the template's words are looked at, never what filled its fields.
    """
    trusted = prompt_text(tuple(segment for segment in prompt if segment.trusted))
    marks = "|".join(re.escape(option) for option in options)
    cues = re.findall(rf"^([^\n\[\]]{{1,40}})(?:{marks})", trusted, re.MULTILINE | re.IGNORECASE)
    return cues[-1] if cues and cues[-1].strip() else "Rating: "


def own_mark(text: str, request: Request) -> int | None:
    """Where the judge's own rating, verdict or choice begins in free text; None where none can be told to be its own.

    A mark that could be quoted is passed over; several different ones are none.
    """

    def value_of(text: str, quoted: str = "") -> Any:
        try:
            return request.expects.read(Reply(text), "text", quoted)
        except ParseError:
            return None

    own = value_of(text, untrusted_text(request.prompt))
    found = (m.start() for m in _MARK.finditer(text) if value_of(m.group()) == own)
    return None if own is None else next(found, None)


def analysis_of(text: str, request: Request, cue: str) -> str:
    """What a judge wrote in free text before its own mark, without the cue (see :func:`cue_of`) at its end.

    For judges that weigh the options after an analysis: in the middle of a quotation the likeliest option is the
    quoted one. Where no mark can be told to be the judge's own, it ends with a whole sentence before the first.
    """
    end = own_mark(text, request)
    if end is None and (first := _MARK.search(text)):
        ends = [sentence.end() for sentence in _SENTENCE_END.finditer(text, 0, first.start())]
        end = ends[-1] if ends else 0
    return text[:end].rstrip().removesuffix(cue.strip()).rstrip()


def _distinct(found: Sequence[T], what: str) -> T:
    """The one value among the marks found, or a ParseError that says why there is none."""
    distinct = list(dict.fromkeys(found))
    if not distinct:
        raise ParseError(Reason(f"no_{what}"), f"the reply holds no {what}")
    if len(distinct) > 1:
        raise ParseError(
            Reason(f"ambiguous_{what}"), f"the reply holds {len(distinct)} different {what}s: {distinct[:4]}"
        )
    return distinct[0]


def _unquoted(found: Sequence[T], in_prompt: Sequence[T], what: str) -> list[T]:
    """The marks that can't be a quotation of what the judge was shown."""
    shown = set(in_prompt)
    own = [v for v in found if v not in shown]
    if found and not own:
        raise ParseError(Reason(f"quoted_{what}"), f"each {what} in the reply also stands in the text that was judged")
    return own


def _json_object(text: str) -> Mapping[str, JSON]:
    try:  # grammars of servers let line breaks stand in strings
        value = json.loads(text, strict=False, object_pairs_hook=_each_name_once)
    except (ValueError, RecursionError) as error:
        raise ParseError(Reason.INVALID_JSON, str(error)) from None
    if not isinstance(value, dict):
        raise ParseError(Reason.INVALID_JSON, f"expected an object, got {type(value).__name__}")
    return value


def _each_name_once(pairs: Sequence[tuple[str, JSON]]) -> Mapping[str, JSON]:
    found = dict(pairs)
    if len(found) < len(pairs):  # the last one would win, and a reply of two ratings is none
        raise ValueError(f"a name stands twice in an object: {', '.join(name for name, _ in pairs)[:200]}")
    return found


_NUMBER_MARK = re.compile(r"\[\[\s*([+-]?\d+(?:\.\d+)?)\s*\]\]")
_MARK = re.compile(r"\[\[([^\[\]]*)\]\]")  # white space is stripped afterwards: matched apart, it takes cubic time
_SENTENCE_END = re.compile(r"[.!?](?=\s)|[。！？]")


@lru_cache
def _marks(low: int, high: int) -> tuple[str, ...]:
    return tuple(f"[[{n}]]" for n in range(low, high + 1))


@dataclass(frozen=True, slots=True)
class Rating:
    """A number from ``low`` to ``high``, written ``[[n]]``."""

    low: int = 0
    high: int = 10
    kind: str = "rating"

    @property
    def options(self) -> tuple[str, ...]:
        return _marks(self.low, self.high)

    @property
    def schema(self) -> Mapping[str, JSON]:
        rating = {"type": "number", "minimum": self.low, "maximum": self.high}
        properties = {"analysis": {"type": "string"}, "rating": rating}
        return {
            "type": "object",
            "properties": properties,
            "required": ["analysis", "rating"],
            "additionalProperties": False,
        }

    def read(self, reply: Reply, reply_mode: ReplyMode, quoted: str) -> float:
        if reply_mode == "logprobs":
            p = _probabilities(reply, self.options)
            mean = sum(float(option[2:-2]) * share for option, share in p.items())
            return min(max(mean, float(self.low)), float(self.high))  # rounding may carry it past an end
        if reply_mode == "json":
            value = _json_object(reply.text).get("rating")
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ParseError(Reason.NO_RATING, 'the reply\'s object has no number "rating"')
            return self._in_range(value)
        found = [float(n) for n in _NUMBER_MARK.findall(reply.text)]
        own = _unquoted(found, [float(n) for n in _NUMBER_MARK.findall(quoted)], "rating")
        return self._in_range(_distinct(own, "rating"))

    def _in_range(self, value: float) -> float:
        if not self.low <= value <= self.high:
            raise ParseError(Reason.RATING_OUT_OF_RANGE, f"{str(value)[:20]} is not within {self.low} to {self.high}")
        return float(value)


def _probabilities(reply: Reply, options: Sequence[str]) -> Mapping[str, float]:
    p = reply.probabilities
    if p is None or set(p) != set(options) or min(p.values()) < 0 or not abs(sum(p.values()) - 1) < 1e-3:
        raise ParseError(Reason.NO_PROBABILITIES, "the reply carries no probabilities over the options")
    total = sum(p.values())
    return {o: p[o] / total for o in options}


@dataclass(frozen=True, slots=True)
class Verdict:
    """One of a few labels, written ``[[label]]`` and read without regard to case.

    ``labels`` maps each label as the prompt writes it to its support, 0 to 1.
    """

    labels: Mapping[str, float]
    kind: str = "verdict"

    @property
    def options(self) -> tuple[str, ...]:
        return tuple(f"[[{label}]]" for label in self.labels)

    @property
    def schema(self) -> Mapping[str, JSON]:
        properties = {"analysis": {"type": "string"}, "verdict": {"type": "string", "enum": list(self.labels)}}
        return {
            "type": "object",
            "properties": properties,
            "required": ["analysis", "verdict"],
            "additionalProperties": False,
        }

    def read(self, reply: Reply, reply_mode: ReplyMode, quoted: str) -> str:
        if reply_mode == "logprobs":
            p = _probabilities(reply, self.options)
            return max(p, key=lambda option: p[option])[2:-2]
        by_folded = {label.casefold(): label for label in self.labels}
        if reply_mode == "json":
            value = _json_object(reply.text).get("verdict")
            if not isinstance(value, str) or value.casefold() not in by_folded:
                raise ParseError(Reason.NO_VERDICT, f'the reply\'s "verdict" is none of {", ".join(self.labels)}')
            return by_folded[value.casefold()]
        own = _unquoted(self._marks(reply.text), self._marks(quoted), "verdict")
        return by_folded[_distinct(own, "verdict")]

    def _marks(self, text: str) -> list[str]:
        folded = {label.casefold() for label in self.labels}
        marks = (m.strip().casefold() for m in _MARK.findall(text))
        return [m for m in marks if m in folded]


@dataclass(frozen=True, slots=True)
class Verdicts:
    """A verdict on each of ``count`` statements, numbered from 1, in one reply. The value has the labels in order.

    It can only be asked for as a JSON object: ``{"v1": {"analysis": …, "verdict": …}, "v2": …}``. A reply that
    lacks one is a ParseError.
    """

    structured_only: ClassVar[bool] = True
    labels: Mapping[str, float]
    count: int
    kind: str = "verdicts"

    @property
    def options(self) -> tuple[str, ...]:
        return ()

    @property
    def schema(self) -> Mapping[str, JSON]:
        one = Verdict(self.labels).schema
        names = [f"v{n}" for n in range(1, self.count + 1)]
        return {
            "type": "object",
            "properties": dict.fromkeys(names, one),
            "required": names,
            "additionalProperties": False,
        }

    def read(self, reply: Reply, reply_mode: ReplyMode, quoted: str) -> tuple[str, ...]:
        if reply_mode != "json":
            raise ParseError(Reason.NO_VERDICT, "several verdicts in one reply can only be read from a JSON object")
        found = _json_object(reply.text)
        by_folded = {label.casefold(): label for label in self.labels}
        labels = []
        for n in range(1, self.count + 1):
            one = found.get(f"v{n}")
            value = one.get("verdict") if isinstance(one, dict) else None
            if not isinstance(value, str) or value.casefold() not in by_folded:
                raise ParseError(Reason.NO_VERDICT, f"the reply's object has no verdict v{n} of {self.count}")
            labels.append(by_folded[value.casefold()])
        return tuple(labels)


NO_STATEMENTS = "[[No factual statements]]"
"""How a judge says that an answer states nothing; a reply with neither this nor a statement is asked again."""

_STATEMENT = re.compile(r"<statement>((?:(?!</?statement>).)*)</statement>", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Statements:
    """The factual statements of an answer, each written ``<statement>…</statement>``.

    An empty tuple comes only from a reply that says :data:`NO_STATEMENTS`, or from an empty list in a JSON object.
    Statements are read even where the answer wrote the same tags: they are its claims either way, and passing them
    over would let an answer hide what it claims from being checked.
    """

    kind: str = "statements"

    @property
    def options(self) -> tuple[str, ...]:
        return ()

    @property
    def schema(self) -> Mapping[str, JSON]:
        properties = {"statements": {"type": "array", "items": {"type": "string"}}}
        return {
            "type": "object",
            "properties": properties,
            "required": ["statements"],
            "additionalProperties": False,
        }

    def read(self, reply: Reply, reply_mode: ReplyMode, quoted: str) -> tuple[str, ...]:
        if reply_mode == "json":
            value = _json_object(reply.text).get("statements")
            if not isinstance(value, list) or not all(isinstance(s, str) for s in value):
                raise ParseError(Reason.NO_STATEMENTS_LIST, 'the reply\'s "statements" is no list of strings')
            found = [s.strip() for s in value]
        else:
            found = [s.strip() for s in _STATEMENT.findall(reply.text)]
            none = NO_STATEMENTS.casefold()
            if not any(found) and (none not in reply.text.casefold() or none in quoted.casefold()):
                raise ParseError(
                    Reason.NO_STATEMENT_MARK, f"the reply holds no statement and no {NO_STATEMENTS} of its own"
                )
        return tuple(s for s in found if s)


@dataclass(frozen=True, slots=True)
class Text:
    """Free text, taken as it is. An empty reply is a ParseError."""

    kind: str = "text"
    options: tuple[str, ...] = field(default=(), init=False)
    schema: Mapping[str, JSON] | None = field(default=None, init=False)

    def read(self, reply: Reply, reply_mode: ReplyMode, quoted: str) -> str:
        if not reply.text.strip():
            raise ParseError(Reason.EMPTY_REPLY, "the judge wrote nothing")
        return reply.text.strip()


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few strings, written ``[[option]]``; a verdict without supports."""

    choices: tuple[str, ...]
    kind: str = "choice"

    @property
    def options(self) -> tuple[str, ...]:
        return tuple(f"[[{c}]]" for c in self.choices)

    @property
    def schema(self) -> Mapping[str, JSON]:
        properties = {"analysis": {"type": "string"}, "choice": {"type": "string", "enum": list(self.choices)}}
        return {
            "type": "object",
            "properties": properties,
            "required": ["analysis", "choice"],
            "additionalProperties": False,
        }

    def read(self, reply: Reply, reply_mode: ReplyMode, quoted: str) -> str:
        text = reply.text
        if reply_mode == "json":
            value = _json_object(text).get("choice")
            text = f"[[{value}]]" if isinstance(value, str) else ""
            quoted = ""
        as_verdict = Reply(text=text, probabilities=reply.probabilities)
        return Verdict(dict.fromkeys(self.choices, 0.0)).read(
            as_verdict, "logprobs" if reply_mode == "logprobs" else "text", quoted
        )
