"""verifiers (v1): a reward of a task, awaited in a method that its ``@reward`` marks.

::

    class MyTask(vf.Task[MyData]):
        @vf.reward
        async def lrf(self, trace) -> float:
            return await lrf_doors.verifiers.reward("http://…", self.data, trace)
"""

from __future__ import annotations

from typing import Any

from lrf_doors.rows import request_of, text_of
from lrf_doors.source import Source


async def reward(where: str, data: Any, trace: Any, **source: Any) -> float:
    """The reward of a trace's last reply to the task's prompt, whose data may name document and question.

    A missing reward raises :class:`lrf_doors.source.MissingRewardError`: verifiers records it as the rollout's error.
    """
    fields = data.model_dump(mode="json")
    messages = [node.message for node in trace.nodes]
    said = trace.root_reply or next((m.content for m in reversed(messages) if m.role == "assistant"), "")
    prompt = fields.pop("prompt", None)
    rewards = Source(where, **source)
    ((outcome,),) = await rewards.outcomes([request_of(prompt, fields, [text_of(said)])])
    return rewards.value(outcome, float("nan"))
