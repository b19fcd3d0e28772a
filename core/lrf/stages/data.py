"""Stage *data*: every row is read and checked before anything is paid for."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping

from lrf.build import source_of
from lrf.errors import DataError
from lrf.protocols import Source
from lrf.stages.context import StageContext
from lrf.stages.progress import Progress
from lrf.stages.reading import sample_digest
from lrf.store.files import dump, replacing
from lrf.types import JSON, BadRow

SHOWN = 20


async def data_stage(context: StageContext) -> Mapping[str, JSON]:
    """Counts of the data, and a hash of it all. Raises :class:`lrf.errors.DataError` on bad rows, unless skipped.

    Done anew in each run: it costs nothing, and no date of a file tells whether what it names has changed.
    """
    source = await asyncio.to_thread(source_of, context.pipeline)
    counts = await asyncio.to_thread(_check, context, source)
    context.run_dir.record("data").write(counts["sha256"], [], counts)
    return counts


def _check(context: StageContext, source: Source) -> Mapping[str, JSON]:
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
                if len(shown) < SHOWN:
                    shown.append(row)
                if not skip and bad >= SHOWN:
                    break
            else:
                good += 1
                candidates += len(row.candidates)
                everything.update(sample_digest(row))
            if time.monotonic() - last > 0.5:
                last = time.monotonic()
                context.report(Progress(stage="data", samples=good, bad_rows=bad).as_json())
            if context.stop:
                raise context.stop
    if not bad:
        context.run_dir.bad_rows.unlink(missing_ok=True)
    if bad and not skip:
        lines = "\n".join(f"{b.file}:{b.line}: {b.message}" for b in shown)
        more = "" if bad < SHOWN else " (the first ones)"
        raise DataError(f"{bad} bad rows{more}:\n{lines}\nmend them, or set `data.on_bad_row: skip` to leave them out")
    if not good:
        raise DataError(f"no sample in the data ({good + bad} rows, {bad} of them bad)")
    return {
        "rows": good + bad,
        "samples": good,
        "bad_rows": bad,
        "candidates": candidates,
        "sha256": everything.hexdigest(),
    }
