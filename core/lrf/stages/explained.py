"""The reasons why candidates or samples were lost, each with an example and advice, as the gates print them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice

SHOWN = 5
"""Reasons that are explained; the rest is in the run's files."""


def explained(
    reasons: Mapping[str, int], found: Iterable[tuple[str, str, str]], advice: Callable[[str], str]
) -> Iterator[str]:
    """Lines on the most common reasons.

    Parameters
    ----------
    reasons: how often each occurs, most common first.
    found: (reason, where, detail) of everything that was lost, read until each of the reasons shown has an example.
    advice: what helps against a reason.
    """
    shown = dict(islice(reasons.items(), SHOWN))
    examples: dict[str, str] = {}
    for reason, where, detail in found:
        if reason in shown:
            examples.setdefault(reason, f"    such as {where}: {detail or reason}")
        if len(examples) == len(shown):
            break
    for reason, count in shown.items():
        yield f"  {reason} ({count:,})"
        if reason in examples:
            yield examples[reason]
        yield f"    what helps: {advice(reason)}"
    if len(reasons) > len(shown):
        yield f"  {len(reasons) - len(shown)} more reasons"
