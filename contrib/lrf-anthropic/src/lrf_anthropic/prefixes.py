"""Which prefixes of prompts to write to Anthropic's prompt cache, and which are in it.

Tokens read from the cache cost a tenth of the price, tokens written to it a quarter more than the price. A written
prefix can be read once the reply has come, until five minutes after its last use. So a prefix is written when it comes
for the second time (instructions, or a document with several questions or answers), by one request at a time, and read
by later requests. Prompts that share no prefix cost the same as without the cache.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from lrf.prompting.templates import Prompt

LIVES_S = 280.0
"""Seconds after its last use for which a prefix counts as cached: a little less than five minutes."""

KNOWN = 20_000
"""Most prefixes that are remembered; the least recent are forgotten first."""


@dataclass(slots=True)
class _PrefixState:
    writing: bool = False
    in_cache_until: float = 0.0


@dataclass(frozen=True, slots=True)
class Mark:
    """Where to mark a prompt: ``texts`` are its blocks before the mark, ``rest`` is the text after it.

    ``key`` identifies the prefix; ``writes`` is whether the request writes it to the cache or reads it.
    """

    texts: tuple[str, ...]
    rest: str
    key: bytes
    writes: bool


class Prefixes:
    """The prefixes that one judge has sent. ``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[bytes, _PrefixState] = OrderedDict()

    def mark(self, prompt: Prompt) -> Mark | None:
        """Where to mark a prompt that is about to be sent; None for no mark. Afterwards call :meth:`sent`."""
        now = self._clock()
        best = None
        known = []
        for texts, rest, key in _shareable_prefixes(prompt):
            if key in self._known:
                self._known.move_to_end(key)
                known.append((self._known[key], texts, rest, key))
            else:
                self._known[key] = _PrefixState()
        being_written = any(state.writing for state, *_ in known)
        for state, texts, rest, key in known:
            cached = state.in_cache_until > now
            if cached or not being_written:
                best = Mark(texts, rest, key, writes=not cached)
        while len(self._known) > KNOWN:
            self._known.popitem(last=False)
        if best is not None and best.writes:
            self._known[best.key].writing = True
        return best

    def sent(self, mark: Mark, *, succeeded: bool) -> None:
        """Note that the request with the marked prompt has ended."""
        state = self._known.get(mark.key)
        if state is None:
            return
        if mark.writes:
            state.writing = False
        if succeeded:
            state.in_cache_until = self._clock() + LIVES_S


def _shareable_prefixes(prompt: Prompt) -> list[tuple[tuple[str, ...], str, bytes]]:
    """The prefixes that other prompts may share, shortest first: (blocks, rest of the prompt, hash).

    They end where a segment ends, before the last untrusted one, which no other prompt has (the answer, the statement).
    A block is never blank; a blank segment belongs to the block after it.
    """
    untrusted = [i for i, segment in enumerate(prompt) if not segment.trusted]
    prefixes: list[tuple[tuple[str, ...], str, bytes]] = []
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
            prefixes.append((tuple(blocks), rest, digest.digest()))
    return prefixes
