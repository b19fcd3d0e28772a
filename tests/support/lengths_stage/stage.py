"""Stage *lengths*: how long the chosen and the rejected answers are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from lrf.errors import GateError, StageError
from lrf.stages.context import StageContext
from lrf.stages.run_dir import RunDir, fingerprint
from lrf.stages.stage import BlockingStage, StageResult
from lrf.store.files import sha256_of, write_json

if TYPE_CHECKING:
    from lrf.config import Pipeline


@dataclass(frozen=True, kw_only=True)
class LengthsResult(StageResult):
    """Mean lengths in characters."""

    chosen: float
    rejected: float


class LengthsStage(BlockingStage[LengthsResult]):
    name = "lengths"
    result = LengthsResult
    needs = ()

    @classmethod
    def of(cls, pipeline: Pipeline) -> Self | None:
        return cls() if pipeline.pairs else None

    def fingerprint(self, context: StageContext) -> str:
        if not context.run_dir.pairs.exists():
            raise StageError("there are no pairs; run stage pairs first (`--from pairs`)")
        return fingerprint("lengths", sha256_of(context.run_dir.pairs))

    def work(self, context: StageContext) -> LengthsResult:
        pairs = [json.loads(line) for line in context.run_dir.pairs.read_text(encoding="utf-8").splitlines()]
        means = {
            side: sum(len(pair[side][0]["content"]) for pair in pairs) / max(1, len(pairs))
            for side in ("chosen", "rejected")
        }
        context.report({"stage": self.name, "samples": len(pairs)})
        file = self.files(context.run_dir)["lengths"]
        write_json(file, means)
        return self.keep(context, self.fingerprint(context), [file], LengthsResult(**means))

    def gate(self, context: StageContext, result: LengthsResult) -> None:
        if result.chosen > 10 * result.rejected:
            raise GateError("chosen answers are ten times as long as rejected ones")

    def files(self, run: RunDir) -> Mapping[str, Path]:
        return {"lengths": run.path / "lengths.json"}


class LengthsInAProcess(LengthsStage):
    """The same, in a process that ends with it."""

    def own_process(self, pipeline: Pipeline) -> bool:
        return True
