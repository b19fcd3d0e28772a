"""Alarms about replies that ended for an unknown reason, in all sittings of a run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping

from lrf.config.prices import SAMPLING
from lrf.http.finish import NO_WORD
from lrf.stages.stage import Alarm
from lrf.store.journal import Journal


def ending_alarms(journal: Journal, titles: Mapping[str, str]) -> list[Alarm]:
    """The alarms about judges' replies. ``titles``: what the pipeline's judges are called, by identity. Blocks."""
    endings = journal.unknown_endings()
    return _alarms((_title(judge, titles), word, n) for judge, name, word, n in endings if name != SAMPLING)


def sampler_ending_alarms(journal: Journal) -> list[Alarm]:
    """The alarms about the sampler's replies. Blocks."""
    return _alarms(("sample", word, n) for _, name, word, n in journal.unknown_endings() if name == SAMPLING)


def _title(judge: str, titles: Mapping[str, str]) -> str:
    """What a judge is called; one that the pipeline no longer has, by its model."""
    return titles.get(judge) or str(json.loads(judge).get("model") or "an earlier judge")


def _alarms(endings: Iterable[tuple[str, str, int]]) -> list[Alarm]:
    counts = Counter[tuple[str, str]]()
    for title, word, n in endings:
        counts[title, word] += n
    return [
        Alarm(alarm="unknown_finish", of=n, message=f"{title}: {n:,} {_ended(word)}")
        for (title, word), n in sorted(counts.items())
    ]


def _ended(word: str) -> str:
    if word == NO_WORD:
        return "replies came without a reason of their end: one that was cut off can't be told from a whole one"
    return f'replies ended with "{word}", which lrf does not know; each was read as it is'
