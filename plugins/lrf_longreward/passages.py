"""Numbered passages of a document, and which of them a judge says supports a statement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from lrf.errors import UnscorableError
from lrf.prompting.expectations import Choice
from lrf.prompting.labels import mark_of
from lrf.prompting.questions import Question
from lrf.prompting.requests import Answer
from lrf.prompting.templates import Prompt, Segment, Template
from lrf.protocols import Context
from lrf.text.chunking import chunk_document, count_tokens
from lrf.types import Chunk, Document, Sample, Span
from lrf_longreward.documents import heading
from lrf_longreward.prompts import Prompts
from lrf_longreward.settings import FaithfulnessSettings

MOST = 25
"""Passages of a text. With "none" a choice has 26 options, as many as the servers with the lowest limit take."""
SMALLEST = 48
"""Tokens of a passage at least, where there are fewer than :data:`MOST`."""
NONE = "none"


@dataclass(frozen=True, slots=True)
class Passages:
    """A text in passages: as a prompt that numbers them from 1, and where each is from."""

    prompt: Prompt
    spans: tuple[tuple[Span, ...], ...]

    @property
    def choice(self) -> Choice:
        """The numbers of the passages, and "none"."""
        return Choice((*(str(n) for n in range(1, len(self.spans) + 1)), NONE))

    def supporting(self, answer: Answer[str] | UnscorableError, most: int) -> tuple[Span, ...] | None:
        """The passages that an answer prefers to "none", the likeliest first, ``most`` of them; None for no answer."""
        if isinstance(answer, UnscorableError):
            return None
        shares = {option: float(option == answer.value) for option in self.choice.choices}
        if answer.probabilities is not None:
            shares = {option: answer.probabilities[mark_of(option)] for option in shares}
        none = shares.pop(NONE)
        likely = sorted((option for option in shares if shares[option] > none), key=lambda option: -shares[option])
        return tuple(span for option in likely[:most] for span in self.spans[int(option) - 1])


class PassageQuestions:
    """Asks which passage supports each statement, on the material on which the statements are judged."""

    def __init__(self, settings: FaithfulnessSettings) -> None:
        self._material = Prompts("document", settings)
        self._question = Prompts("ask_passage", settings)
        self._most = settings.top_k or 1

    async def places(
        self, passages: Passages, statements: Sequence[str], ctx: Context
    ) -> list[tuple[Span, ...] | None]:
        """Where the evidence of each statement is; None for one without an answer."""
        material = self._material.template(ctx.language).fill({"context": passages.prompt})
        asked = self._question.template(ctx.language)
        questions = [Question(asked.fill({"statement": statement}), passages.choice) for statement in statements]
        return [passages.supporting(answer, self._most) for answer in await ctx.ask_many(material, questions)]


def numbered(sample: Sample, piece: Chunk | None) -> Passages:
    """The sample's documents, or a piece of one, in at most :data:`MOST` passages. It takes a while: it counts tokens.

    Neighbouring chunks share a passage where there are more of them, as of many short documents.
    """
    texts = [(Document(d.id, d.text, d.title), 0) for d in sample.documents]
    if piece is not None:
        texts = [(Document(piece.document, piece.text), piece.start)]
    size = max(SMALLEST, -(-sum(count_tokens(document.text) for document, _ in texts) // (MOST - 3)))
    chunks = [
        replace(chunk, start=chunk.start + offset, end=chunk.end + offset)
        for document, offset in texts
        for chunk in chunk_document(document, size)
    ]
    groups = _shared_out(chunks, MOST)
    segments: list[Segment] = []
    for number, group in enumerate(groups, start=1):
        text = "\n".join(f"{heading(sample, chunk)}\n{chunk.text}".strip() for chunk in group)
        frame = Template(f'<passage n="{number}">\n<<text>>\n</passage>\n', ("text",), name="passage")
        segments += frame.fill({"text": text})
    return Passages(tuple(segments), tuple(tuple(chunk.span for chunk in group) for group in groups))


def _shared_out(chunks: Sequence[Any], most: int) -> list[Sequence[Any]]:
    """The chunks in order, in at most this many groups of neighbours, as even as possible."""
    count = min(most, len(chunks))
    return [chunks[len(chunks) * n // count : len(chunks) * (n + 1) // count] for n in range(count)]
