"""Near matches for misspelt names, as errors show them."""

from __future__ import annotations

from collections.abc import Iterable


def near(word: str, allowed: Iterable[str]) -> str | None:
    """The allowed name that ``word`` most likely meant, or None."""
    import difflib

    by_folded = {name.casefold(): name for name in allowed}
    found = difflib.get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """``"; did you mean NAME?"``, or nothing: to be put at the end of a message."""
    found = near(word, allowed)
    return f"; did you mean {found}?" if found else ""
