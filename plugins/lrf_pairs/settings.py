"""Settings of the pairing rules."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lrf.settings import Settings

Ties = Literal["hash", "first", "left_out"]


class BestWorstSettings(Settings):
    """Settings of the pairing rule ``best_worst``."""

    min_candidates: int = Field(
        default=5, ge=2, description="Samples with fewer scored candidates are left out (too_few_scored)."
    )
    margin: float = Field(
        default=0.0,
        ge=0,
        description="The chosen reward must be above the rejected one by at least this (no_margin). "
        "Equal rewards never make a pair, at 0 either.",
    )
    ties: Ties = Field(
        default="hash",
        description="Which of several candidates that share the highest (or lowest) reward is taken: by a hash of "
        "sample and candidate id, the first in the data, or none, leaving the sample out (tie).",
    )


class AllPairsSettings(Settings):
    """Settings of the pairing rule ``all_pairs``."""

    min_candidates: int = Field(
        default=5, ge=2, description="Samples with fewer scored candidates are left out (too_few_scored)."
    )
    margin: float = Field(
        default=0.0,
        ge=0,
        description="Two candidates make a pair if their rewards differ by at least this. Equal rewards never do.",
    )
    most: int | None = Field(
        default=None,
        ge=1,
        description="Most pairs of a sample, those with the largest difference; null is all: 45 of ten candidates.",
    )


class AboveNoiseSettings(Settings):
    """Settings of the pairing rule ``above_noise``."""

    noise: float = Field(
        ge=0,
        le=10,
        description="Standard deviation of a reward when the same is asked again; `lrf audit --noise` measures it.",
    )
    z: float = Field(
        default=1.96, gt=0, description="How many standard deviations of a difference count as noise: 1.96 is 95 %."
    )
    min_candidates: int = Field(
        default=5, ge=2, description="Samples with fewer scored candidates are left out (too_few_scored)."
    )
    without_length: bool = Field(
        default=True,
        description="Whether pairs whose difference follows from the answers' lengths are left out "
        "(explained_by_length). Looked at in samples of four scored candidates or more.",
    )


Sources = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]


class ContrastSettings(Settings):
    """Settings of the pairing rule ``contrast``."""

    strong: str | Sources = Field(
        min_length=1, description="Source, or sources in order of preference, of the chosen answer."
    )
    weak: str | Sources = Field(
        min_length=1, description="Source, or sources in order of preference, of the rejected answer."
    )

    @property
    def strong_sources(self) -> list[str]:
        return [self.strong] if isinstance(self.strong, str) else self.strong

    @property
    def weak_sources(self) -> list[str]:
        return [self.weak] if isinstance(self.weak, str) else self.weak

    @model_validator(mode="after")
    def _apart(self) -> ContrastSettings:
        if both := sorted({*self.strong_sources} & {*self.weak_sources}):
            raise ValueError(f"{both[0]!r} can't be both strong and weak")
        return self
