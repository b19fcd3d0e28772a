"""The folder of a policy: kept while it is made of the same data and settings, never removed without being asked."""

from __future__ import annotations

import shutil
from pathlib import Path

from lrf.errors import ConfigError

MARK = "fingerprint"


def make_room(policy: Path, fingerprint: str, settings: str = "", *, replace: bool = False) -> None:
    """Prepare the folder for a policy with this fingerprint. One that was begun with it is left as it is, to continue.

    ``settings``: the part of the fingerprint that doesn't depend on data. Raises :class:`lrf.errors.ConfigError` if
    another one would be lost, unless ``replace`` says to remove it.
    """
    marked = _marked(policy)
    if marked is not None and marked[0] == fingerprint:
        return
    lost = lost_policy(policy)
    if lost and not replace:
        raise ConfigError(lost)
    if policy.exists():
        shutil.rmtree(policy)
    policy.mkdir(parents=True)
    (policy / MARK).write_text(f"{fingerprint}\n{settings}\n")


def lost_policy(policy: Path, *, settings: str | None = None) -> str | None:
    """What would be lost if another policy were trained in this folder, and what to do about it; None if nothing would.

    ``settings``: those of the other one (see :func:`make_room`), which is taken for the same if they are.
    """
    there = sorted(path.name for path in policy.iterdir() if path.name != MARK) if policy.exists() else []
    marked = _marked(policy)
    if not there or (settings is not None and (marked is None or marked[1] in ("", settings))):
        return None
    return (
        f"{policy} has what was trained with other data or settings ({', '.join(there)}), and it would be lost. "
        "`lrf run --replace` trains in its place; with another `name:` in the pipeline both stay"
    )


def _marked(policy: Path) -> tuple[str, str] | None:
    """The fingerprint of the policy in the folder and that of its settings; None where there is no such mark."""
    mark = policy / MARK
    if not mark.exists():
        return None
    fingerprint, _, settings = mark.read_text().strip().partition("\n")
    return fingerprint, settings
