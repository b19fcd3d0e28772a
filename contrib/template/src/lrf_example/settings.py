"""Settings of the dimension."""

from __future__ import annotations

from pydantic import Field

from lrf.settings import Settings


class ConcisenessSettings(Settings):
    """Settings of the dimension ``conciseness``."""

    max_tokens: int = Field(default=512, ge=16, description="How many tokens the judge's reply may have.")
