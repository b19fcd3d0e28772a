"""The nouns of lrf: samples with their documents and candidates, and what scoring makes of them.

All of them are plain frozen dataclasses, so that a plugin can build and read them without any library.
Offsets are in characters: Python string indices into one document's ``text``, the end exclusive.
Ratings and rewards are from 0 (worst) to 10 (best), shares and probabilities from 0 to 1.
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
    """One text of a sample's context. ``id`` is unique in the sample, ``text`` is not empty."""

    id: str
    text: str
    title: str | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool in an assistant's turn. The tool's turn refers to its ``id``; None where the data has none."""

    name: str
    arguments: Mapping[str, JSON] = field(default_factory=dict)
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat: ``role`` is "system", "user", "assistant" or "tool".

    ``name`` is the name of the speaker or of the tool. ``tool_calls`` are those of an assistant's turn;
    ``tool_call_id`` is the id of the call that a tool's turn answers.
    """

    role: str
    content: str
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None

    def as_row(self) -> dict[str, JSON]:
        """The turn as chat templates take it: without keys that have no value, and with arguments as objects."""
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
    """One response to a sample's query. ``id`` is unique in the sample; ``source`` is its author (a model, "human")."""

    id: str
    text: str
    source: str | None = None
    metadata: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sample:
    """A prompt with its context, and the candidates to be scored.

    ``id`` is unique in the data. ``reference`` is a known good answer, or None. ``messages``, where the data has them,
    are the policy's prompt verbatim; otherwise the pipeline's ``policy.prompt_template`` makes one from the context and
    the query. ``tools`` are definitions of tools for the policy (JSON schemas of functions, as chat templates take
    them).
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
        """All documents as one text, separated by an empty line, each under its title if it has one."""
        return "\n\n".join(f"{d.title}\n{d.text}" if d.title else d.text for d in self.documents)


@dataclass(frozen=True, slots=True)
class Span:
    """Characters ``start`` to ``end`` (exclusive) of the document with this id; 0 ≤ start < end."""

    document: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document: ``text`` is exactly ``text[start:end]`` of the document with the id ``document``."""

    document: str
    start: int
    end: int
    text: str

    @property
    def span(self) -> Span:
        return Span(self.document, self.start, self.end)


@dataclass(frozen=True, slots=True)
class Vote:
    """The answer of one judge to one of several repeated questions.

    ``value`` is a rating (0 to 10), a label, or a list of labels; ``repeat`` counts from 0; ``reply_mode`` is how the
    reply was read ("text", "json" or "logprobs"). ``probabilities`` has those of the labels or ratings, which add up
    to 1; None where the judge gives none.
    """

    judge: str
    repeat: int
    value: JSON
    reply_mode: str
    probabilities: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Quotation:
    """Words that a judge quoted in its analysis, and where they are in the documents.

    ``score`` is 1 for an exact match (but for white space and the form of quotation marks and dashes), from 0.8 to
    below 1 for a similar text, and 0 where ``span`` is None because nothing similar was found.
    """

    text: str
    span: Span | None
    score: float


