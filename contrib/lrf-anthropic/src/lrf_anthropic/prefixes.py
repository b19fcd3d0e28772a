"""Which beginnings of prompts are worth a place in Anthropic's prompt cache, and which are in it.

Reading from the cache costs a tenth of the price, writing to it a quarter more than not using it, and what was written
can be read from the moment when the reply has come, for five minutes after the last use. So a beginning is written
when it comes for the second time (instructions do, and a document with several questions or answers), by one request
at a time, and read by those after it. Prompts that share nothing cost what they did.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from lrf.prompting.templates import Prompt

LIVES_S = 280.0
"""Seconds since its last use for which a beginning is taken to be in the cache: a little less than five minutes."""

KNOWN = 20_000
"""Beginnings that are remembered at most; those that came longest ago are forgotten first."""


@dataclass(slots=True)
class _Beginning:
    writing: bool = False
    in_cache_until: float = 0.0


@dataclass(frozen=True, slots=True)
class Mark:
    """The place of a prompt to mark: ``texts`` are its blocks up to there, ``rest`` is what comes after."""

    texts: tuple[str, ...]
    rest: str
    key: bytes
    writes: bool


class Prefixes:
    """What one judge has sent. ``clock`` tells seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[bytes, _Beginning] = OrderedDict()

    def mark(self, prompt: Prompt) -> Mark | None:
        """Where to mark a prompt that is about to be sent; None for nowhere. Tell :meth:`sent` how it went."""
        now = self._clock()
        best = None
        known = []
        for texts, rest, key in _beginnings(prompt):
            if key in self._known:
                self._known.move_to_end(key)
                known.append((self._known[key], texts, rest, key))
            else:
                self._known[key] = _Beginning()
        being_written = any(beginning.writing for beginning, *_ in known)
        for beginning, texts, rest, key in known:
            cached = beginning.in_cache_until > now
            if cached or not being_written:
                best = Mark(texts, rest, key, writes=not cached)
        while len(self._known) > KNOWN:
            self._known.popitem(last=False)
        if best is not None and best.writes:
            self._known[best.key].writing = True
        return best

    def sent(self, mark: Mark, *, well: bool) -> None:
        """The marked prompt has been answered, or could not be."""
        known = self._known.get(mark.key)
        if known is None:
            return
        if mark.writes:
            known.writing = False
        if well:
            known.in_cache_until = self._clock() + LIVES_S


def _beginnings(prompt: Prompt) -> list[tuple[tuple[str, ...], str, bytes]]:
    """The beginnings that other prompts may share, the shortest first: (blocks, what comes after, hash).

    They end where a segment ends, before the last untrusted one, which is a prompt's own (the answer, the statement).
    A block is never blank; a blank segment belongs to the block after it.
    """
    untrusted = [i for i, segment in enumerate(prompt) if not segment.trusted]
    found: list[tuple[tuple[str, ...], str, bytes]] = []
    blocks: list[str] = []
    blank = ""
    digest = hashlib.blake2b(digest_size=16)
    for i, segment in enumerate(prompt[: untrusted[-1] if untrusted else 0]):
        text = blank + segment.text
        if not text.strip():
            blank = text
            continue
        blank = ""
        blocks.append(text)
        data = text.encode("utf-8", "surrogatepass")
        digest.update(b"%d:%b" % (len(data), data))
        rest = "".join(s.text for s in prompt[i + 1 :])
        if rest.strip():
            found.append((tuple(blocks), rest, digest.digest()))
    return found
