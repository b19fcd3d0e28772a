"""Registers the dimension ``classifier``."""

from __future__ import annotations

from collections.abc import Iterable

from lrf.plugin.hookspecs import hookimpl
from lrf.plugin.spec import ComponentSpec


@hookimpl
def lrf_register_dimensions() -> Iterable[ComponentSpec]:
    return (
        ComponentSpec(
            name="classifier",
            target="lrf_classifier.dimension:Classifier",
            settings="lrf_classifier.settings:ClassifierSettings",
            summary="an output of a reward model (a sequence classifier in this process); asks no judge",
            extra="transformers",
        ),
    )
