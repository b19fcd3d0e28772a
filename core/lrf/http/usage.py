"""The tokens that the body of a reply or an error reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lrf.prompting.requests import Usage

_MAX_TOKENS = 1 << 40
"""A larger usage is read as 0, since a journal could not store it."""


def read_usage(value: Any) -> Usage:
    """The tokens under ``usage`` in a body, else 0. Of a list of bodies, the last usage that it reports.

    Some servers count thoughts, which are paid for, in the total only, and not in ``completion_tokens``. Servers that
    call them ``input_tokens`` and ``output_tokens`` are understood, too.
    """
    if isinstance(value, list):
        told = [found for one in value if isinstance(one, Mapping) and (found := read_usage(one)).told]
        return told[-1] if told else Usage()
    usage = value.get("usage") if isinstance(value, Mapping) else None
    if not isinstance(usage, Mapping):
        return Usage()
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    details = details if isinstance(details, Mapping) else {}
    prompt = _count(usage.get("prompt_tokens")) or _count(usage.get("input_tokens"))
    completion = _count(usage.get("completion_tokens")) or _count(usage.get("output_tokens"))
    return Usage(
        prompt,
        max(completion, _count(usage.get("total_tokens")) - prompt if prompt else 0),
        cached_tokens=_count(details.get("cached_tokens")),
        written_tokens=_count(details.get("cache_write_tokens")),
    )


def _count(value: Any) -> int:
    return value if isinstance(value, int) and 0 < value < _MAX_TOKENS else 0
