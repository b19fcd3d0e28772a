"""Notes on the parts of a document, as the judge reads them; merged where they are too long for it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from lrf.text.chunking import count_tokens
from lrf.types import Chunk
from lrf_longreward.answers import all_of
from lrf_longreward.documents import WholeDocument

NOTE_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class PartNote:
    """A note on the document from chunk ``first`` to chunk ``last``, which are the same until notes are merged."""

    first: Chunk
    last: Chunk
    text: str


def notes_text(whole: WholeDocument, notes: Sequence[PartNote]) -> str:
    """The notes, each headed with the part of the document it covers (start% to end%)."""
    return "\n\n".join(_headed(whole, note) for note in notes)


def _headed(whole: WholeDocument, note: PartNote) -> str:
    start, end = whole.share(note.first, note.last)
    title = whole.heading(note.first)
    if note.last.document != note.first.document:
        title += f" –{whole.heading(note.last)}"
    part = f"文档{start}% - {end}%部分的有关信息" if whole.published else f"{start}%–{end}%"
    return f"[{part}]{title}\n{note.text}"


Merge = Callable[[str], Awaitable[str | None]]
"""Makes one note of several, given as :func:`notes_text` writes them; None if it says nothing."""


async def merged(
    whole: WholeDocument, notes: Sequence[PartNote], room: int, room_to_merge: int, merge: Merge
) -> tuple[list[PartNote], int]:
    """The notes, merged round by round until they take at most ``room`` tokens; and the number of rounds.

    Each round merges neighbours into as many notes as fit, but no more than half as many as before, from groups of at
    most ``room_to_merge`` tokens where that is possible. A single note that is too long stays so.
    """
    rounds, left = 0, list(notes)
    while len(left) > 1 and (tokens := await tokens_of(notes_text(whole, left))) > room:
        wanted = max(room // NOTE_TOKENS, -(-tokens // room_to_merge), 1)
        groups = _even(left, min(wanted, -(-len(left) // 2)))
        texts = iter(await all_of(merge(notes_text(whole, group)) for group in groups if len(group) > 1))
        joined = [group[0] if len(group) == 1 else _joined(group, next(texts)) for group in groups]
        left = [note for note in joined if note is not None]
        rounds += 1
    return left, rounds


async def tokens_of(text: str) -> int:
    """The number of tokens, counted in a thread."""
    return await asyncio.to_thread(count_tokens, text)


def _joined(group: Sequence[PartNote], text: str | None) -> PartNote | None:
    return None if text is None else PartNote(group[0].first, group[-1].last, text)


def _even(notes: Sequence[PartNote], count: int) -> list[Sequence[PartNote]]:
    """The notes in ``count`` groups of neighbours of nearly the same size."""
    ends = [len(notes) * n // count for n in range(count + 1)]
    return [notes[start:end] for start, end in itertools.pairwise(ends)]
