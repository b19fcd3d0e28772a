"""The observer ``trackio``."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import trackio
import trackio.run
import trackio.utils

from lrf.types import JSON
from lrf_trackers.settings import TrackioSettings
from lrf_trackers.tracker import Tracker

LOG = logging.getLogger(__name__)


def _to_log(*words: object, **_: object) -> None:
    LOG.info(" ".join(map(str, words)))


for _module in (trackio, trackio.run, trackio.utils):
    vars(_module)["print"] = _to_log  # what it says would stand among what lrf's commands put out


class TrackioObserver(Tracker):
    """A run in trackio."""

    def __init__(self, settings: TrackioSettings) -> None:
        super().__init__(settings)
        self._settings = settings

    def begin(self, name: str, key: str, pipeline: Mapping[str, JSON], run_dir: str) -> None:
        s = self._settings
        self._run = trackio.init(
            project=s.project, name=f"{name}-{key[:6]}", space_id=s.space_id, resume="allow", embed=False,
            auto_log_gpu=False, auto_log_cpu=False, config={"pipeline": dict(pipeline), "run_dir": run_dir},
        )  # fmt: skip

    def log(self, figures: Mapping[str, float], samples: int) -> None:
        self._run.log(dict(figures))

    def end(self, status: str | None) -> None:
        self._run.finish()
