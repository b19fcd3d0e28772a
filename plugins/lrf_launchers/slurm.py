"""The ``slurm`` launcher."""

from __future__ import annotations

import re
import shlex
import sys

from lrf.protocols import LaunchJob, LaunchPlan
from lrf_launchers.settings import SlurmSettings
from lrf_launchers.torchrun import TIME_TO_SAVE


class Slurm:
    """A job script that starts torchrun on every machine with ``srun``; a local process submits and follows it."""

    def __init__(self, settings: SlurmSettings) -> None:
        self.settings = settings

    def plan(self, job: LaunchJob) -> LaunchPlan:
        s, script = self.settings, job.folder / "job.sbatch"
        submit = (sys.executable, "-m", "lrf_launchers.submit", str(script), str(s.poll_s))
        return LaunchPlan(
            world=s.nodes * s.processes,
            per_node=s.processes,
            argv=submit,
            files={script.name: self._script(job)},
            note=f"sbatch gets {script}",
        )

    def _script(self, job: LaunchJob) -> str:
        s = self.settings
        folder = str(job.folder).replace("%", "%%")
        options = [
            f"--job-name=lrf-{job.name}",
            f"--nodes={s.nodes}",
            "--ntasks-per-node=1",
            *([f"--gpus-per-node={s.gpus_per_node}"] if s.gpus_per_node else []),
            *(f"--{name}={_escaped(v)}" for name in ("partition", "account", "time") if (v := getattr(s, name))),
            f"--output={_escaped(folder)}/slurm-%j.log",
            *s.options,
        ]
        torchrun = [
            *(job.python, "-m", "torch.distributed.run"),
            *(f"--nnodes={s.nodes}", f"--nproc-per-node={s.processes}"),
            "--rdzv-backend=c10d",
        ]
        rest = ["-m", job.module, *job.args]
        return "\n".join(
            [
                "#!/bin/bash",
                *(f"#SBATCH {option}" for option in options),
                "set -eo pipefail",
                *s.setup,
                "set -u",  # only now: conda's and module's scripts read unset variables
                # srun doesn't take it from sbatch's --cpus-per-task by itself
                '[ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"',
                *(f"export {name}={shlex.quote(value)}" for name, value in {**TIME_TO_SAVE, **s.env}.items()),
                'first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
                f'srun --kill-on-bad-exit=1 {shlex.join(torchrun)} --rdzv-endpoint="$first:{s.port}" '
                f'--rdzv-id="$SLURM_JOB_ID" {shlex.join(rest)}',
                "",
            ]
        )


def _escaped(text: str) -> str:
    """Escaped for a line of ``#SBATCH``, which Slurm splits at white space and quotes, and ends at "#"."""
    return re.sub(r"""([\s\\'"#])""", r"\\\1", text)
