"""How much of what the document says on the query an answer covers (LongReward, section 3.2)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from lrf.errors import Unscorable
from lrf.protocols import Context
from lrf.replies import Text
from lrf.templates import Template
from lrf.types import Candidate, Chunk, Judgement, Note, Sample
from lrf_longreward.asking import attempted, rate
from lrf_longreward.documents import heading, share
from lrf_longreward.prompts import Prompts
from lrf_longreward.settings import CompletenessSettings, Language

NOTE_TOKENS = 1024
NO_NOTES: Mapping[Language, str] = {
    "en": "(No part of the document bears on the question.)",
    "zh": "（文档中没有任何部分与问题有关。）",
}


class Completeness:
    """Has notes taken on each chunk of the document, once for all candidates, and rates the answer against them."""

    def __init__(self, settings: CompletenessSettings | None = None) -> None:
        self._settings = settings or CompletenessSettings()
        self._notes = Prompts("notes", self._settings)
        self._completeness = Prompts("completeness", self._settings)

    async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        template = self._notes.template(ctx.language)
        # the template's hash tells the languages apart, too
        key = f"notes {self._settings.chunk_tokens} {template.sha256}"
        noted, seen = await ctx.once(key, lambda: self._take_notes(sample, template, ctx))
        context = "\n\n".join(_headed(sample, chunk, text) for chunk, text in noted if text is not None)
        context = context or NO_NOTES[self._completeness.language(ctx.language)]
        values = {"context": context, "question": sample.query, "answer": candidate.text}
        notes = tuple(Note(chunk.span, text) for chunk, text in noted)
        judgement = await rate(ctx, self._completeness.template(ctx.language).fill(values), notes)
        return replace(judgement, seen={"document": seen})

    async def _take_notes(
        self, sample: Sample, template: Template, ctx: Context
    ) -> tuple[tuple[tuple[Chunk, str | None], ...], float]:
        """The notes, and the share of the document (0 to 1) that they were taken on."""

        async def note(chunk: Chunk) -> tuple[Chunk, str | None]:
            prompt = template.fill({"context": chunk.text, "question": sample.query})
            text = (await ctx.ask(prompt, Text(), max_tokens=NOTE_TOKENS)).value
            return chunk, None if says_nothing(text) else text

        chunks = await ctx.chunks(self._settings.chunk_tokens)
        outcomes = await attempted(note(chunk) for chunk in chunks)
        noted = tuple(outcome for outcome in outcomes if not isinstance(outcome, Unscorable))
        characters = sum(c.end - c.start for c in chunks)
        seen = sum(c.end - c.start for c, _ in noted) / characters if characters else 1.0
        if seen < self._settings.min_document:
            raise next(outcome for outcome in outcomes if isinstance(outcome, Unscorable))
        return noted, seen


def _headed(sample: Sample, chunk: Chunk, text: str) -> str:
    start, end = share(sample, chunk)
    note = f"[{start}%–{end}%]{heading(sample, chunk)}\n{text}"
    # a mark in a note (the judge's habit, or the document's trick) would count as a quoted rating later
    return re.sub(r"\[{2,}", "[", re.sub(r"\]{2,}", "]", note))


_NOTHING = re.compile(
    r"(notes? )?(there is )?no relevant information( (was )?found)?( in (this|the) (part|text|document|passage))?"
    r"|(笔记|笔记中)?(本部分|该部分|此部分)?(中)?(无|没有|無|沒有)(任何)?(相关|相關)(信息|内容|資訊|內容)"
)


def says_nothing(note: str) -> bool:
    """Whether the whole note is "No relevant information", in English or Chinese, however it is dressed up."""
    words = " ".join(re.findall(r"\w+", note.replace("_", " ").casefold()))
    return _NOTHING.fullmatch(words) is not None
