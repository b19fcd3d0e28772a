"""Settings of the dimension."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lrf.settings import Settings


class SectionCitationsSettings(Settings):
    """Settings of the dimension ``section_citations``."""

    wanted: int = Field(
        default=1, ge=1, description="How many different sections an answer must cite for a full rating."
    )
    no_citations: Annotated[float, Field(ge=0, le=10)] | Literal["unscored"] = Field(
        default=0.0, description='The rating, 0 to 10, of an answer without a citation; or "unscored".'
    )
