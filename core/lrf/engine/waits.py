"""Waits before another try, in the server's own words: what a progress line shows while nothing seems to move."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

WORDS = 160
"""Characters of a server's message that are shown at most."""


@dataclass(frozen=True, slots=True)
class Wait:
    """A server whose calls wait before they are tried again.

    ``name``: the server as errors call it: "judges.main", "embedders.main", "sample".
    ``status``: the server's status and words, on one line of at most :data:`WORDS` characters.
    ``until_s``: the monotonic time of the next try.
    ``calls``: how many calls wait.
    """

    name: str
    status: str
    until_s: float
    calls: int = 1


def one_line(error: Exception) -> str:
    """The error's text on one line, shortened to :data:`WORDS` characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= WORDS else text[: WORDS - 1] + "…"


def summed(waits: Iterable[Wait]) -> tuple[Wait, ...]:
    """One wait for each server: of all its calls that wait, the one that ends last."""
    last: dict[str, Wait] = {}
    for wait in waits:
        known = last.get(wait.name)
        if known is None:
            last[wait.name] = wait
        else:
            later = wait if wait.until_s >= known.until_s else known
            last[wait.name] = replace(later, calls=known.calls + wait.calls)
    return tuple(last.values())
