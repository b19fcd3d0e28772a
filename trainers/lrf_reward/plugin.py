"""Registers the trainer ``reward``."""

from __future__ import annotations

from collections.abc import Iterable

from lrf.plugin.hookspecs import hookimpl
from lrf.plugin.spec import ComponentSpec


@hookimpl
def lrf_register_trainers() -> Iterable[ComponentSpec]:
    return (
        ComponentSpec(
            name="reward",
            target="lrf_reward.trainer:RewardTrainer",
            settings="lrf_reward.settings:RewardSettings",
            summary="a reward model distilled from the run's ratings, saved as a sequence classifier",
            extra="train",
        ),
    )
