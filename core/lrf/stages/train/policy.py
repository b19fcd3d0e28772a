"""The folder of a policy: kept while it is made of the same data and settings, never removed without being asked.

A policy that another replaces stays beside it (``NAME.replaced``) until the other is complete.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from lrf.errors import ConfigError

MARK = "fingerprint"


def make_room(policy: Path, fingerprint: str, settings: str = "", *, replace: bool = False) -> bool:
    """Prepare the folder for a policy with this fingerprint. One that was begun with it is left as it is, to continue.

    ``settings``: the part of the fingerprint that doesn't depend on data. Raises :class:`lrf.errors.ConfigError` if
    another one would be lost, unless ``replace`` says to train in its place; :func:`replaced` then removes it.

    Returns whether a policy came back that another was to replace.
    """
    marked, before = _marked(policy), _before(policy)
    if marked is not None and marked[0] == fingerprint:
        return False
    its = _marked(before)
    if its is not None and its[0] == fingerprint:  # the settings of before again
        aside = policy.with_name(policy.name + ".unfinished")
        policy.rename(aside)
        before.rename(policy)
        shutil.rmtree(aside)
        return True
    lost = lost_policy(policy)
    if lost and not replace:
        raise ConfigError(lost)
    if policy.exists():
        if lost and not before.exists():
            policy.rename(before)
        else:  # nothing is in it, or the successor of one that is complete, which wasn't
            shutil.rmtree(policy)
    policy.mkdir(parents=True)
    (policy / MARK).write_text(f"{fingerprint}\n{settings}\n")
    return False


def replaced(policy: Path) -> None:
    """Remove the policy that this one, which is complete now, has replaced."""
    shutil.rmtree(_before(policy), ignore_errors=True)


def _before(policy: Path) -> Path:
    return policy.with_name(policy.name + ".replaced")


def lost_policy(policy: Path, *, settings: str | None = None) -> str | None:
    """What would be lost if another policy were trained in this folder, and what to do about it; None if nothing would.

    ``settings``: those of the other one (see :func:`make_room`), which is taken for the same if they are.
    """
    there = sorted(path.name for path in policy.iterdir() if path.name != MARK) if policy.exists() else []
    marked = _marked(policy)
    if not there or (settings is not None and (marked is None or marked[1] in ("", settings))):
        return None
    before = _marked(_before(policy))
    if settings is not None and before is not None and before[1] == settings:  # it comes back
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
