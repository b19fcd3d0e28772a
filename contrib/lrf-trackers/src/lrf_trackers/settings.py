"""Settings of the observers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lrf.settings import Settings


class TrackerSettings(Settings):
    """What all trackers take."""

    every_s: float = Field(
        default=10.0, ge=0, description="Seconds from one point of the curves to the next, at least."
    )


class MLflowSettings(TrackerSettings):
    """Settings of the observer ``mlflow``."""

    experiment: str = Field(default="lrf", min_length=1, description="The experiment; it is made if it isn't there.")
    tracking_uri: str | None = Field(
        default=None, description="Where MLflow keeps runs; null: what MLFLOW_TRACKING_URI says."
    )


class WandbSettings(TrackerSettings):
    """Settings of the observer ``wandb``. The key is what the environment's WANDB_API_KEY says."""

    project: str = Field(default="lrf", min_length=1, description="The project.")
    entity: str | None = Field(default=None, description="The user or team; null: your own.")
    mode: Literal["online", "offline"] = Field(
        default="online", description="Whether to send what is logged, or only to keep it in the run's folder."
    )


class TrackioSettings(TrackerSettings):
    """Settings of the observer ``trackio``. What it logs is where the environment's TRACKIO_DIR says."""

    project: str = Field(default="lrf", min_length=1, description="The project.")
    space_id: str | None = Field(
        default=None,
        description="A Hugging Face Space that the runs are shown in, as user/name; null: on this machine.",
    )
