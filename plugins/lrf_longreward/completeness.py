"""How much of what the document says on the query an answer covers (LongReward, section 3.2)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from lrf.errors import UnscorableError
from lrf.prompting.expectations import Text
from lrf.prompting.templates import Template, prompt_text
from lrf.protocols import Context
from lrf.text.chunking import count_tokens
from lrf.text.tokenizers import tokenizer_of
from lrf.types import JSON, Candidate, Chunk, Judgement, Note, Sample
from lrf_longreward.asking import RATING_TOKENS, attempted, rate
from lrf_longreward.documents import WholeDocument, check_documents
from lrf_longreward.notes import NOTE_TOKENS, Noted, merged, shown, tokens_of
from lrf_longreward.prompts import Prompts
from lrf_longreward.settings import CompletenessSettings, Language

NO_NOTES: Mapping[Language, str] = {
    "en": "(No part of the document bears on the question.)",
    "zh": "（文档中没有任何部分与问题有关。）",
}


@dataclass(frozen=True, slots=True)
class _Reading:
    """What a sample's document came to: its notes, how they are shown, and what of it that is.

    ``seen`` are shares, 0 to 1: of the document that notes were taken on, and of the notes' tokens that merging left.
    """

    notes: tuple[Note, ...]
    context: str
    seen: Mapping[str, float]
    extra: Mapping[str, JSON]


class Completeness:
    """Has notes taken on each chunk of the document, once for all candidates, and rates the answer against them.

    Notes that are together too long for the judge are merged, neighbours with neighbours, until they fit.
    """

    def __init__(self, settings: CompletenessSettings | None = None) -> None:
        self._settings = settings or CompletenessSettings()
        # Takes half a second, in which no other thread gets its turn; and a mistake is told before any payment.
        tokenizer_of(self._settings.tokenizer)
        self._notes = Prompts("notes", self._settings)
        self._merge = Prompts("merge", self._settings)
        self._completeness = Prompts("completeness", self._settings)

    async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        check_documents(sample)
        template = self._completeness.template(ctx.language)
        # the template's hash tells the languages apart, too
        key = f"notes {self._settings.chunk_tokens} {self._notes.template(ctx.language).sha256}"
        reading = await ctx.once(key, lambda: self._read(sample, candidate, ctx))
        context = reading.context or NO_NOTES[self._completeness.language(ctx.language)]
        values = {"context": context, "question": sample.query, "answer": candidate.text}
        judgement = await rate(ctx, template.fill(values), reading.notes)
        return replace(judgement, seen=reading.seen, extra=reading.extra)

    async def _read(self, sample: Sample, candidate: Candidate, ctx: Context) -> _Reading:
        noted, seen = await self._take_notes(sample, ctx)
        notes = tuple(Note(chunk.span, text) for chunk, text in noted)
        found = [Noted(chunk, chunk, text) for chunk, text in noted if text is not None]
        # measured on the longest answer, so that all candidates share what comes of it
        answers = [c.text for c in sample.candidates] or [candidate.text]
        room, room_to_merge = await asyncio.to_thread(self._room, sample.query, answers, ctx)
        whole = WholeDocument(sample)
        if room is None:
            return _Reading(notes, shown(whole, found), {"document": seen}, {})
        left, rounds = await merged(whole, found, room, room_to_merge, lambda s: self._merge_notes(sample, s, ctx))
        context = shown(whole, left)
        if not rounds:
            return _Reading(notes, context, {"document": seen}, {})
        share = min(1.0, await tokens_of(context) / await tokens_of(shown(whole, found)))
        extra = {"merge_rounds": rounds, "merged_notes": [note.text for note in left]}
        return _Reading(notes, context, {"document": seen, "notes": round(share, 4)}, extra)

    async def _take_notes(self, sample: Sample, ctx: Context) -> tuple[list[tuple[Chunk, str | None]], float]:
        """The notes, and the share of the document (0 to 1) that they were taken on."""
        template = self._notes.template(ctx.language)

        async def note(chunk: Chunk) -> tuple[Chunk, str | None]:
            prompt = template.fill({"context": chunk.text, "question": sample.query})
            text = (await ctx.ask(prompt, Text(), max_tokens=NOTE_TOKENS)).value
            return chunk, None if says_nothing(text) else text

        chunks = await ctx.chunks(self._settings.chunk_tokens, self._settings.tokenizer)
        outcomes = await attempted(note(chunk) for chunk in chunks)
        noted = [outcome for outcome in outcomes if not isinstance(outcome, UnscorableError)]
        characters = sum(c.end - c.start for c in chunks)
        seen = sum(c.end - c.start for c, _ in noted) / characters if characters else 1.0
        failed = [outcome for outcome in outcomes if isinstance(outcome, UnscorableError)]
        away = next((f for f in failed if f.transient), None)
        if away or seen < self._settings.min_document:  # a server that is away has refused nothing: a later run asks it
            raise away or failed[0]
        return noted, seen

    async def _merge_notes(self, sample: Sample, notes: str, ctx: Context) -> str | None:
        prompt = self._merge.template(ctx.language).fill({"context": notes, "question": sample.query})
        text = (await ctx.ask(prompt, Text(), max_tokens=NOTE_TOKENS)).value
        return None if says_nothing(text) else text

    def _room(self, query: str, answers: list[str], ctx: Context) -> tuple[int | None, int]:
        """Tokens that notes may have in the prompt that rates, None for any number; and in one that merges them.

        A reply that is cut off is asked for again with more room, and that has to be there.
        """
        window, most = ctx.context_window, self._settings.max_notes_tokens
        if window is None:
            return most, most or 1
        rating = self._completeness.template(ctx.language)
        longest = max(answers, key=count_tokens)
        room = window - _overhead(rating, 2 * RATING_TOKENS, question=query, answer=longest)
        to_merge = window - _overhead(self._merge.template(ctx.language), 2 * NOTE_TOKENS, question=query)
        return max(1, min(room, most or room)), max(1, to_merge)


def _overhead(template: Template, reply: int, **values: str) -> int:
    """Tokens of a prompt without its notes, and of its reply."""
    return count_tokens(prompt_text(template.fill({"context": "", **values}))) + reply


_NOTHING = re.compile(
    r"(1 |notes? )*(there (is|was) )?no relevant information( (is|was|can be))?( (found|present|available|given))?"
    r"( (in|from) (this|the) (part|section|text|document|passage|chunk|excerpt))?( of (this|the) (text|document))?"
    r"|(1 )?(笔记|笔记中)? ?(本|该|此|这一)?(部分|文档)?(中)? ?"
    r"(无|没有|没有找到|未找到|未发现|無|沒有)(任何)?((与|和)(该|此|本)?问题)?(相关|有关|相關)的?(信息|内容|資訊|內容)"
)


def says_nothing(note: str) -> bool:
    """Whether the whole note is "No relevant information", in English or Chinese, however it is dressed up."""
    words = " ".join(re.findall(r"\w+", note.replace("_", " ").casefold()))
    return _NOTHING.fullmatch(words) is not None
