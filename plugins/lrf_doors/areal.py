"""AReaL: a reward function for its workflows, called in a pool of processes with 15 seconds for each call."""

from __future__ import annotations

from typing import Any

from lrf_doors.rows import request_of, text_of
from lrf_doors.source import Source


class RewardFunction:
    """Called as ``reward_fn(prompt, completions, prompt_ids, completion_ids, **columns)``.

    AReaL makes 0 of what raises or takes longer than its timeout, so raise its ``reward_timeout`` above ``deadline_s``
    and prefer a number in ``on_missing`` that your training leaves out.
    """

    def __init__(self, where: str, *, on_missing: str | float = "error", deadline_s: float | None = 14.0) -> None:
        self.source = Source(where, deadline_s=deadline_s, on_missing=on_missing)

    def __call__(
        self, prompt: Any, completions: Any, prompt_ids: Any = None, completion_ids: Any = None, **columns: Any
    ) -> float:
        request = request_of(prompt, columns, [text_of(completions)])
        ((outcome,),) = self.source.outcomes_sync([request])
        return self.source.value(outcome, float("nan"))
