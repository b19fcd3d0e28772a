"""What a judge is asked, what it replies, and what an expectation of a reply is (see :mod:`lrf.prompting.expectations`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from lrf.prompting.templates import Prompt
from lrf.types import JSON, Vote

__all__ = [
    "Answer",
    "Reply",
    "Request",
    "Usage",
]

T_co = TypeVar("T_co", covariant=True)

ReplyMode = Literal["text", "json", "logprobs"]
"""How an answer is asked for: free text with marks, a JSON object of a schema, or label probabilities."""

RatingMode = Literal["auto", "text", "json", "logprobs"]
"""A :data:`ReplyMode` that a pipeline asks for; "auto" is the best one that the judge can."""

PanelRule = Literal["mean", "median", "trimmed_mean", "cascade"]
"""How the ratings of several judges become one. "trimmed_mean" leaves out the highest and the lowest of three up.

With "cascade" they are asked one after another, until one is sure.
"""

FinishReason = Literal["stop", "length", "filter", "other"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one reply as the judge reported them.

    ``cached_tokens`` were read from the server's cache and ``written_tokens`` written to it: both are parts of
    ``prompt_tokens``.
    ``calls``: how many calls the judge made for the reply; the tokens are those of all of them.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    calls: int = 1
    written_tokens: int = 0

    @property
    def told(self) -> bool:
        """Whether the server told any tokens at all."""
        return bool(self.prompt_tokens or self.completion_tokens)


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a judge.

    ``options``: with ``reply_mode="logprobs"``, the exact strings whose probabilities (renormalised over them) the reply
    must carry. ``schema``: with ``reply_mode="json"``, the JSON schema that the reply's text must satisfy.
    ``attempt``, ``repeat`` and ``round`` tell requests apart that are otherwise equal; none of them is sent.
    """

    prompt: Prompt
    expects: Expectation[Any]
    max_tokens: int
    temperature: float
    reply_mode: ReplyMode = "text"
    seed: int | None = None
    attempt: int = 0
    repeat: int = 0
    deadline_s: float | None = None
    round: int = 0

    @property
    def options(self) -> tuple[str, ...]:
        return self.expects.options

    @property
    def schema(self) -> Mapping[str, JSON] | None:
        return self.expects.schema if self.reply_mode == "json" else None


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of a judge, as it came: the unit of the journal.

    ``probabilities``: with ``reply_mode="logprobs"``, one entry for each option, adding up to 1.
    """

    text: str
    finish: FinishReason = "stop"
    usage: Usage = Usage()
    probabilities: Mapping[str, float] | None = None
    model: str | None = None
    reasoning: str | None = None


@dataclass(frozen=True, slots=True)
class Answer(Generic[T_co]):
    """A reply that was read: ``value`` is what was asked for, ``text`` what the judge wrote.

    Where several judges or draws were asked, ``votes`` has what each said, ``value`` and ``probabilities`` are
    made of them all, and ``text`` and ``reply_mode`` are those of the first.
    """

    value: T_co
    text: str
    reply_mode: ReplyMode = "text"
    attempts: int = 1
    probabilities: Mapping[str, float] | None = None
    votes: tuple[Vote, ...] = ()


class Expectation(Protocol[T_co]):
    """What a request wants back. ``kind`` is a stable word; it and ``options`` are part of the request's identity."""

    @property
    def kind(self) -> str: ...

    @property
    def options(self) -> tuple[str, ...]:
        """The strings a judge can weigh with ``reply_mode="logprobs"``; empty if the answer is no choice among strings."""
        ...

    @property
    def schema(self) -> Mapping[str, JSON] | None:
        """The JSON schema for ``reply_mode="json"``; None if it can't be asked for so."""
        ...

    def read(self, reply: Reply, reply_mode: ReplyMode, quoted: str) -> T_co:
        """The value in the reply.

        ``quoted`` is all untrusted text of the prompt. Raises :class:`lrf.errors.ParseError`.
        """
        ...
