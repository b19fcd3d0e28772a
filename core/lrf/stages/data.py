"""Stage *data*: every row is read and checked before anything is paid for."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from lrf.build import source_of
from lrf.errors import DataError
from lrf.protocols import HashesContent
from lrf.stages.context import StageContext
from lrf.stages.progress import Progress
from lrf.stages.reading import sample_digest
from lrf.stages.run_dir import RunDir, fingerprint
from lrf.stages.stage import BlockingStage, StageResult, last_result
from lrf.store.files import dump, read_json, replacing, write_json
from lrf.types import BadRow, Sample

if TYPE_CHECKING:
    from lrf.config import Pipeline

SHOWN = 20
TICK_S = 0.5


@dataclass(frozen=True, kw_only=True)
class DataResult(StageResult):
    """Counts of the data; ``sha256`` is a hash of all samples in order."""

    rows: int
    samples: int
    bad_rows: int
    candidates: int
    sha256: str


def data_of(run: RunDir) -> DataResult:
    """The counts of the data as it was last checked. Raises :class:`lrf.errors.StageError` when it never was."""
    return last_result(run, DataStage.name, DataResult, "check the data first (`--until data`)")


class DataStage(BlockingStage[DataResult]):
    """Checks the data. Done anew in each run, since no file's date tells whether the data changed.

    Only where a source can tell by a hash of its content that nothing changed (:class:`lrf.protocols.HashesContent`),
    and no row was bad, the counts of the last time are taken.
    """

    name = "data"
    result = DataResult
    needs = ()

    @classmethod
    def of(cls, pipeline: Pipeline) -> Self | None:
        return cls() if pipeline.data is not None else None

    def fingerprint(self, context: StageContext) -> str:
        return ""

    def finished(self, context: StageContext) -> None:
        return None

    def work(self, context: StageContext) -> DataResult:
        """Raises :class:`lrf.errors.DataError` for bad rows, unless the pipeline skips them."""
        kept = context.run_dir.path / "stages" / "data_content.json"
        content = _content(context)
        last = self.record(context.run_dir).last()
        result = None if last is None else DataResult.from_json(last)
        if result is not None and content is not None and read_json(kept) == [content, result.sha256]:
            context.report(Progress(stage="data", samples=result.samples, bad_rows=0).as_json())
            return result
        result = _check(context)
        self.keep(context, result.sha256, [], result)
        if content is not None and not result.bad_rows:
            write_json(kept, [content, result.sha256])
        return result

    def files(self, run: RunDir) -> Mapping[str, Path]:
        return {"bad_rows": run.bad_rows}


def _content(context: StageContext) -> str | None:
    """A hash of the data's content and settings; None where the source can't give one."""
    source, block = source_of(context.pipeline), context.pipeline.data
    content = source.content_hash() if isinstance(source, HashesContent) else None
    return None if content is None or block is None else fingerprint(content, context.component(block))


def _check(context: StageContext) -> DataResult:
    source = source_of(context.pipeline)
    skip = context.pipeline.on_bad_row == "skip"
    good = bad = candidates = 0
    everything = hashlib.sha256()
    shown: list[BadRow] = []
    last = time.monotonic()
    with replacing(context.run_dir.bad_rows) as bad_rows:
        for row in source.read():
            if isinstance(row, BadRow):
                bad += 1
                bad_rows.write(dump({"file": row.file, "line": row.line, "message": row.message}) + "\n")
                shown += [row] if len(shown) < SHOWN else []
                if not skip and bad >= SHOWN:
                    break
            else:
                good += 1
                candidates += len(row.candidates)
                everything.update(sample_digest(row))
            if time.monotonic() - last > TICK_S:
                last = time.monotonic()
                context.report(Progress(stage="data", samples=good, bad_rows=bad).as_json())
            if context.stop:
                raise context.stop
    context.report(Progress(stage="data", samples=good, bad_rows=bad).as_json())
    if not bad:
        context.run_dir.bad_rows.unlink(missing_ok=True)
    if bad and not skip:
        raise DataError(_message(shown, bad))
    if not good:
        raise DataError(f"no sample in the data ({good + bad} rows, {bad} of them bad)")
    return DataResult(rows=good + bad, samples=good, bad_rows=bad, candidates=candidates, sha256=everything.hexdigest())


def data_samples(pipeline: Pipeline, skipped: Counter[str] | None = None) -> Iterator[Sample]:
    """The samples of a pipeline's data for what isn't a run; bad rows stop it or are left out, as in stage *data*.

    What is left out is counted in ``skipped``. Raises :class:`lrf.errors.DataError` for bad rows, unless the pipeline
    skips them.
    """
    shown: list[BadRow] = []
    for row in source_of(pipeline).read():
        if isinstance(row, Sample):
            yield row
        elif pipeline.on_bad_row == "skip":
            if skipped is not None:
                skipped["bad rows of the data, left out"] += 1
        else:
            shown.append(row)
            if len(shown) == SHOWN:
                break
    if shown:
        raise DataError(_message(shown, len(shown)))


def _message(shown: list[BadRow], bad: int) -> str:
    lines = "\n".join(f"{row.file}:{row.line}: {row.message}" for row in shown)
    more = "" if bad < SHOWN else " (the first ones)"
    return f"{bad} bad rows{more}:\n{lines}\nmend them, or set `data.on_bad_row: skip` to leave them out"
