"""Notes on the parts of a document, as the judge is shown them; merged where they are too long for it."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from lrf.text.chunking import count_tokens
from lrf.types import Chunk
from lrf_longreward.asking import all_of
from lrf_longreward.documents import WholeDocument

NOTE_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Noted:
    """What was noted on the document from the chunk ``first`` to the chunk ``last``, which are mostly the same."""

    first: Chunk
    last: Chunk
    text: str


def shown(whole: WholeDocument, notes: Sequence[Noted]) -> str:
    """The notes, each headed with the part of the document it covers (start% to end%)."""
    text = "\n\n".join(_headed(whole, note) for note in notes)
    if "[[" in text or "]]" in text:
        # a mark in a note (the judge's habit, or the document's trick) would count as a quoted rating later
        text = re.sub(r"\[{2,}", "[", re.sub(r"\]{2,}", "]", text))
    return text


def _headed(whole: WholeDocument, note: Noted) -> str:
    start, end = whole.share(note.first, note.last)
    title = whole.heading(note.first)
    if note.last.document != note.first.document:
        title += f" –{whole.heading(note.last)}"
    return f"[{start}%–{end}%]{title}\n{note.text}"


Merge = Callable[[str], Awaitable[str | None]]
"""One note made of several, given as they are shown; None if it says nothing."""


async def merged(
    whole: WholeDocument, notes: Sequence[Noted], room: int, room_to_merge: int, merge: Merge
) -> tuple[list[Noted], int]:
    """The notes, merged round by round until they take at most ``room`` tokens; and the number of rounds.

    Each round makes as many notes of them as fit, out of neighbours, of at most ``room_to_merge`` tokens where that
    can be, and at most half as many as there were. What is left when one note is too long, is too long.
    """
    rounds, left = 0, list(notes)
    while len(left) > 1 and (tokens := await tokens_of(shown(whole, left))) > room:
        wanted = max(room // NOTE_TOKENS, -(-tokens // room_to_merge), 1)
        groups = _even(left, min(wanted, -(-len(left) // 2)))
        texts = await all_of(merge(shown(whole, group)) for group in groups if len(group) > 1)
        made = iter(texts)
        joined = [group[0] if len(group) == 1 else _joined(group, next(made)) for group in groups]
        left = [note for note in joined if note is not None]
        rounds += 1
    return left, rounds


async def tokens_of(text: str) -> int:
    """The number of tokens, counted beside the event loop."""
    return await asyncio.to_thread(count_tokens, text)


def _joined(group: Sequence[Noted], text: str | None) -> Noted | None:
    return None if text is None else Noted(group[0].first, group[-1].last, text)


def _even(notes: Sequence[Noted], count: int) -> list[Sequence[Noted]]:
    """The notes in so many groups of neighbours, as even as can be."""
    ends = [len(notes) * n // count for n in range(count + 1)]
    return [notes[start:end] for start, end in itertools.pairwise(ends)]
