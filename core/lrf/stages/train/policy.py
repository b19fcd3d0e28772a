"""The folder of a policy: kept while it is made of the same data and settings, never removed without being asked."""

from __future__ import annotations

import shutil
from pathlib import Path

from lrf.errors import ConfigError

MARK = "fingerprint"


def make_room(policy: Path, fingerprint: str, *, replace: bool = False) -> None:
    """Prepare the folder for a policy with this fingerprint. One that was begun with it is left as it is, to continue.

    Raises :class:`lrf.errors.ConfigError` if another one would be lost, unless ``replace`` says to remove it.
    """
    mark = policy / MARK
    if mark.exists() and mark.read_text() == fingerprint:
        return
    there = sorted(path.name for path in policy.iterdir() if path != mark) if policy.exists() else []
    if there and not replace:
        raise ConfigError(
            f"{policy} has what was trained with other data or settings ({', '.join(there)}), and it would be lost. "
            "`lrf run --replace` trains in its place; with another `name:` in the pipeline both stay"
        )
    if policy.exists():
        shutil.rmtree(policy)
    policy.mkdir(parents=True)
    mark.write_text(fingerprint)
