"""Settings of the dimension ``rubric``."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from lrf.settings import FilePath, Settings
from lrf_rubric.items import MAX_ITEMS, Example, Item


class RubricSettings(Settings):
    """What is asked of every answer: items in the pipeline, in a file, or with each sample."""

    items: Annotated[tuple[Item, ...], Field(max_length=MAX_ITEMS)] = Field((), description="The items.")
    file: FilePath | None = Field(
        None, description="A file of items: lrf's own form, autorubric's, verifiers' or OpenRubrics'."
    )
    from_data: str | None = Field(
        None,
        min_length=1,
        description="The key of the rows' metadata that holds a sample's own rubric, in any of these forms. It takes "
        "the place of the items and the file for the samples that have one.",
    )
    missing: Literal["unscored", "left_out"] = Field(
        "unscored",
        description="What an item without an answer does (refused, missing, contradictory, unreadable): the candidate "
        "is unscored; or the item counts for nothing. A gate is never left out.",
    )
    examples: Annotated[tuple[Example, ...], Field(max_length=20)] = Field(
        (), description="Answers with what to say of them, shown with the items they name."
    )
    language: Literal["auto", "en", "zh"] = Field(
        "auto", description="Language of the prompts' own words. \"auto\" follows the sample's documents."
    )

    @model_validator(mode="after")
    def _has_items(self) -> Self:
        if self.items and self.file is not None:
            raise ValueError("give either `items` or `file`")
        if not self.items and self.file is None and self.from_data is None:
            raise ValueError("needs `items`, `file` or `from_data`")
        return self

    @property
    def without(self) -> frozenset[str]:
        """Evidence needs a retriever only where an item of the pipeline sees it."""
        return frozenset() if any("evidence" in item.sees for item in self.items) else frozenset({"retriever"})
