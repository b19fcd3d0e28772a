"""Registers the pairing rules."""

from __future__ import annotations

from collections.abc import Iterable

from lrf.plugin.hookspecs import hookimpl
from lrf.plugin.spec import ComponentSpec


@hookimpl
def lrf_register_pairings() -> Iterable[ComponentSpec]:
    return (
        ComponentSpec(
            name="best_worst",
            target="lrf_pairs.best_worst:BestWorst",
            settings="lrf_pairs.settings:BestWorstSettings",
            summary="the highest reward against the lowest (the paper's), with a margin and a rule for ties",
        ),
        ComponentSpec(
            name="all_pairs",
            target="lrf_pairs.all_pairs:AllPairs",
            settings="lrf_pairs.settings:AllPairsSettings",
            summary="each two candidates whose rewards differ by a margin: several pairs a sample",
        ),
        ComponentSpec(
            name="above_noise",
            target="lrf_pairs.above_noise:AboveNoise",
            settings="lrf_pairs.settings:AboveNoiseSettings",
            summary="the highest reward against the lowest, where noise and length don't explain the difference",
        ),
        ComponentSpec(
            name="contrast",
            target="lrf_pairs.contrast:Contrast",
            settings="lrf_pairs.settings:ContrastSettings",
            summary="a strong source's answer against a weak one's, without rewards (the paper's baseline)",
        ),
    )
