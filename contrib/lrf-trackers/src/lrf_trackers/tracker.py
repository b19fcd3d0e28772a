"""What the observers of all trackers have in common: they add up, and log now and then."""

from __future__ import annotations

import hashlib
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping

import lrf
from lrf import Reward, Usage
from lrf.types import JSON
from lrf_trackers.settings import TrackerSettings
from lrf_trackers.totals import Totals


class Tracker(ABC):
    """A run in a tracker. A run that is resumed, and a stage in a process of its own, continue with the same one.

    What comes before a run began, or without one (``lrf score``), is added up and not logged.
    """

    def __init__(self, settings: TrackerSettings) -> None:
        self._every_s = settings.every_s
        self._totals = Totals()
        self._begun = False
        self._logged = 0.0

    @abstractmethod
    def begin(self, name: str, key: str, pipeline: Mapping[str, JSON], run_dir: str) -> None:
        """Begin or continue a run. ``key`` is the same for the same run directory."""

    @abstractmethod
    def log(self, figures: Mapping[str, float], samples: int) -> None:
        """Log a point of the curves."""

    @abstractmethod
    def end(self, status: str | None) -> None:
        """End the run; ``status`` None: it continues in another process, or was cut off."""

    @lrf.hookimpl
    def lrf_run_started(self, run_dir: str, pipeline: Mapping[str, JSON]) -> None:
        key = hashlib.sha256(run_dir.encode()).hexdigest()[:16]
        self.begin(str(pipeline.get("name")), key, pipeline, run_dir)
        self._begun = True

    @lrf.hookimpl
    def lrf_call_finished(
        self, seconds: float, error: str | None, usage: Usage, cost: float | None, currency: str | None
    ) -> None:
        self._totals.add_call(seconds, error, usage, cost, currency)

    @lrf.hookimpl
    def lrf_sample_scored(self, rewards: tuple[Reward, ...]) -> None:
        self._totals.add_rewards(rewards)
        if time.monotonic() - self._logged >= self._every_s:
            self._log()

    @lrf.hookimpl
    def lrf_run_finished(self, summary: Mapping[str, JSON]) -> None:
        self._end(str(summary.get("status")))

    def close(self) -> None:
        """Log what is left."""
        self._end(None)

    def _end(self, status: str | None) -> None:
        if self._begun:
            self._log()
            self.end(status)
            self._begun = False

    def _log(self) -> None:
        if self._begun:
            self._logged = time.monotonic()
            self.log(self._totals.figures(), self._totals.samples)
