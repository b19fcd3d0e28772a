"""Plans the processes of a training and writes the plan down; ``lrf.stages.train.supervise`` starts them."""

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
    """What a training will start.

    Parameters
    ----------
    plan: the launcher's plan.
    about: the contents of ``plan.json``.
    files: the texts of the other files of the folder ``launch``, by name.
    """

    plan: LaunchPlan
    about: Mapping[str, JSON]
    files: Mapping[str, str]


def plan_launch(pipeline: Pipeline, run: RunDir) -> Launch:
    """The plan of a pipeline's training, without starting or writing anything, and without importing torch.

    Raises :class:`lrf.errors.ConfigError` when the pipeline has no ``train:`` block, or when its batch can't be divided
    among the processes.
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
    """The plan of a pipeline's training, written into the run's folder ``launch`` in place of an earlier one.

    Raises as :func:`plan_launch` does.
    """
    launch, folder = plan_launch(pipeline, run), run.launch
    folder.mkdir(parents=True, exist_ok=True)
    for old in (read_json(folder / "plan.json") or {}).get("files", ()):
        (folder / Path(old).name).unlink(missing_ok=True)
    for name, text in launch.files.items():
        with replacing(folder / name) as file:
            file.write(text)
    write_json(folder / "plan.json", launch.about)
    return launch


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
