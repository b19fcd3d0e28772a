"""Registers the command ``lrf serve``."""

from __future__ import annotations

from collections.abc import Iterable

from lrf.plugin.hookspecs import hookimpl
from lrf.plugin.spec import CommandSpec


@hookimpl
def lrf_register_commands() -> Iterable[CommandSpec]:
    return (
        CommandSpec(
            name="serve",
            target="lrf_server.command:serve",
            summary="Serve a pipeline's rewards over HTTP, for training.",
            extra="serve",
        ),
    )
