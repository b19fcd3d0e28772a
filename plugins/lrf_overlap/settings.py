"""Settings of the judge ``overlap``."""

from __future__ import annotations

from pydantic import Field

from lrf.settings import ModelReference, Settings


class OverlapSettings(Settings):
    """Which fields of a prompt are compared."""

    evidence_field: str = Field("context", description="The prompt's field that holds the evidence.")
    statement_field: str = Field("statement", description="The prompt's field that holds the statement.")

    @property
    def model_reference(self) -> ModelReference:
        """A name by which a price file can say that it costs nothing."""
        return ModelReference("overlap")
