"""Settings of the launchers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from lrf.settings import FilePath, Settings

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _variables(env: Mapping[str, str]) -> Mapping[str, str]:
    for name, value in env.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} isn't the name of a variable: letters, digits and '_'")
        _one_line(value)
    return env


def _one_line(text: str) -> str:
    if "\n" in text or "\r" in text:
        raise ValueError("expected one line")
    return text


Environment = Annotated[dict[str, str], AfterValidator(_variables)]
Line = Annotated[str, AfterValidator(_one_line)]
Endpoint = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\-\[\]:]+:\d{1,5}$")]

ENV = "environment variables of every process, such as NCCL_SOCKET_IFNAME. They are written to files: no keys here"


class LocalSettings(Settings):
    """One process; no settings."""


class TorchrunSettings(Settings):
    """torchrun: ``nnodes`` machines with ``nproc_per_node`` processes each."""

    nproc_per_node: int = Field(1, ge=1, description="processes a machine: as many as it has GPUs")
    nnodes: int = Field(
        1, ge=1, description="machines. On each of the others, run launch/launch.sh of the run's folder"
    )
    rdzv_endpoint: Endpoint | None = Field(
        None, description="host:port of one of the machines for their rendezvous; needed for several"
    )
    env: Environment = Field({}, description=ENV)

    @model_validator(mode="after")
    def _machines_meet_somewhere(self) -> Self:
        if self.nnodes > 1 and self.rdzv_endpoint is None:
            raise ValueError(f"{self.nnodes} machines need a rdzv_endpoint, host:port of one of them")
        return self


class DeepSpeedSettings(Settings):
    """The ``deepspeed`` command."""

    hostfile: FilePath | None = Field(
        None, description="a file with a line `host slots=N` for each machine; null: this machine, with num_gpus"
    )
    num_gpus: int = Field(1, ge=1, description="processes of this machine, where there is no hostfile")
    master_port: int = Field(29500, ge=1, le=65535, description="a free port of the first machine")
    env: Environment = Field({}, description=ENV)


class SlurmSettings(Settings):
    """A Slurm job on ``nodes`` machines with ``gpus_per_node`` GPUs, and a process for each GPU."""

    nodes: int = Field(1, ge=1, description="machines")
    gpus_per_node: int = Field(8, ge=0, description="GPUs a machine; 0 requests none and starts processes_per_node")
    processes_per_node: int | None = Field(None, ge=1, description="processes a machine, by default one for each GPU")
    partition: Line | None = Field(None, description="Slurm's partition")
    account: Line | None = Field(None, description="Slurm's account")
    time: Line | None = Field(None, description="time limit in Slurm's format: 2-00:00:00 is two days")
    options: tuple[Line, ...] = Field(
        (),
        description="further options of sbatch, such as --exclusive, --mem=0 and --cpus-per-task=64 (without the last, "
        "many clusters give all processes of a machine one core)",
    )
    setup: tuple[Line, ...] = Field((), description="lines of shell before the start, such as `module load cuda`")
    port: int = Field(29500, ge=1, le=65535, description="a free port of the first machine")
    poll_s: float = Field(15.0, gt=0, description="seconds between two queries of the queue")
    env: Environment = Field({}, description=ENV)

    @property
    def processes(self) -> int:
        """Processes a machine."""
        return self.processes_per_node or max(1, self.gpus_per_node)
