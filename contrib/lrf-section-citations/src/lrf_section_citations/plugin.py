"""Registers the dimension."""

from __future__ import annotations

from collections.abc import Iterable

from lrf.plugin.hookspecs import hookimpl
from lrf.plugin.spec import ComponentSpec


@hookimpl
def lrf_register_dimensions() -> Iterable[ComponentSpec]:
    return (
        ComponentSpec(
            name="section_citations",
            target="lrf_section_citations.dimension:SectionCitations",
            settings="lrf_section_citations.settings:SectionCitationsSettings",
            summary="whether the answer cites sections that the document has; asks no judge",
            distribution="lrf-section-citations",
        ),
    )
