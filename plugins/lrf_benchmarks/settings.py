"""Settings of the benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from lrf.settings import FilePath, Settings

_FILES = "The benchmark's file, several of them, or their folder (JSON, JSON Lines, plain or gzipped, Parquet or CSV)."
_SUFFIXES = (".csv", ".gz", ".json", ".jsonl", ".parquet")


class BenchmarkSettings(Settings):
    """Settings of every benchmark that is a file of questions."""

    path: FilePath | Annotated[list[FilePath], Field(min_length=1)] = Field(description=_FILES)

    @field_validator("path")
    @classmethod
    def _files_of_folders(cls, path: Path | list[Path]) -> Path | list[Path]:
        if not isinstance(path, Path) or not path.is_dir():
            return path
        files = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES and file.is_file())
        if not files:
            raise ValueError(f"the folder {path} has no files that end in {', '.join(_SUFFIXES)}")
        return files


class ClaimSettings(BenchmarkSettings):
    """Settings of a benchmark of claims that a document supports or doesn't."""

    threshold: float = Field(
        default=5.0, ge=0, le=10, description="The reward from which a claim counts as supported by the document."
    )


class LongJudgeBenchSettings(BenchmarkSettings):
    """Settings of the benchmark ``longjudgebench``."""

    dimension: str | None = Field(
        default=None,
        description="Of rankings by several dimensions the one to take, such as content; null: their mean.",
    )


class RagTruthSettings(Settings):
    """Settings of the benchmark ``ragtruth``."""

    path: FilePath = Field(description="The folder with response.jsonl and source_info.jsonl, or one of the two.")

    @field_validator("path")
    @classmethod
    def _folder(cls, path: Path) -> Path:
        folder = path.parent if path.is_file() else path
        for name in ("response.jsonl", "source_info.jsonl"):
            if not (folder / name).is_file():
                raise ValueError(
                    f"expected the folder with response.jsonl and source_info.jsonl; {folder} has no {name}"
                )
        return folder

    split: str | None = Field(default="test", description="The split to read; null: all rows.")
    threshold: float = Field(
        default=10.0, gt=0, le=10, description="A response counts as hallucinated when its reward is below this."
    )


class FactScoreSettings(ClaimSettings):
    """Settings of the benchmark ``factscore``."""

    knowledge: FilePath = Field(description="JSON Lines or Parquet of {title, text}: the article of each topic.")
    gamma: float = Field(
        default=10.0, ge=0, description="Answers with fewer facts are penalised by exp(1 - gamma / facts); 0: none."
    )


class ComparisonSettings(Settings):
    """Settings of the dimension ``comparison``."""


class RewritingSettings(Settings):
    """Settings of the dimension ``rewriting``."""


class LongBenchSettings(BenchmarkSettings):
    """Settings of the source ``longbench``."""

    datasets: list[str] | None = Field(
        default=None, description="Only rows of these data sets, such as hotpotqa; null: all of them."
    )


class AgainstReferenceSettings(Settings):
    """Settings of the dimension ``against_reference``."""

    kind: Literal["qa", "summary", "chat"] = Field(
        description="What is rated: qa, an answer from 1 to 3; summary, from 1 to 5; chat, from 1 to 10."
    )
    few_shots: FilePath | None = Field(
        default=None,
        description="LongBench-Chat's few_shots.json, with scored answers to each question, which are shown before.",
    )
