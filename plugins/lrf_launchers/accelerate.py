"""The ``accelerate`` launcher."""

from __future__ import annotations

import json

from lrf.protocols import LaunchJob, LaunchPlan
from lrf.types import JSON
from lrf_launchers.settings import AccelerateSettings


class Accelerate:
    """``accelerate launch`` with a configuration of its own, so that the user's doesn't count.

    DeepSpeed, precision and accumulation are the trainer's to say and stand in no configuration of accelerate's.
    """

    def __init__(self, settings: AccelerateSettings) -> None:
        self.settings = settings

    def plan(self, job: LaunchJob) -> LaunchPlan:
        s, config = self.settings, job.folder / "accelerate.yaml"
        values: dict[str, JSON] = {
            "compute_environment": "LOCAL_MACHINE",
            "distributed_type": "MULTI_GPU" if s.num_processes > 1 else "NO",
            "num_processes": s.num_processes,
            "num_machines": s.num_machines,
            "machine_rank": 0,  # with c10d, which machine is which is settled where they meet
            "rdzv_backend": "static" if s.num_machines == 1 else "c10d",
            "main_process_port": 0 if s.num_machines == 1 else s.main_process_port,  # 0: any that is free
            "mixed_precision": "no",
            "use_cpu": False,
        }
        note = ""
        if s.num_machines > 1:
            values |= {"main_process_ip": s.main_process_ip, "same_network": True}
            note = f"on each of the other {s.num_machines - 1} machines run: bash {job.folder / 'launch.sh'}"
        return LaunchPlan(
            world=s.num_processes,
            per_node=s.num_processes // s.num_machines,
            argv=(
                *(job.python, "-m", "accelerate.commands.launch", f"--config_file={config}"),
                *("-m", job.module, *job.args),
            ),
            env=s.env,
            files={config.name: json.dumps(values, indent=2) + "\n"},  # which is YAML, too
            note=note,
        )
