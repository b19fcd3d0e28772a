"""A cascade of judges: each is asked only if the judges before it were unsure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lrf.engine.asked import Asked, Outcome
from lrf.engine.faults import FaultError
from lrf.engine.judge_calls import JudgeCalls
from lrf.errors import Reason, UnscorableError
from lrf.prompting.expectations import Ratable, Verdicts
from lrf.prompting.requests import Answer
from lrf.types import Vote


async def ask_cascade(judges: Sequence[JudgeCalls], sure: float, asked: Sequence[Asked[Any]]) -> list[Outcome]:
    """For each question the answer of the first judge that gives its rating, verdict or choice at least ``sure``.

    The last judge's answer counts in any case; it is asked in the questions' own reply mode, and it alone is asked for
    everything that is no rating, verdict or choice (statements, notes). A judge that can't be asked, or whose reply
    can't be read, is passed over. One that is unreachable or whose code fails is not: which judge decides must not
    depend on the hour. A judge is asked once the one before has answered all questions, so that what is packed
    together follows from the answers alone.
    """
    outcomes: dict[int, Outcome] = {}
    for place, one in enumerate(asked):
        if isinstance(one.expects, Verdicts):
            error = UnscorableError(Reason.REPLY_MODE_NOT_POSSIBLE, "in a cascade each verdict is asked for by itself")
            outcomes[place] = error
    left = [place for place in range(len(asked)) if place not in outcomes]
    *earlier, last = judges
    for judge in earlier:
        ratable = [place for place in left if isinstance(asked[place].expects, Ratable)]
        answers = await judge.ask_many([replace(asked[place], reply_mode="logprobs") for place in ratable])
        for place, answer in zip(ratable, answers, strict=True):
            if isinstance(answer, UnscorableError):
                if answer.transient or isinstance(answer, FaultError):
                    outcomes[place] = answer
            elif max((answer.probabilities or {}).values(), default=0.0) >= sure:
                judge.ledger.lines[asked[place].caller.dimension].spared += 1
                outcomes[place] = _by(judge, answer)
        left = [place for place in left if place not in outcomes]
    for place, answer in zip(left, await last.ask_many([asked[place] for place in left]), strict=True):
        unrated = isinstance(answer, UnscorableError) or not isinstance(asked[place].expects, Ratable)
        outcomes[place] = answer if unrated else _by(last, answer)
    return [outcomes[place] for place in range(len(asked))]


def _by(judge: JudgeCalls, answer: Any) -> Answer[Any]:
    """The answer, with a vote that names the judge."""
    return replace(answer, votes=(Vote(judge.name, 0, answer.value, answer.reply_mode, answer.probabilities),))
