"""Registers the commands ``lrf export`` and ``lrf import``."""

from __future__ import annotations

from collections.abc import Iterable

from lrf.plugin.hookspecs import hookimpl
from lrf.plugin.spec import CommandSpec


@hookimpl
def lrf_register_commands() -> Iterable[CommandSpec]:
    return (
        CommandSpec(
            name="export",
            target="lrf_formats.export_command:export",
            summary="Write a run's pairs, rewards or prompts as another tool reads them.",
        ),
        CommandSpec(
            name="import",
            target="lrf_formats.import_command:import_rows",
            summary="Turn another tool's file into rows of data.",
        ),
    )
