"""Tells lrf what this package has."""

from __future__ import annotations

from collections.abc import Iterable

from lrf.plugin.hookspecs import hookimpl
from lrf.plugin.spec import ComponentSpec


@hookimpl
def lrf_register_observers() -> Iterable[ComponentSpec]:
    about = (
        ("mlflow", "MLflow", "Logs a run's rewards, calls, tokens and cost to MLflow"),
        ("wandb", "Wandb", "Logs a run's rewards, calls, tokens and cost to Weights & Biases"),
        ("trackio", "Trackio", "Logs a run's rewards, calls, tokens and cost to trackio"),
    )
    return [
        ComponentSpec(
            name=name,
            target=f"lrf_trackers.{name}_observer:{stem}Observer",
            settings=f"lrf_trackers.settings:{stem}Settings",
            summary=summary,
            extra=name,
            distribution="lrf-trackers",
        )
        for name, stem, summary in about
    ]
