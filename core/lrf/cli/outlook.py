"""What ``lrf run`` says before it pays: which settings changed, how many calls are paid already, and what is left."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrf.cli.output import clean
from lrf.errors import StageError

if TYPE_CHECKING:
    from lrf.cli.progress import Display
    from lrf.config import Pipeline
    from lrf.stages.run_dir import RunDir
    from lrf.stages.stage import Stage

SAMPLES = 10
"""Samples that the estimate goes through in full, since the run waits for it; `lrf plan` goes through more."""
LONGEST_S = 60.0
"""An estimate that takes longer is given up."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a run has to expect: a line for people, and the calls that are left to pay by stage."""

    line: str
    calls: Mapping[str, int]


def show_changes(pipeline: Pipeline, run: RunDir, display: Display) -> None:
    """Say which settings differ from those of the run's last time."""
    from lrf.stages.changes import changed_settings

    for change in changed_settings(run, pipeline):
        display.say(clean(f"changed since the last run: {change}"))


def outlook(pipeline: Pipeline, path: Path, run: RunDir, display: Display) -> Callable[[Stage[Any]], Awaitable[None]]:
    """A function for ``before_paying`` of a run: it shows the outlook, and gives the display the calls to expect.

    A pipeline whose stage has a process of its own is planned in another process as well: its components may be
    importable there only, and import libraries that this process is better off without.
    """

    async def show(stage: Stage[Any]) -> None:
        python = pipeline.python.get(stage.name)
        try:
            async with asyncio.timeout(LONGEST_S):
                if python is not None or stage.own_process(pipeline):
                    seen = await _in_child(python or sys.executable, path, run)
                else:
                    seen = await estimate(pipeline, run)
        except TimeoutError:
            display.say(f"what is left to pay wasn't estimated within {LONGEST_S:.0f} s")
        except Exception as error:  # the stage raises what concerns it, and a plan's fault is no reason to end a run
            display.say(clean(f"what is left to pay can't be estimated: {error}"))
        else:
            display.planned_calls |= seen.calls
            display.say(clean(seen.line))

    return show


async def estimate(pipeline: Pipeline, run: RunDir) -> Outlook:
    """The outlook, from a plan of some samples of data that stage *data* has counted. Raises what planning raises."""
    from lrf.cli.plan import paid_and_left
    from lrf.planning.plan import plan_pipeline
    from lrf.stages.data import data_of

    counted = await asyncio.to_thread(data_of, run)
    planned = await plan_pipeline(pipeline, run=run, priced_samples=SAMPLES, counted=counted, bound=False)
    scaled = planned.priced_samples < planned.samples
    source = f" (estimated from {planned.priced_samples:,} of {planned.samples:,} samples)" if scaled else ""
    return Outlook(f"{paid_and_left(planned)}{source}", planned.left_calls_by_stage())


async def _in_child(python: str, path: Path, run: RunDir) -> Outlook:
    command = (python, "-m", "lrf.cli.outlook", str(path), str(run.path))
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        raise StageError((err.decode("utf-8", "replace").splitlines() or ["it printed nothing"])[-1])
    return Outlook(**json.loads(out.splitlines()[-1]))


def main(path: str, run_dir: str) -> None:
    """Print the outlook of a pipeline as JSON, in the process that :func:`outlook` started."""
    from lrf.config import load_pipeline
    from lrf.plugin.catalog import load_catalog
    from lrf.stages.run_dir import RunDir

    seen = asyncio.run(estimate(load_pipeline(Path(path), load_catalog()), RunDir(Path(run_dir))))
    print(json.dumps(asdict(seen)))


if __name__ == "__main__":
    main(*sys.argv[1:])
