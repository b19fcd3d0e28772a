"""The plan of a trainer that writes its own answers: steps, groups and what judges are asked for them."""

from __future__ import annotations

from typing import Any

from lrf.config import parse_pipeline
from lrf.planning.plan import plan_pipeline
from lrf.plugin.catalog import load_catalog
from project import Project


async def test_calls_are_steps_times_prompts_times_answers_times_dimensions(project: Project) -> None:
    project.write_data(5, candidates=3)  # candidates of the data have no part in it

    async def calls(**train: Any) -> tuple[int, int, int]:
        block = {"type": "grpo", "init": {}, "group": 4, "global_batch": 2, **train}
        pipeline = parse_pipeline(project.pipeline(pairs=None, train=block), load_catalog())
        plan = await plan_pipeline(pipeline, priced_samples=2)
        assert (plan.written_by, plan.bound_holds) == ("grpo", False)
        assert plan.total().bound_calls == 5 * plan.total().calls
        return plan.total().calls, plan.to_sample, plan.candidates

    assert await calls(max_steps=100) == (2 * 100 * 2 * 4, 100 * 2 * 4, 100 * 2 * 4)
    assert await calls(max_steps=100, iterations=2) == (2 * 50 * 2 * 4, 50 * 2 * 4, 50 * 2 * 4)
    assert await calls(epochs=3) == (2 * 6 * 2 * 4, 6 * 2 * 4, 6 * 2 * 4)  # a prompt that fills no step is left out
    assert await calls(max_steps=1) == (2 * 2 * 4, 2 * 4, 2 * 4)
