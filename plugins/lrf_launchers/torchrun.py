"""The ``torchrun`` launcher."""

from __future__ import annotations

from lrf.protocols import LaunchJob, LaunchPlan
from lrf_launchers.settings import TorchrunSettings

TIME_TO_SAVE = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "1800"}
"""Seconds that torchrun, which is asked to stop, gives its processes to finish a step and save their state."""


class Torchrun:
    """``torchrun``, as a module of the trainer's own interpreter."""

    def __init__(self, settings: TorchrunSettings) -> None:
        self.settings = settings

    def plan(self, job: LaunchJob) -> LaunchPlan:
        s = self.settings
        if s.nnodes == 1:
            meeting: tuple[str, ...] = ("--standalone",)
            note = ""
        else:
            meeting = ("--rdzv-backend=c10d", f"--rdzv-endpoint={s.rdzv_endpoint}", f"--rdzv-id={job.name}")
            note = f"on each of the other {s.nnodes - 1} machines run: bash {job.folder / 'launch.sh'}"
        return LaunchPlan(
            world=s.nnodes * s.nproc_per_node,
            per_node=s.nproc_per_node,
            argv=(
                *(job.python, "-m", "torch.distributed.run"),
                *(f"--nnodes={s.nnodes}", f"--nproc-per-node={s.nproc_per_node}", *meeting),
                *("-m", job.module, *job.args),
            ),
            env={**TIME_TO_SAVE, **s.env},
            note=note,
        )
