"""The plan of a training's processes, written for review before any is started (see ``lrf.stages.train.supervise``)."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lrf.build import launcher_of
from lrf.errors import ConfigError
from lrf.protocols import LaunchJob, LaunchPlan
from lrf.settings import Shares, TrainerSettings
from lrf.stages.run_dir import RunDir
from lrf.store.files import read_json, replacing, write_json
from lrf.types import JSON

if TYPE_CHECKING:
    from lrf.config import ComponentBlock, Pipeline


@dataclass(frozen=True, slots=True)
class Launch:
    """The launcher's plan, the contents of plan.json, and the texts of the other files by name."""

    plan: LaunchPlan
    about: Mapping[str, JSON]
    files: Mapping[str, str]


def plan_launch(pipeline: Pipeline, run: RunDir) -> Launch:
    """Plan everything that will run. Imports no torch, starts and writes nothing.

    Raises :class:`lrf.errors.ConfigError` when the processes can't share the training.
    """
    if pipeline.train is None:
        raise ConfigError("the pipeline has no `train:` block, so there is nothing to launch")
    python = pipeline.python.get("train", sys.executable)
    arguments = (str(run.path), str(pipeline.folder))
    job = LaunchJob(pipeline.name, python, "lrf.stages.train.worker", arguments, run.launch)
    plan = launcher_of(pipeline).plan(job) if pipeline.launcher else LaunchPlan()
    shares = _shares(pipeline.train, plan.world)
    files = {**plan.files}
    if shares.deepspeed is not None:
        files["ds_config.json"] = json.dumps(shares.deepspeed, indent=2) + "\n"
    if plan.argv:
        variables = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in plan.env.items())
        files["launch.sh"] = f"#!/usr/bin/env bash\nset -euo pipefail\n{variables}exec {shlex.join(plan.argv)}\n"
    return Launch(plan, _about(pipeline, pipeline.train, plan, shares, sorted(files)), files)


def prepare_launch(pipeline: Pipeline, run: RunDir) -> Launch:
    """:func:`plan_launch`, and write it into the run's ``launch`` folder."""
    made, folder = plan_launch(pipeline, run), run.launch
    folder.mkdir(parents=True, exist_ok=True)
    for old in (read_json(folder / "plan.json") or {}).get("files", ()):
        (folder / Path(old).name).unlink(missing_ok=True)
    for name, text in made.files.items():
        with replacing(folder / name) as f:
            f.write(text)
    write_json(folder / "plan.json", made.about)
    return made


def _shares(block: ComponentBlock, world: int) -> Shares:
    settings = block.settings
    try:
        if isinstance(settings, TrainerSettings):
            return settings.shares(world)
        if world > 1:
            raise ConfigError("this trainer runs in one process")
    except ConfigError as error:
        raise ConfigError(f"train ({block.type}) with {world} processes: {error}") from None
    return Shares()


def _about(
    pipeline: Pipeline, block: ComponentBlock, plan: LaunchPlan, shares: Shares, files: list[str]
) -> dict[str, JSON]:
    settings = block.settings
    return {
        "run": pipeline.name,
        "launcher": pipeline.launcher.type if pipeline.launcher else "local",
        "trainer": block.type,
        "processes": plan.world,
        "machines": plan.world // plan.per_node,
        "processes_per_machine": plan.per_node,
        "sequence_parallel": shares.sequence_parallel,
        "data_parallel": plan.world // shares.sequence_parallel,
        "global_batch": shares.global_batch,
        "micro_batch": shares.micro_batch,
        "accumulation": shares.accumulation,
        "memory": settings.memory(pipeline.policy.model, plan.world) if isinstance(settings, TrainerSettings) else None,
        "deepspeed": "ds_config.json" if shares.deepspeed is not None else None,
        "argv": list(plan.argv),
        "env": dict(plan.env),
        "ranks": [
            {"rank": r, "machine": r // plan.per_node, "local_rank": r % plan.per_node, "log": f"ranks/{r}.log"}
            for r in range(plan.world)
        ]
        if plan.argv
        else [],
        "files": files,
        "note": plan.note,
    }
