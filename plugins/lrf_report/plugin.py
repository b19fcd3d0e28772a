"""Registers the command ``report``."""

from __future__ import annotations

from collections.abc import Iterable

from lrf.plugin.hookspecs import hookimpl
from lrf.plugin.spec import CommandSpec


@hookimpl
def lrf_register_commands() -> Iterable[CommandSpec]:
    return (
        CommandSpec(
            name="report",
            target="lrf_report.command:report",
            summary="Write a run as one page, with answers beside their evidence.",
            extra="report",
        ),
    )
