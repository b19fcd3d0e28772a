"""The ``local`` launcher."""

from __future__ import annotations

from lrf.protocols import LaunchJob, LaunchPlan
from lrf_launchers.settings import LocalSettings


class Local:
    """The stage's own process."""

    def __init__(self, settings: LocalSettings) -> None:
        self.settings = settings

    def plan(self, job: LaunchJob) -> LaunchPlan:
        return LaunchPlan()
