"""How much of what the document says on the query an answer covers (LongReward, section 3.2)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from lrf.errors import UnscorableError
from lrf.prompting.expectations import Text
from lrf.prompting.templates import Segment, Template, prompt_text
from lrf.protocols import Context
from lrf.text.chunking import Slice, count_tokens, slices
from lrf.text.tokenizers import tokenizer_of
from lrf.types import JSON, Candidate, Chunk, Judgement, Note, Sample
from lrf_longreward.answers import RATING_TOKENS, attempted, rate
from lrf_longreward.documents import WholeDocument, check_documents
from lrf_longreward.notes import NOTE_TOKENS, PartNote, merged, notes_text, tokens_of
from lrf_longreward.on_document import RatedDimension
from lrf_longreward.prompts import Prompts
from lrf_longreward.settings import CompletenessSettings, Language

NO_NOTES: Mapping[Language, str] = {
    "en": "(No part of the document bears on the question.)",
    "zh": "（文档中没有任何部分与问题有关。）",
}
EMPTY_NOTE = "No relevant information"
SMALLEST_ANSWER = 64
"""Tokens reserved for an answer at least; a longer one gets this times a power of two."""


@dataclass(frozen=True, slots=True)
class TakenNotes:
    """Notes on all chunks of a document; None for one that says nothing.

    ``seen`` is the share of its characters, 0 to 1, that they were taken on. ``pieces`` are the chunks with their
    places in tokens where they were cut by tokens, else None.
    """

    notes: tuple[tuple[Chunk, str | None], ...]
    seen: float
    pieces: Sequence[Slice] | None = None


class Room(NamedTuple):
    """Tokens that notes may have: in the prompt that rates (None: any number), and in a prompt that merges them."""

    rating: int | None
    merging: int


@dataclass(frozen=True, slots=True)
class NotesForRating:
    """Notes as the judge reads them. ``seen`` and ``extra`` are those of the judgement."""

    text: str
    seen: Mapping[str, float]
    extra: Mapping[str, JSON] = field(default_factory=dict)


class Completeness(RatedDimension):
    """Has notes taken on each chunk of the document, once for all candidates, and rates the answer against them.

    Notes that are together too long for the judge are merged, neighbours with neighbours, until they fit. How much
    room they have depends on the answer that is rated and on no other candidate; answers of similar length share what
    was merged.
    """

    def __init__(self, settings: CompletenessSettings | None = None) -> None:
        self._settings = settings or CompletenessSettings()
        # Loading takes half a second in which no other thread runs; and a mistake is reported before any payment.
        tokenizer_of(self._settings.tokenizer)
        self._notes = Prompts("notes", self._settings)
        self._merge = Prompts("merge", self._settings)
        self._completeness = Prompts("completeness", self._settings)
        super().__init__("completeness", self._settings, on_document=self._settings.read == "document")

    @property
    def kinds(self) -> tuple[str, ...]:
        """See :class:`lrf.protocols.AsksKinds`."""
        return super().kinds if self._settings.read == "document" else ("text", "rating")

    async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        check_documents(sample)
        if self._on_document:
            return await self._on_document.score(sample, candidate, ctx)
        template = self._completeness.template(ctx.language)
        # the hash of the template differs between languages, too
        key = f"notes {self._settings.chunk_tokens} {self._notes.template(ctx.language).sha256}"
        taken = await ctx.once(key, lambda: self._take_notes(sample, ctx))
        room = await self._room(sample.query, candidate.text, ctx)
        fitted = await ctx.once(f"{key} in {room.rating} {room.merging}", lambda: self._fit(sample, taken, room, ctx))
        context = fitted.text or NO_NOTES[self._completeness.language(ctx.language)]
        values = {"context": context, "question": sample.query, "answer": candidate.text}
        notes = tuple(Note(chunk.span, text) for chunk, text in taken.notes)
        judgement = await rate(ctx, template.fill(values), notes)
        return replace(judgement, seen=fitted.seen, extra=fitted.extra)

    async def _take_notes(self, sample: Sample, ctx: Context) -> TakenNotes:
        template = self._notes.template(ctx.language)

        async def note(chunk: Chunk) -> tuple[Chunk, str | None]:
            prompt = template.fill({"context": chunk.text, "question": sample.query})
            text = (await ctx.ask(prompt, Text(), max_tokens=NOTE_TOKENS)).value
            empty = says_nothing(text) or (self._settings.empty_notes == "shown" and EMPTY_NOTE in text)
            return chunk, None if empty else text

        pieces = await self._pieces(sample)
        if pieces is None:
            chunks: Sequence[Chunk] = await ctx.chunks(self._settings.chunk_tokens, self._settings.tokenizer)
        else:
            chunks = [piece.chunk for piece in pieces]
        outcomes = await attempted(note(chunk) for chunk in chunks)
        noted = tuple(outcome for outcome in outcomes if not isinstance(outcome, UnscorableError))
        characters = sum(c.end - c.start for c in chunks)
        seen = sum(c.end - c.start for c, _ in noted) / characters if characters else 1.0
        failures = [outcome for outcome in outcomes if isinstance(outcome, UnscorableError)]
        # a server that was down has refused nothing: a later run asks again
        transient = next((failure for failure in failures if failure.transient), None)
        if transient or seen < self._settings.min_document:
            raise transient or failures[0]
        return TakenNotes(noted, seen, pieces)

    async def _pieces(self, sample: Sample) -> list[Slice] | None:
        """The documents cut by tokens, if the settings say so."""
        s = self._settings
        if s.chunk_ends != "token":
            return None
        cut = (slices(document, s.chunk_tokens, s.tokenizer) for document in sample.documents)
        return await asyncio.to_thread(lambda: [piece for pieces in cut for piece in pieces])

    async def _fit(self, sample: Sample, taken: TakenNotes, room: Room, ctx: Context) -> NotesForRating:
        whole = WholeDocument(sample, taken.pieces, published=self._settings.headings == "published")
        empty = EMPTY_NOTE if self._settings.empty_notes == "shown" else None
        texts = [(chunk, empty if text is None else text) for chunk, text in taken.notes]
        notes = [PartNote(chunk, chunk, text) for chunk, text in texts if text is not None]
        text = notes_text(whole, notes)
        if room.rating is None:
            return NotesForRating(text, {"document": taken.seen})
        left, rounds = await merged(
            whole, notes, room.rating, room.merging, lambda several: self._merge_notes(sample, several, ctx)
        )
        if not rounds:
            return NotesForRating(text, {"document": taken.seen})
        shorter = notes_text(whole, left)
        share = min(1.0, await tokens_of(shorter) / await tokens_of(text))
        extra = {"merge_rounds": rounds, "merged_notes": [note.text for note in left]}
        return NotesForRating(shorter, {"document": taken.seen, "notes": round(share, 4)}, extra)

    async def _merge_notes(self, sample: Sample, notes: str, ctx: Context) -> str | None:
        prompt = self._merge.template(ctx.language).fill({"context": notes, "question": sample.query})
        text = (await ctx.ask(prompt, Text(), max_tokens=NOTE_TOKENS)).value
        return None if says_nothing(text) else text

    async def _room(self, query: str, answer: str, ctx: Context) -> Room:
        """The room for notes beside this answer. A reply that is cut off is asked for again with twice the room."""
        window, limit = ctx.context_window, self._settings.max_notes_tokens
        if window is None:
            return Room(limit, limit or 1)
        templates = self._completeness.template(ctx.language), self._merge.template(ctx.language)
        beside, merging = await asyncio.to_thread(_tokens_beside_notes, *templates, query, answer)
        left = window - beside
        return Room(max(1, min(left, limit or left)), max(1, window - merging))


def _tokens_beside_notes(rating: Template, merge: Template, query: str, answer: str) -> tuple[int, int]:
    """The most tokens of prompt and reply without notes: when an answer is rated, and when notes are merged."""
    beside = _tokens(rating, question=query, answer="") + 2 * RATING_TOKENS + _reserved(_escaped_tokens(answer))
    return beside, _tokens(merge, question=query) + 2 * NOTE_TOKENS


def _escaped_tokens(answer: str) -> int:
    """The tokens of an answer as the judge reads it."""
    return count_tokens(Segment(answer, trusted=False).text)


def _reserved(tokens: int) -> int:
    """The tokens reserved for an answer of this length: in steps, so that similar answers share merged notes."""
    reserved = SMALLEST_ANSWER
    while reserved < tokens:
        reserved *= 2
    return reserved


def _tokens(template: Template, **values: str) -> int:
    """Tokens of a prompt without its notes."""
    return count_tokens(prompt_text(template.fill({"context": "", **values})))


_NOTHING = re.compile(
    r"(1 |notes? )*(there (is|was) )?no relevant information( (is|was|can be))?( (found|present|available|given))?"
    r"( (in|from) (this|the) (part|section|text|document|passage|chunk|excerpt))?( of (this|the) (text|document))?"
    r"|(1 )?(笔记|笔记中)? ?(本|该|此|这一)?(部分|文档)?(中)? ?"
    r"(无|没有|没有找到|未找到|未发现|無|沒有)(任何)?((与|和)(该|此|本)?问题)?(相关|有关|相關)的?(信息|内容|資訊|內容)"
)


def says_nothing(note: str) -> bool:
    """Whether a note says only "No relevant information", in English or Chinese, in whatever wording or form."""
    words = " ".join(re.findall(r"\w+", note.replace("_", " ").casefold()))
    return _NOTHING.fullmatch(words) is not None
