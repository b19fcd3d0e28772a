"""Registers the commands ``report`` and ``view``."""

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
        CommandSpec(
            name="view",
            target="lrf_report.view.command:view",
            summary="Look through a run in a browser, also while it runs, and label its answers.",
            extra="view",
        ),
    )
