"""The observer ``mlflow``."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

from mlflow.entities import Metric
from mlflow.tracking import MlflowClient

from lrf.types import JSON
from lrf_trackers.settings import MLflowSettings
from lrf_trackers.tracker import Tracker

TAG = "lrf.run"


class MLflowObserver(Tracker):
    """A run in MLflow. Asks by a client of its own: the run that the program may have active is left alone."""

    def __init__(self, settings: MLflowSettings) -> None:
        super().__init__(settings)
        self._settings = settings

    def begin(self, name: str, key: str, pipeline: Mapping[str, JSON], run_dir: str) -> None:
        wanted = self._settings.experiment
        self._client = MlflowClient(self._settings.tracking_uri)
        experiment = self._client.get_experiment_by_name(wanted)
        place = experiment.experiment_id if experiment else self._client.create_experiment(wanted)
        known = self._client.search_runs([place], f"tags.`{TAG}` = '{key}'", max_results=1)
        if known:
            self._run = known[0].info.run_id
            self._client.update_run(self._run, "RUNNING")
        else:
            tags = {TAG: key, "lrf.run_dir": run_dir}
            self._run = self._client.create_run(place, tags=tags, run_name=name).info.run_id
        self._client.log_dict(self._run, json.loads(json.dumps(dict(pipeline))), "pipeline.json")

    def log(self, figures: Mapping[str, float], samples: int) -> None:
        now = int(time.time() * 1000)
        self._client.log_batch(self._run, [Metric(name, value, now, samples) for name, value in figures.items()])

    def end(self, status: str | None) -> None:
        if status is not None:
            self._client.set_terminated(self._run, "FINISHED" if status in ("finished", "closed") else "FAILED")
