"""What the four dimensions share in asking a judge and in keeping what it wrote."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Iterable
from typing import Any, TypeVar

from lrf.errors import UnscorableError
from lrf.prompting.expectations import Rating
from lrf.prompting.requests import Answer
from lrf.prompting.templates import Prompt
from lrf.protocols import Context
from lrf.types import JSON, Judgement, Note

T = TypeVar("T")

RATING_TOKENS = 512


async def rate(ctx: Context, prompt: Prompt, notes: tuple[Note, ...] = ()) -> Judgement:
    """A judgement of one rating from 0 to 10, asked with analysis first."""
    answer = await ctx.ask(prompt, Rating(), max_tokens=RATING_TOKENS)
    return Judgement(rating=answer.value, analysis=analysis_of(answer), reply_mode=answer.reply_mode, notes=notes)


def analysis_of(answer: Answer[Any]) -> str | None:
    """What the judge wrote to explain itself, or None if it wrote nothing."""
    return analysis_in(object_of(answer)) if answer.reply_mode == "json" else answer.text.strip() or None


def object_of(answer: Answer[Any]) -> JSON:
    """The object of a structured reply that was read, which may have line breaks in its strings."""
    return json.loads(answer.text, strict=False)


def analysis_in(reply: JSON) -> str | None:
    """The analysis in the object of a structured reply, or None if there is none."""
    analysis = reply.get("analysis")
    return (analysis.strip() or None) if isinstance(analysis, str) else None


async def all_of(asked: Iterable[Awaitable[T]]) -> list[T]:
    """The results of all, asked at once.

    If some raise UnscorableError, all are waited for and the first in order is raised, so that the reason doesn't depend
    on which reply came first. Any other error is raised at once.
    """
    results = await attempted(asked)
    for result in results:
        if isinstance(result, UnscorableError):
            raise result
    return [result for result in results if not isinstance(result, UnscorableError)]


async def attempted(asked: Iterable[Awaitable[T]]) -> list[T | UnscorableError]:
    """The results of all, asked at once, with the reason in the place of each that can't be had."""
    return await asyncio.gather(*(_or_unscorable(a) for a in asked))


async def _or_unscorable(asked: Awaitable[T]) -> T | UnscorableError:
    try:
        return await asked
    except UnscorableError as error:
        return error
