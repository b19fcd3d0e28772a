"""A cascade of judges: each is asked only if the judges before it were unsure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from lrf.engine.faults import FaultError
from lrf.engine.judge_calls import JudgeCalls
from lrf.engine.paid_call import Caller
from lrf.errors import Reason, UnscorableError
from lrf.prompting.expectations import Ratable, Verdicts
from lrf.prompting.requests import Answer, Expectation, RatingMode
from lrf.prompting.templates import Prompt
from lrf.types import Vote

T = TypeVar("T")


async def ask_cascade(
    judges: Sequence[JudgeCalls],
    sure: float,
    reply_mode: RatingMode,
    prompt: Prompt,
    expects: Expectation[T],
    max_tokens: int,
    caller: Caller,
    material: int = 0,
) -> Answer[T]:
    """The answer of the first judge that gives its rating, verdict or choice a probability of at least ``sure``.

    The last judge's answer counts in any case; it is asked in ``reply_mode``, and it alone is asked for everything
    that is no rating, verdict or choice (statements, notes). A judge that can't be asked, or whose reply can't be
    read, is passed over. One that is unreachable or whose code fails is not: which judge decides must not depend on the
    hour.

    Raises :class:`lrf.errors.UnscorableError`.
    """
    if isinstance(expects, Verdicts):
        raise UnscorableError(Reason.REPLY_MODE_NOT_POSSIBLE, "in a cascade each verdict is asked for by itself")
    *earlier, last = judges
    if not isinstance(expects, Ratable):
        return await last.ask(prompt, expects, max_tokens, caller)
    for judge in earlier:
        try:
            answer = await judge.ask(prompt, expects, max_tokens, caller, reply_mode="logprobs", material=material)
        except UnscorableError as error:
            if error.transient or isinstance(error, FaultError):
                raise
            continue
        if max((answer.probabilities or {}).values(), default=0.0) >= sure:
            judge.ledger.lines[caller.dimension].spared += 1
            return _by(judge, answer)
    return _by(last, await last.ask(prompt, expects, max_tokens, caller, reply_mode=reply_mode, material=material))


def _by(judge: JudgeCalls, answer: Answer[T]) -> Answer[T]:
    """The answer, with a vote that names the judge."""
    return replace(answer, votes=(Vote(judge.name, 0, answer.value, answer.reply_mode, answer.probabilities),))
