"""How a run ended, and the results of its stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lrf.errors import LrfError
from lrf.stages.stage import StageResult, plain
from lrf.types import JSON

STATUSES = {4: "stopped", 130: "interrupted"}


@dataclass(slots=True)
class RunSummary:
    """How a run ended. ``status`` is "finished", "failed", "stopped" (budget) or "interrupted".

    Parameters
    ----------
    results: of the stages that were done or skipped, by name, in order.
    changed: how the pipeline differs from that of the run before, a line each.
    files: names of the files in ``run_dir``, by what they are.
    """

    run_dir: Path
    status: str = "failed"
    exit_code: int = 1
    message: str = ""
    results: dict[str, StageResult] = field(default_factory=dict)
    seconds: float = 0.0
    changed: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)

    @property
    def stages(self) -> Mapping[str, Mapping[str, JSON]]:
        """The figures of each stage as ``summary.json`` has them."""
        return {name: result.as_json() for name, result in self.results.items()}

    def ended(self, error: LrfError) -> None:
        """Note that the run ended with this error."""
        self.exit_code = error.exit_code
        self.status = STATUSES.get(error.exit_code, "failed")
        self.message = full_message(error)

    def as_json(self) -> dict[str, JSON]:
        return {
            "status": self.status,
            "exit_code": self.exit_code,
            "message": self.message,
            "seconds": round(self.seconds, 3),
            "stages": self.stages,
            "alarms": plain([alarm for result in self.results.values() for alarm in result.raised]),
            "files": self.files,
        }


def full_message(error: LrfError) -> str:
    """The error's message and its notes, a line each."""
    return "\n".join([str(error), *getattr(error, "__notes__", ())])
