"""One process of a training: ``python -m lrf.stages.train.worker RUN_DIR FOLDER``, started by a launcher.

What it prints goes to ``launch/ranks/N.log``; ``launch/ranks/N.jsonl`` is its channel (``lrf.stages.channel``).
Secrets are taken out of what Python code prints. What code in C prints goes to the log as it is: through a pipe, the
last lines of a process that dies would be lost.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO, cast

from lrf.errors import StageError
from lrf.stages.channel import Channel, answer, end_with_parent
from lrf.stages.train.supervise import WATCHED
from lrf.text.redaction import RedactedText
from lrf.types import JSON

_PLACE = (("RANK", 0), ("LOCAL_RANK", 0), ("WORLD_SIZE", 1))


def main(run_dir: str, folder: str, channel: Channel) -> int:
    rank, local_rank, world = (int(os.environ.get(name, default)) for name, default in _PLACE)

    def work() -> Mapping[str, JSON]:
        from lrf.config import parse_pipeline
        from lrf.plugin.catalog import load_catalog
        from lrf.stages.run_dir import RunDir
        from lrf.stages.train.stage import TrainStage, train_here

        run = RunDir(Path(run_dir))
        pipeline = parse_pipeline(run.pipeline.read_text(encoding="utf-8"), load_catalog(), folder=Path(folder))
        stage = TrainStage.of(pipeline)
        if stage is None:
            raise StageError(f"{run.pipeline} has no `train:` block")
        return train_here(pipeline, stage.block, run, channel.progress, rank=rank, local_rank=local_rank, world=world)

    return answer(channel, work, Path(run_dir), f"rank {rank}")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as in training, also where nohup or `&` had it ignored
    if os.environ.get(WATCHED):
        end_with_parent()
    ranks = Path(sys.argv[1]) / "launch" / "ranks"
    ranks.mkdir(parents=True, exist_ok=True)
    rank = os.environ.get("RANK", "0")
    log = os.open(ranks / f"{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout, sys.stderr = cast(TextIO, RedactedText(sys.stdout)), cast(TextIO, RedactedText(sys.stderr))
    with (ranks / f"{rank}.jsonl").open("a", encoding="utf-8") as out:
        sys.exit(main(sys.argv[1], sys.argv[2], Channel(out)))
