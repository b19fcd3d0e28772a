"""The stages of a run, in their order. A new stage is added here and nowhere else."""

from __future__ import annotations

from typing import Any

from lrf.stages.data import DataStage
from lrf.stages.pairs.stage import PairsStage
from lrf.stages.sample.stage import SampleStage
from lrf.stages.score.stage import ScoreStage
from lrf.stages.stage import Stage
from lrf.stages.train.stage import TrainStage

STAGES: tuple[type[Stage[Any]], ...] = (DataStage, SampleStage, ScoreStage, PairsStage, TrainStage)
