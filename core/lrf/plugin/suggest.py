"""Near matches for misspelt names, as errors show them."""

from __future__ import annotations

from collections.abc import Iterable


def near(word: str, allowed: Iterable[str]) -> str | None:
    """The allowed name that ``word`` most likely meant, or None."""
    import difflib

    by_folded = {name.casefold(): name for name in allowed}
    matches = difflib.get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[matches[0]] if matches else None


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """``"; did you mean NAME?"``, or an empty text: the end of a message."""
    name = near(word, allowed)
    return f"; did you mean {name}?" if name else ""
