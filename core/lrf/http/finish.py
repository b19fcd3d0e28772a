"""Why a reply ended: the many words that servers use, in five classes."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from lrf.prompting.requests import FinishReason

_WORDS: dict[FinishReason, frozenset[str]] = {
    "stop": frozenset(
        [
            "stop",
            "stopped",
            "eos",
            "eostoken",
            "endoftext",
            "eot",
            "endturn",
            "endofturn",
            "end",
            "stopsequence",
            "stoptoken",
            "complete",
            "completed",
            "done",
            "finish",
            "finished",
            "normal",
            "success",
            "succeeded",
            "natural",
        ]
    ),
    "length": frozenset(
        [
            "length",
            "maxtokens",
            "maxoutputtokens",
            "maxcompletiontokens",
            "maxnewtokens",
            "maxlength",
            "tokenlimit",
            "outputlimit",
            "incomplete",
            "truncated",
            "limit",
            "contextlength",
            "contextwindow",
            "modelcontextwindowexceeded",
        ]
    ),
    "filter": frozenset(
        [
            "contentfilter",
            "contentfiltered",
            "safety",
            "recitation",
            "blocklist",
            "blocked",
            "prohibitedcontent",
            "spii",
            "sensitive",
            "refusal",
            "refused",
            "guardrailintervened",
            "moderation",
            "flagged",
            "jailbreak",
            "modelarmor",
        ]
    ),
    "tool_call": frozenset(["toolcalls", "toolcall", "tooluse", "functioncall", "functioncalls"]),
    "error": frozenset(
        [
            "error",
            "errored",
            "failed",
            "failure",
            "networkerror",
            "servererror",
            "abort",
            "aborted",
            "cancelled",
            "canceled",
            "cancel",
            "timeout",
            "timedout",
            "insufficientsystemresource",
            "malformedfunctioncall",
            "malformedresponse",
            "overloaded",
            "unavailable",
            "interrupted",
        ]
    ),
}
_CLASS: dict[str, FinishReason] = {word: kind for kind, words in _WORDS.items() for word in words}

_PARTS: tuple[tuple[FinishReason, re.Pattern[str]], ...] = (
    ("error", re.compile("error|fail|abort|cancel|timeout|timedout|interrupt")),
    ("filter", re.compile("filter|safety|block|prohibit|moderat|refus|guardrail|policy")),
    ("length", re.compile("length|truncat|(max|limit).*token|token.*(max|limit)|window")),
    ("tool_call", re.compile("toolcall|tooluse|functioncall")),
)
"""What is in words that are not listed, the first that applies."""

_LONGEST = 60

NO_WORD = "(none)"
"""Stands for the word of a server that doesn't say why a reply ended."""


def finish_of(word: Any) -> FinishReason:
    """The class of a server's word for a reply's end; "other" for a word that isn't known, and without one.

    Case, spaces, hyphens and underscores make no difference, nor does the name of a type before it:
    ``FinishReason.MAX_TOKENS`` is ``max_tokens``.
    """
    return _class_of(word[:_LONGEST]) if isinstance(word, str) else "other"


@lru_cache(256)
def _class_of(word: str) -> FinishReason:
    plain = re.sub("[^a-z]", "", word.lower().rpartition(".")[2])
    plain = plain.removeprefix("finishreason").removeprefix("stopreason")
    if plain in _CLASS:
        return _CLASS[plain]
    return next((kind for kind, part in _PARTS if part.search(plain)), "other")


def unknown_word(word: Any) -> str | None:
    """The word, if :func:`finish_of` doesn't know it; :data:`NO_WORD` where the server gave none."""
    if finish_of(word) != "other":
        return None
    return NO_WORD if word is None or word == "" else str(word)[:_LONGEST]
