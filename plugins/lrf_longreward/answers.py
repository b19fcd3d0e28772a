"""What the four dimensions share: rating by one question, reading analyses, and waiting for several answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Any, TypeVar

from lrf.errors import UnscorableError
from lrf.prompting.expectations import Rating
from lrf.prompting.labels import analysis_of, json_object
from lrf.prompting.requests import Answer
from lrf.prompting.templates import Prompt
from lrf.protocols import Context
from lrf.types import JSON, Judgement, Note

T = TypeVar("T")

RATING_TOKENS = 512


async def rate(ctx: Context, prompt: Prompt, notes: tuple[Note, ...] = ()) -> Judgement:
    """A judgement from one question: an analysis, then a rating from 0 to 10."""
    answer = await ctx.ask(prompt, Rating(), max_tokens=RATING_TOKENS)
    return Judgement(rating=answer.value, analysis=analysis_of(answer), reply_mode=answer.reply_mode, notes=notes)


def object_of(answer: Answer[Any]) -> JSON:
    """The JSON object of an answer that was read as one."""
    return json_object(answer.text)


def analysis_in(reply: JSON) -> str | None:
    """The analysis in the object of a structured reply, or None without one."""
    analysis = reply.get("analysis")
    return (analysis.strip() or None) if isinstance(analysis, str) else None


async def all_of(awaitables: Iterable[Awaitable[T]]) -> list[T]:
    """The results of all, which run at once.

    If some raise UnscorableError, the first of them in order is raised when all have ended, so that the reason doesn't
    depend on which reply came first. Any other error is raised at once.
    """
    outcomes = await attempted(awaitables)
    for outcome in outcomes:
        if isinstance(outcome, UnscorableError):
            raise outcome
    return [outcome for outcome in outcomes if not isinstance(outcome, UnscorableError)]


async def attempted(awaitables: Iterable[Awaitable[T]]) -> list[T | UnscorableError]:
    """The results of all, which run at once, with the UnscorableError in the place of each that raised one."""
    parts = [_or_unscorable(awaitable) for awaitable in awaitables]
    if len(parts) == 1:  # without a task
        return [await parts[0]]
    return await asyncio.gather(*parts)


async def _or_unscorable(awaitable: Awaitable[T]) -> T | UnscorableError:
    try:
        return await awaitable
    except UnscorableError as error:
        return error
