"""The data with the candidates that stage *sample* wrote, for the stages after it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lrf.build import source_of
from lrf.errors import StageError
from lrf.protocols import Source
from lrf.rows.data import Row, parse_line
from lrf.stages.context import StageContext
from lrf.stages.data import DataResult, data_of
from lrf.stages.run_dir import RunDir, fingerprint
from lrf.stages.sample.result import SampleResult
from lrf.types import BadRow, Candidate, Sample

if TYPE_CHECKING:
    from lrf.config import Pipeline

SAMPLE_FIRST = "sample first (`--from sample`)"


def sampled(context: StageContext) -> DataResult:
    """The counts of the data as the stages after *sample* see it: samples that were left out don't count.

    Raises :class:`lrf.errors.StageError` when the candidates are not those of this data.
    """
    data = data_of(context.run_dir)
    if context.pipeline.sample is None:
        return data
    values = context.run_dir.record("sample").last()
    result = None if values is None else SampleResult.from_json(values)
    if result is None or result.data != data.sha256:
        raise StageError(f"{context.run_dir.candidates} is not there or not of this data; {SAMPLE_FIRST}")
    return replace(
        data,
        samples=result.sampled,
        candidates=result.candidates,
        sha256=fingerprint(data.sha256, result.sha256),
    )


def sampled_source(context: StageContext) -> Source:
    """Where the later stages read samples from."""
    return source_with_candidates(context.pipeline, context.run_dir)


def source_with_candidates(pipeline: Pipeline, run: RunDir) -> Source:
    """The pipeline's source; its samples have the candidates of the run's directory if the pipeline samples some."""
    source = source_of(pipeline)
    return source if pipeline.sample is None else SampledSource(source, run.candidates)


@dataclass(frozen=True, slots=True)
class SampledSource:
    """A source whose samples have the candidates of a file, without the samples that the file leaves out."""

    source: Source
    file: Path

    def read(self) -> Iterator[Sample | BadRow]:
        with self.file.open("rb") as lines:
            for row in self.source.read():
                if isinstance(row, BadRow):
                    yield row
                    continue
                match parse_line(next(lines, b"{}"), str(self.file), 0):
                    case Row(value={"sample_id": row.id, "left_out": left_out, "candidates": candidates}):
                        pass
                    case _:
                        raise StageError(
                            f"{self.file} doesn't belong to this data: no line for {row.id!r}; {SAMPLE_FIRST}"
                        )
                if left_out is None:
                    yield replace(row, candidates=tuple(Candidate(**c) for c in candidates))
