"""The ``deepspeed`` launcher."""

from __future__ import annotations

import re

from lrf.errors import ConfigError
from lrf.protocols import LaunchJob, LaunchPlan
from lrf_launchers.settings import DeepSpeedSettings

_HOST = re.compile(r"(\S+)\s+slots=([1-9]\d*)\s*(?:#.*)?")


class DeepSpeed:
    """The ``deepspeed`` command: on the hosts of a hostfile, over pdsh, or on this machine."""

    def __init__(self, settings: DeepSpeedSettings) -> None:
        self.settings = settings

    def plan(self, job: LaunchJob) -> LaunchPlan:
        s, copy = self.settings, job.folder / "hostfile"
        env = dict(s.env)
        if s.hostfile is None:
            slots, files = {"localhost": s.num_gpus}, {}
            machines: tuple[str, ...] = ("--hostfile=/dev/null", f"--num_gpus={s.num_gpus}")
        else:
            slots = self._slots()
            files = {copy.name: "".join(f"{host} slots={n}\n" for host, n in slots.items())}
            machines = (f"--hostfile={copy}",)
            if s.env:  # DeepSpeed passes a file's variables to other machines
                variables = job.folder / "deepspeed_env"
                files[variables.name] = "".join(f"{name}={value}\n" for name, value in s.env.items())
                env["DS_ENV_FILE"] = str(variables)
        return LaunchPlan(
            world=sum(slots.values()),
            per_node=max(slots.values()),
            argv=(
                *(job.python, "-m", "deepspeed.launcher.runner", *machines, f"--master_port={s.master_port}"),
                *("--no_local_rank", "--module", job.module, *job.args),
            ),
            env=env,
            files=files,
        )

    def _slots(self) -> dict[str, int]:
        """Processes by host. Raises :class:`lrf.errors.ConfigError`, naming the line."""
        path = self.settings.hostfile
        assert path is not None
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise ConfigError(f"launcher.hostfile: {path}: {getattr(error, 'strerror', None) or error}") from None
        slots: dict[str, int] = {}
        for number, line in enumerate(lines, 1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            match = _HOST.fullmatch(line)
            if match is None:
                raise ConfigError(f"{path}:{number}: expected `host slots=N`; got {line[:60]!r}")
            if match[1] in slots:
                raise ConfigError(f"{path}:{number}: the host {match[1]} is listed twice")
            slots[match[1]] = int(match[2])
        if not slots:
            raise ConfigError(f"{path} lists no host; give each a line `host slots=N`")
        if len(set(slots.values())) > 1:
            raise ConfigError(f"{path}: every host must have the same number of slots; got {slots}")
        return slots
