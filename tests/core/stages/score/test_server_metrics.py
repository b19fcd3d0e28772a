"""What judges tell of their servers at the end of scoring: shown, and never a reason to fail or to wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from lrf.errors import UnavailableError
from lrf.stages.score import server_metrics as module
from lrf.testing import ScriptedJudge
from lrf.types import JSON


class Telling(ScriptedJudge):
    def __init__(self, tell: Callable[[], Mapping[str, JSON]]) -> None:
        super().__init__()
        self.tell = tell

    async def metrics(self) -> Mapping[str, JSON]:
        return self.tell()


class Hanging(ScriptedJudge):
    async def metrics(self) -> Mapping[str, JSON]:
        await asyncio.Event().wait()
        return {}


def gone() -> Mapping[str, JSON]:
    raise UnavailableError("the server is gone")


async def test_figures_are_logged_and_handed_on_by_judge_and_what_fails_or_hangs_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.05)
    judges = {
        "plain": ScriptedJudge(),
        "good": Telling(lambda: {"hit_rate": 0.5}),
        "unasked": Telling(dict),
        "gone": Telling(gone),
        "hanging": Hanging(),
    }
    logged: list[Any] = []
    engine: Any = SimpleNamespace(judges={name: SimpleNamespace(judge=judge) for name, judge in judges.items()})
    context: Any = SimpleNamespace(log=SimpleNamespace(info=lambda event, **values: logged.append((event, values))))
    assert await module.server_metrics(engine, context) == {"good": {"hit_rate": 0.5}}
    assert logged == [("judge", {"judge": "good", "hit_rate": 0.5})]
