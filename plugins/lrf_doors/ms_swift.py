"""ms-swift: a reward for ``--external_plugins`` and ``--reward_funcs``.

In the plugin file: ``orms["lrf"] = lrf_doors.ms_swift.reward("http://…")``.
"""

from __future__ import annotations

from typing import Any

from lrf_doors.batches import BatchRewards
from lrf_doors.source import Source


def reward(where: str, *, on_missing: str | float = "error", **source: Any) -> type:
    """A subclass of ms-swift's ``AsyncORM``.

    ms-swift sums rewards without the missing ones, so a row that has none at all becomes 0, and "missing" is no way
    out: take "error" (the default), or a number.
    """
    from swift.rewards import AsyncORM

    batches = BatchRewards(Source(where, on_missing=on_missing, **source))

    class LrfReward(AsyncORM):  # type: ignore[misc]
        async def __call__(self, completions: list[Any], **columns: Any) -> list[float | None]:
            turns = columns.pop("messages", None) or [None] * len(completions)
            prompts = [_prompt(row) for row in turns]
            return await batches.rewards(prompts, completions, columns)

    return LrfReward


def _prompt(turns: Any) -> Any:
    """The turns before the completion."""
    return turns[:-1] if turns and turns[-1].get("role") == "assistant" else turns
