"""The observer ``wandb``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import wandb

from lrf.types import JSON
from lrf_trackers.settings import WandbSettings
from lrf_trackers.tracker import Tracker


class WandbObserver(Tracker):
    """A run in Weights & Biases, beside another one that the program may have. Its files are in the run's folder."""

    def __init__(self, settings: WandbSettings) -> None:
        super().__init__(settings)
        self._settings = settings

    def begin(self, name: str, key: str, pipeline: Mapping[str, JSON], run_dir: str) -> None:
        s, folder = self._settings, Path(run_dir)
        self._run = wandb.init(
            project=s.project,
            entity=s.entity,
            name=name,
            id=key,
            resume="allow",
            config=dict(pipeline),
            dir=os.fspath(folder),
            mode=s.mode,
            reinit="create_new",
            settings=wandb.Settings(console="off", silent=True, disable_git=True, save_code=False),
        )

    def log(self, figures: Mapping[str, float], samples: int) -> None:
        self._run.log(dict(figures))

    def end(self, status: str | None) -> None:
        self._run.finish(exit_code=0 if status in (None, "finished", "closed") else 1)
