"""inspect_ai: a scorer. A missing reward is a score that counts in no metric."""

from __future__ import annotations

from typing import Any

from lrf_doors.rows import request_of, text_of
from lrf_doors.source import Source


def reward_scorer(where: str, **source: Any) -> Any:
    """A scorer that gives rewards. A sample's metadata may name document and question; else its input is the prompt."""
    from inspect_ai.scorer import Score, mean, scorer, stderr

    rewards = Source(where, **source)

    @scorer(metrics=[mean(), stderr()], name="lrf_reward")  # type: ignore[untyped-decorator]
    def lrf_reward() -> Any:
        async def score(state: Any, target: Any) -> Any:
            answer = text_of(state.output.completion)
            ((outcome,),) = await rewards.outcomes([request_of(state.input_text, state.metadata, [answer])])
            if outcome.reward is None:
                return Score.unscored(reason=outcome.why, answer=answer, explanation=outcome.why)
            return Score(value=outcome.reward, answer=answer, metadata={"ratings": dict(outcome.ratings)})

        return score

    return lrf_reward()
