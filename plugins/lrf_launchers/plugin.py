"""Registers the launchers."""

from __future__ import annotations

from collections.abc import Iterable

from lrf.plugin.hookspecs import hookimpl
from lrf.plugin.spec import ComponentSpec


@hookimpl
def lrf_register_launchers() -> Iterable[ComponentSpec]:
    return (
        ComponentSpec(
            name="local",
            target="lrf_launchers.local:Local",
            settings="lrf_launchers.settings:LocalSettings",
            summary="one process on this machine",
        ),
        ComponentSpec(
            name="torchrun",
            target="lrf_launchers.torchrun:Torchrun",
            settings="lrf_launchers.settings:TorchrunSettings",
            summary="a process for each GPU of this machine, or of several with a rendezvous",
        ),
        ComponentSpec(
            name="deepspeed",
            target="lrf_launchers.deepspeed:DeepSpeed",
            settings="lrf_launchers.settings:DeepSpeedSettings",
            summary="DeepSpeed's own launcher, on the hosts of a hostfile",
        ),
        ComponentSpec(
            name="slurm",
            target="lrf_launchers.slurm:Slurm",
            settings="lrf_launchers.settings:SlurmSettings",
            summary="a Slurm job of one or many machines: submitted, followed, and cancelled with the run",
        ),
    )