@dataclass(frozen=True, slots=True)
class JudgedStatement:
    """A statement of an answer, with the judge's verdict and the evidence on which it was given.

    ``support`` is from 0 (unsupported) to 1 (fully supported). It is the expectation over the label probabilities where
    the judge gives them, else the label's value; with several ``votes`` it is their mean, and the verdict is the
    nearest label. ``quotations`` are those of the analysis. After a second look at more evidence, ``first`` is the
    first judgement, and ``attribution`` says why there was no support: "unsupported" (the second look found none
    either), or "not_retrieved" (the evidence was in the document and had not been retrieved). ``in_answer`` are the
    characters of the answer that a statement is, start and end, where it is a sentence as it stands there.
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
    in_answer: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """A judge's note on what one chunk says about the query. ``text`` is None where nothing in it is relevant."""

    span: Span
    text: str | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """The result of one dimension for one candidate: a ``rating`` from 0 to 10, and its grounds.

    ``reply_mode`` is how the rating was read ("text", "json", "logprobs"), or "statements". ``extra`` is for what only
    this dimension has, as JSON values; a run's summary adds up its whole numbers. With several judges or repeats,
    ``votes`` has each answer and ``spread`` the standard deviation of the ratings (of the sample, n − 1; 0 to 10);
    the engine fills in both where the dimension leaves them out. ``seen`` has the shares (0 to 1) of the "document" and
    of the "answer" that were in the prompts, and for "notes" that were merged the share of their tokens that was left.
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
    """Why a candidate has no rating on a dimension.

    ``reason`` is a :class:`lrf.errors.Reason`, or a short stable word of a plugin; ``detail`` is a sentence for people.
    A ``transient`` failure (a server that was down) is tried again by a later run of the same command.
    """

    dimension: str
    reason: str
    detail: str = ""
    transient: bool = False


@dataclass(frozen=True, slots=True)
class Reward:
    """The outcome for one candidate.

    ``reward`` is the aggregator's number, from 0 to 10 with the built-in ones; None when the candidate is unscored, and
    then ``unscored`` says why. ``ratings`` has an entry (0 to 10, or None) for every dimension of the pipeline, in its
    order.
    """

    sample_id: str
    candidate_id: str
    reward: float | None
    ratings: Mapping[str, float | None]
    unscored: Unscored | None = None
    judgements: Mapping[str, Judgement | Unscored] = field(default_factory=dict)

    def explain(self, sample: Sample | None = None) -> str:
        """Why the reward is what it is, for people, in lines: the dimension that cost most comes first.

        Of a dimension with statements, those that aren't fully supported are listed. With the ``sample``, each has the
        document's words that the judge quoted or, where it quoted none, those that it was given.
        """
        reward = "unscored" if self.reward is None else f"{self.reward:.2f}"
        lines = [f"candidate {self.candidate_id}: {reward}"]
        worst_first = sorted(self.ratings.items(), key=lambda item: -1 if item[1] is None else item[1])
        texts = {d.id: d.text for d in sample.documents} if sample else {}
        for name, rating in worst_first:
            lines += [f"{name}: {'unscored' if rating is None else f'{rating:.2f}'}"]
            lines += [f"  {line}" for line in _grounds(self.judgements.get(name), texts)]
        if self.unscored is not None and self.unscored.dimension not in self.ratings:
            lines += [f"{self.unscored.reason}: {self.unscored.detail}"]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row of the data that can't be used: its file, its line (from 1), and what is wrong with it."""

    file: str
    line: int
    message: str


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """The better and the worse candidate that a pairing chose from one sample, with their rewards (0 to 10)."""

    chosen: Candidate
    rejected: Candidate
    chosen_reward: float | None
    rejected_reward: float | None


@dataclass(frozen=True, slots=True)
class Preferences:
    """What a pairing rule makes of a sample, where that is more than one pair.

    Parameters
    ----------
    pairs: any number of pairs; none if the sample is to be trained on as a ranked list only.
    listed: the candidates of the sample's ranked list, in any order; None for all that have a reward.
    """

    pairs: tuple[PreferencePair, ...]
    listed: tuple[Candidate, ...] | None = None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Why a sample has no pair. ``reason`` is a :class:`lrf.errors.Reason` or a short stable word of a plugin."""

    reason: str
    detail: str = ""


def _grounds(judgement: Judgement | Unscored | None, texts: Mapping[str, str]) -> list[str]:
    """What a dimension's outcome rests on, in lines."""
    if judgement is None:
        return []
    if isinstance(judgement, Unscored):
        return [f"{judgement.reason}: {judgement.detail}" if judgement.detail else judgement.reason]
    lines = judgement.analysis.strip().splitlines() if judgement.analysis else []
    for statement in judgement.statements:
        if statement.support < 1:
            lines.append(f"[{statement.verdict}] {statement.text}")
            quoted = [q.span for q in statement.quotations if q.span] or statement.evidence
            words = (" ".join(texts[s.document][s.start : s.end].split()) for s in quoted if s.document in texts)
            lines += [f"    {s}" for s in words]
    return lines
