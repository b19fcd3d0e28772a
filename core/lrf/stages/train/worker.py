"""One process of a training: ``python -m lrf.stages.train.worker RUN_DIR FOLDER``, started by a launcher.

What anything prints goes to ``launch/ranks/N.log``; progress, result and errors go to ``launch/ranks/N.jsonl``.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from lrf.errors import LrfError, StageError
from lrf.stages.child_process import end_with_parent
from lrf.stages.train.supervise import WATCHED
from lrf.store.files import dump
from lrf.types import JSON


def main(run_dir: str, folder: str, out: TextIO) -> int:
    from lrf.config import parse_pipeline
    from lrf.plugin.catalog import load_catalog
    from lrf.stages.run_dir import RunDir, said_by_system
    from lrf.stages.train.stage import train_here

    lock = threading.Lock()

    def say(message: Mapping[str, JSON]) -> None:
        with lock:
            out.write(dump(message) + "\n")
            out.flush()

    rank, local_rank, world = (int(os.environ.get(name, n)) for name, n in _PLACE)
    try:
        run = RunDir(Path(run_dir))
        pipeline = parse_pipeline(run.pipeline.read_text(encoding="utf-8"), load_catalog(), folder=Path(folder))

        def report(progress: Mapping[str, JSON]) -> None:
            say({"progress": progress})

        result = train_here(pipeline, run, report, rank=rank, local_rank=local_rank, world=world)
        say({"result": result})
        return 0
    except LrfError as error:
        say({"error": "\n".join([str(error), *getattr(error, "__notes__", ())]), "exit_code": error.exit_code})
        return error.exit_code
    except OSError as error:
        say({"error": said_by_system(error, Path(run_dir)), "exit_code": StageError.exit_code})
        traceback.print_exc()
        return StageError.exit_code
    except Exception:
        traceback.print_exc()
        return 1


_PLACE = (("RANK", 0), ("LOCAL_RANK", 0), ("WORLD_SIZE", 1))

if __name__ == "__main__":
    if os.environ.get(WATCHED):
        threading.Thread(target=end_with_parent, daemon=True).start()
    here = Path(sys.argv[1]) / "launch" / "ranks"
    here.mkdir(parents=True, exist_ok=True)
    rank = os.environ.get("RANK", "0")
    log = os.open(here / f"{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    with (here / f"{rank}.jsonl").open("a", encoding="utf-8") as channel:
        sys.exit(main(sys.argv[1], sys.argv[2], channel))
