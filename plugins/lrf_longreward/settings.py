"""Settings of the four dimensions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lrf.settings import FilePath, Settings

Language = Literal["en", "zh"]


class PromptSettings(Settings):
    """What all four share: the language and the files of their prompts."""

    language: Literal["auto", "en", "zh"] = Field(
        "auto", description='Language of the prompts. "auto" follows the sample\'s documents: Chinese, else English.'
    )
    prompts: FilePath | None = Field(
        None,
        description="A folder with prompts of your own, named like the built-in ones (helpfulness.txt, or "
        "zh/helpfulness.txt for one language). A file that isn't there is taken from the built-in prompts.",
    )


class HelpfulnessSettings(PromptSettings):
    """Settings of ``helpfulness``."""


class LogicalitySettings(PromptSettings):
    """Settings of ``logicality``."""


class FaithfulnessSettings(PromptSettings):
    """Settings of ``faithfulness``."""

    top_k: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Chunks of evidence for each statement. null: the retriever's own number."
    )
    no_statements: Literal["unscored"] | Annotated[float, Field(ge=0, le=10, strict=True)] = Field(
        "unscored",
        description='What an answer without factual statements gets: "unscored", or a rating from 0 to 10.',
    )
    max_statements: int = Field(
        100, ge=1, description="An answer with more factual statements than this is unscored; none is left out unseen."
    )


class CompletenessSettings(PromptSettings):
    """Settings of ``completeness``."""

    chunk_tokens: int = Field(
        4096, ge=1, description="Tokens of the document that one call reads for its notes, at most."
    )
