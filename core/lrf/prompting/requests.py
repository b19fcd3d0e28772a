"""A request to a judge, its reply, the answer read from it, and the protocol of expectations that reads it."""

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
"""How a judge answers: free text with marks, a JSON object of a schema, or the probabilities of labels."""

RatingMode = Literal["auto", "text", "json", "logprobs"]
"""The :data:`ReplyMode` that a pipeline asks for; "auto" is the last one in its list that the judge is capable of."""

PanelRule = Literal["mean", "median", "trimmed_mean", "cascade"]
"""How the ratings of several judges become one.

"trimmed_mean" leaves out the highest and the lowest of three or more. "cascade" asks the judges one after another
until one is sure.
"""

FinishReason = Literal["stop", "length", "filter", "tool_call", "error", "missing", "cut", "other"]
"""Why a reply ended: finished, cut off at the limit of tokens, held back by a filter, calling a tool, or by a fault of
the server (the judge is then asked again, as after any fault); "other" where the server gives no reason, or an unknown
one. Of several questions in a request, one may be left out of the reply ("missing") or was asked on a text of which the
server says that it dropped a part ("cut")."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one reply, as the judge's server reports them.

    Parameters
    ----------
    prompt_tokens, completion_tokens: tokens of all calls together; 0 where the server reports none.
    cached_tokens, written_tokens: the parts of ``prompt_tokens`` read from the server's cache and written to it.
    calls: how many calls the judge made for the reply: 1 or more, but 0 for a reply that came with another one's call.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    calls: int = 1
    written_tokens: int = 0

    @property
    def told(self) -> bool:
        """Whether the server reported any tokens."""
        return bool(self.prompt_tokens or self.completion_tokens)

    def shared(self, count: int) -> list[Usage]:
        """The usage of one call as that of the ``count`` replies it brought: equal shares, which add up exactly.

        What is left over counts in the first, and so does the call.
        """

        def share(tokens: int) -> tuple[int, int]:
            return tokens // count + tokens % count, tokens // count

        prompt, completion = share(self.prompt_tokens), share(self.completion_tokens)
        cached, written = share(self.cached_tokens), share(self.written_tokens)
        first, other = (
            Usage(prompt[i], completion[i], cached[i], self.calls if i == 0 else 0, written[i]) for i in (0, 1)
        )
        return [first, *[other] * (count - 1)]


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a judge.

    Parameters
    ----------
    prompt: what the judge reads, in segments (:func:`lrf.prompting.templates.prompt_text` joins them).
    expects: what the reply must contain. Of it follow ``options``, the marks whose probabilities (renormalised over
        them) a reply with ``reply_mode="logprobs"`` must have, and ``schema``, which the text of a reply with
        ``reply_mode="json"`` must satisfy.
    max_tokens: limit of the reply, reasoning not counted.
    temperature: 0 or more.
    seed: makes a draw repeatable, for judges that are capable of it.
    attempt, repeat, round: tell requests apart that are otherwise equal; they aren't sent.
    deadline_s: seconds after which nobody waits for the reply.
    material: how many of the prompt's first segments are material that other questions share; 0 for a prompt that was
        not made of material and question.
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
    material: int = 0

    def within(self, deadline_s: float) -> Request:
        """The request with this deadline."""
        return Request(  # written out: dataclasses.replace takes three times as long, and every call needs it
            self.prompt, self.expects, self.max_tokens, self.temperature, self.reply_mode, self.seed, self.attempt,
            self.repeat, deadline_s, self.round, self.material,
        )  # fmt: skip

    @property
    def options(self) -> tuple[str, ...]:
        return self.expects.options

    @property
    def schema(self) -> Mapping[str, JSON] | None:
        return self.expects.schema if self.reply_mode == "json" else None


@dataclass(frozen=True, slots=True)
class Reply:
    """What a judge sent for one request, unread: the unit of the journal.

    Parameters
    ----------
    text: the reply's text.
    finish: why it ended.
    usage: its tokens.
    probabilities: with ``reply_mode="logprobs"``, that of each of the request's options; they add up to 1.
    model: the model's name as the server reports it.
    reasoning: reasoning that came apart from the text, or was taken out of it.
    finish_word: the server's own word for its end, where ``finish`` is "other".
    """

    text: str
    finish: FinishReason = "stop"
    usage: Usage = Usage()
    probabilities: Mapping[str, float] | None = None
    model: str | None = None
    reasoning: str | None = None
    finish_word: str | None = None


@dataclass(frozen=True, slots=True)
class Answer(Generic[T_co]):
    """A reply that was read. Quotations of untrusted text in it are as in the original, not escaped.

    Parameters
    ----------
    value: what was expected: a number, a label, statements, …
    text: what the judge wrote.
    reply_mode: how the reply was read.
    attempts: how many replies it took, 1 or more.
    probabilities: those of the options, where the judge gave them.
    votes: where several judges or draws were asked, what each said. ``value`` and ``probabilities`` are then made of
        them all; ``text`` and ``reply_mode`` are those of the first.
    """

    value: T_co
    text: str
    reply_mode: ReplyMode = "text"
    attempts: int = 1
    probabilities: Mapping[str, float] | None = None
    votes: tuple[Vote, ...] = ()


class Expectation(Protocol[T_co]):
    """What a request wants back, and how it is read from a reply.

    ``kind`` is a short stable word; it and ``options`` belong to the request's identity in the journal. An expectation
    of your own, read from free text only:

    >>> class YesOrNo:
    ...     kind, options, schema = "yes_or_no", (), None
    ...     def read(self, reply, reply_mode):
    ...         if reply.text.strip() not in ("yes", "no"):
    ...             raise ParseError("no_yes_or_no", "the reply is neither yes nor no")
    ...         return reply.text.strip() == "yes"

    A class attribute ``structured_only = True`` says that only a JSON object can be read, so that no judge is asked for
    free text.
    """

    @property
    def kind(self) -> str: ...

    @property
    def options(self) -> tuple[str, ...]:
        """The marks that a judge can weigh with ``reply_mode="logprobs"``; empty if the answer is no choice."""
        ...

    @property
    def schema(self) -> Mapping[str, JSON] | None:
        """The JSON schema for ``reply_mode="json"``; None if the answer can't be asked for as JSON."""
        ...

    def read(self, reply: Reply, reply_mode: ReplyMode) -> T_co:
        """The value in the reply.

        Reasoning has been taken out of the reply's text, and no mark in it can come from the text that was judged.
        Raises :class:`lrf.errors.ParseError` when the reply doesn't contain the value; the judge is then asked again.
        """
        ...
