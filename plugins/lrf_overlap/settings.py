"""Settings of the judge ``overlap``."""

from __future__ import annotations

from pydantic import Field

from lrf.settings import Settings


class OverlapSettings(Settings):
    """Which fields of a prompt are compared."""

    evidence_field: str = Field("context", description="The prompt's field that holds the evidence.")
    statement_field: str = Field("statement", description="The prompt's field that holds the statement.")
