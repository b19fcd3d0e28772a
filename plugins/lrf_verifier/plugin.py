"""Registers the judge ``verifier``."""

from __future__ import annotations

from collections.abc import Iterable

from lrf.plugin.hookspecs import hookimpl
from lrf.plugin.spec import ComponentSpec


@hookimpl
def lrf_register_judges() -> Iterable[ComponentSpec]:
    return (
        ComponentSpec(
            name="verifier",
            target="lrf_verifier.judge:Verifier",
            settings="lrf_verifier.settings:VerifierSettings",
            summary="verdicts of a small sequence classifier (NLI, MiniCheck, …), on this machine; for a cascade",
            extra="transformers",
            own_process=True,
        ),
    )
