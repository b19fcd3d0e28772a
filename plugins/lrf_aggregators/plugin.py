"""Registers the aggregators."""

from __future__ import annotations

from collections.abc import Iterable

from lrf.plugin.hookspecs import hookimpl
from lrf.plugin.spec import ComponentSpec


@hookimpl
def lrf_register_aggregators() -> Iterable[ComponentSpec]:
    return (
        ComponentSpec(
            name="mean",
            target="lrf_aggregators.mean:Mean",
            settings="lrf_aggregators.settings:MeanSettings",
            summary="the plain mean of all dimensions (the paper's)",
        ),
        ComponentSpec(
            name="weighted",
            target="lrf_aggregators.mean:Weighted",
            settings="lrf_aggregators.settings:WeightedSettings",
            summary="the mean with a weight for each dimension",
        ),
        ComponentSpec(
            name="minimum",
            target="lrf_aggregators.minimum:Minimum",
            settings="lrf_aggregators.settings:MinimumSettings",
            summary="the lowest rating: an answer is as good as its worst side",
        ),
        ComponentSpec(
            name="gated",
            target="lrf_aggregators.gated:Gated",
            settings="lrf_aggregators.settings:GatedSettings",
            summary="the mean, held down when a dimension is below its floor",
        ),
    )
