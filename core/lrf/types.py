"""The nouns of lrf: samples with their documents and candidates, and what scoring makes of them.

All of them are plain frozen dataclasses, so that a plugin can build and read them without any library.
Offsets are characters (Python string indices) into one document's ``text``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = [
    "BadRow",
    "Candidate",
    "Chunk",
    "Document",
    "JudgedStatement",
    "Judgement",
    "LeftOut",
    "Message",
    "Note",
    "PreferencePair",
    "Quotation",
    "Reward",
    "Sample",
    "Span",
    "ToolCall",
    "Unscored",
    "Vote",
]

JSON = Any  # a value that json.dumps takes


@dataclass(frozen=True, slots=True)
class Document:
    """One text of a sample's context."""

    id: str
    text: str
    title: str | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that an assistant's turn calls. ``id`` is what the tool's answer names it by, where the data has one."""

    name: str
    arguments: Mapping[str, JSON] = field(default_factory=dict)
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat: ``role`` is "system", "user", "assistant" or "tool".

    ``name`` is whose turn it is, of a tool's answer the tool's. ``tool_calls`` are an assistant's, and
    ``tool_call_id`` says which of them a tool's answer is to.
    """

    role: str
    content: str
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None

    def as_row(self) -> dict[str, JSON]:
        """The turn as chat templates take it: keys without a value are left out, arguments are objects."""
        row: dict[str, JSON] = {"role": self.role, "content": self.content}
        if self.name is not None:
            row["name"] = self.name
        if self.tool_calls:
            row["tool_calls"] = [
                {
                    **({} if call.id is None else {"id": call.id}),
                    "type": "function",
                    "function": {"name": call.name, "arguments": dict(call.arguments)},
                }
                for call in self.tool_calls
            ]
        if self.tool_call_id is not None:
            row["tool_call_id"] = self.tool_call_id
        return row


@dataclass(frozen=True, slots=True)
class Candidate:
    """One response to a sample's query. ``source`` says who wrote it (a model's name, "human", …)."""

    id: str
    text: str
    source: str | None = None
    metadata: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sample:
    """A prompt with its context, and the candidates to be scored.

    ``messages``, where the data carries them, are the policy's prompt verbatim; otherwise the pipeline's
    ``policy.prompt_template`` makes one from the context and the query. ``tools`` are the definitions that the policy
    is given besides (JSON schemas of functions, as chat templates take them).
    """

    id: str
    query: str
    documents: tuple[Document, ...]
    candidates: tuple[Candidate, ...] = ()
    reference: str | None = None
    messages: tuple[Message, ...] | None = None
    metadata: Mapping[str, JSON] = field(default_factory=dict)
    tools: tuple[Mapping[str, JSON], ...] = ()

    @property
    def context(self) -> str:
        """The documents as one text, each under its title where it has one."""
        return "\n\n".join(f"{d.title}\n{d.text}" if d.title else d.text for d in self.documents)


@dataclass(frozen=True, slots=True)
class Span:
    """Characters ``start`` to ``end`` (exclusive) of the document with this id."""

    document: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document: ``text`` is exactly ``document.text[start:end]``."""

    document: str
    start: int
    end: int
    text: str

    @property
    def span(self) -> Span:
        return Span(self.document, self.start, self.end)


@dataclass(frozen=True, slots=True)
class Vote:
    """What one judge said in one draw, where several judges or draws were asked.

    ``value`` is a rating, a label, or a list of labels; ``repeat`` counts from 0; ``reply_mode`` is how it was read.
    ``probabilities`` are those of the labels or ratings, where the judge gave them.
    """

    judge: str
    repeat: int
    value: JSON
    reply_mode: str
    probabilities: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Quotation:
    """Words that a judge quoted to explain itself, and where they stand in the documents.

    ``score`` is 1 where the span holds them exactly (but for white space and the form of quotation marks and dashes),
    below 1 where it holds something like them, and 0 where ``span`` is None: they were not found.
    """

    text: str
    span: Span | None
    score: float


@dataclass(frozen=True, slots=True)
class JudgedStatement:
    """A statement of an answer, with the judge's verdict on it and the evidence that the verdict was given on.

    ``support`` is 0 to 1. With label probabilities from the judge it is their expectation, else the label's value;
    with several ``votes`` it is their mean, and the verdict is the label nearest to it. ``quotations`` are those of
    the analysis. After a second look on more evidence ``first`` is what the first one gave, and ``attribution`` says
    what became of a verdict of no support: "unsupported" (it stands), or "not_retrieved" (the evidence was there).
    """

    text: str
    verdict: str
    support: float
    evidence: tuple[Span, ...] = ()
    analysis: str | None = None
    probabilities: Mapping[str, float] | None = None
    votes: tuple[Vote, ...] = ()
    quotations: tuple[Quotation, ...] = ()
    attribution: Literal["unsupported", "not_retrieved"] | None = None
    first: JudgedStatement | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """What one chunk says on the query. ``text`` is None where the judge found nothing relevant in it."""

    span: Span
    text: str | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one dimension made of one candidate: a ``rating`` from 0 to 10, and what it rests on.

    ``reply_mode`` names how the rating was read ("text", "expected", "structured", "statements", …).
    ``extra`` is for what only this dimension has; it must be JSON-able. A run's summary adds up its whole numbers.
    Where several judges or draws were asked, ``votes`` has what each said and ``spread`` the standard deviation
    of the ratings (of the sample, n − 1); the engine fills both in where the dimension leaves them out.
    ``seen`` has the shares, 0 to 1, of the "document" and of the "answer" that stood in the prompts; of "notes" that
    were merged, the share of their tokens that was left.
    """

    rating: float
    analysis: str | None = None
    reply_mode: str | None = None
    statements: tuple[JudgedStatement, ...] = ()
    notes: tuple[Note, ...] = ()
    extra: Mapping[str, JSON] = field(default_factory=dict)
    spread: float | None = None
    votes: tuple[Vote, ...] = ()
    seen: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unscored:
    """Why a candidate has no rating on a dimension. ``reason`` is a short stable word; ``detail`` is for people.

    ``transient`` failures (a server that was down) are asked again by a later run of the same command.
    """

    dimension: str
    reason: str
    detail: str = ""
    transient: bool = False


@dataclass(frozen=True, slots=True)
class Reward:
    """The outcome for one candidate.

    ``reward`` is None when the candidate is unscored; then ``unscored`` says why. ``ratings`` has an entry
    (0 to 10, or None) for every dimension of the pipeline, in its order.
    """

    sample_id: str
    candidate_id: str
    reward: float | None
    ratings: Mapping[str, float | None]
    unscored: Unscored | None = None
    judgements: Mapping[str, Judgement | Unscored] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row of the data that is no sample: where it stands and what is wrong with it."""

    file: str
    line: int
    message: str


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """The two candidates that a pairing rule chose of one sample."""

    chosen: Candidate
    rejected: Candidate
    chosen_reward: float | None
    rejected_reward: float | None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Why a sample yields no pair."""

    reason: str
    detail: str = ""
