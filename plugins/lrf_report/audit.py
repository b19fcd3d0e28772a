"""What `lrf audit` found about a run's judge, for the run's report."""

from __future__ import annotations

import json
from pathlib import Path

import lrf
from lrf.errors import ConfigError
from lrf.types import JSON

SHOWN = ("judges", "alarms", "not_better_than")
"""What of an audit a report shows."""


def found_audit(run: lrf.ScoredRun) -> dict[str, JSON] | None:
    """What the audit of this run's pipeline found, which lies beside the run; None where there was none.

    ``other_judges``: it asked judges with other settings than the run's.
    """
    folder = run.path.resolve().with_name(f"{run.name}-audit")
    if not (folder / "audit.json").is_file():
        return None
    try:
        asked = lrf.load_run(folder).settings.get("judges")
        return {**read_audit(folder / "audit.json"), "other_judges": asked != run.settings.get("judges")}
    except (lrf.LrfError, OSError):
        return None  # not an audit's folder, whatever its name is


def read_audit(path: Path) -> dict[str, JSON]:
    """What an audit found. Raises :class:`lrf.ConfigError` for a file that is something else."""
    try:
        audit = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not JSON: {error}") from error
    match audit:
        case {"judges": dict(), "alarms": list(), "not_better_than": list()}:
            return {name: audit[name] for name in SHOWN}
    raise ConfigError(f"{path}: expected what `lrf audit PIPELINE --json` prints")
