"""Files that appear whole or not at all, and the kind of filesystem that a path is on."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, cast

from lrf.text.redaction import RedactedText
from lrf.text.unicode import storable
from lrf.types import JSON

_OCTAL = re.compile(r"\\([0-7]{3})")
_NETWORK = (
    *("nfs", "cifs", "smb", "9p", "fuse", "lustre", "gpfs"),
    *("ceph", "beegfs", "afs", "glusterfs", "wekafs", "panfs"),
)


def on_network_filesystem(path: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> bool:
    """Whether the path lies on a filesystem on which SQLite's write-ahead log can't work. False where unknown."""
    try:
        lines = mountinfo.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return False
    best, kind = "", ""
    target = os.path.realpath(path)
    for line in lines:
        before, _, after = line.partition(" - ")
        mount = _OCTAL.sub(lambda m: chr(int(m[1], 8)), before.split()[4])  # a space is written \040
        inside = target == mount or target.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, after.split()[0]
    return kind.startswith(_NETWORK)


@contextmanager
def replacing(path: Path) -> Iterator[IO[str]]:
    """A file to write to, renamed over ``path`` when the block ends without an error and removed otherwise.

    Secrets are taken out of what is written (:mod:`lrf.text.redaction`).
    """
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as f:
            yield cast(IO[str], RedactedText(f))
            f.flush()
            os.fsync(f.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Return when the names in a folder are on the disk. Does nothing where the system can't sync folders."""
    with suppress(OSError):
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def dump(value: JSON) -> str:
    """One line of JSON, always the same for the same value. Keys keep their order; NaN is refused."""
    return storable(_encode(value))


def write_json(path: Path, value: JSON) -> None:
    """The value, indented, in place of whatever was there."""
    with replacing(path) as f:
        f.write(storable(json.dumps(value, ensure_ascii=False, allow_nan=False, indent=2)) + "\n")


def read_json(path: Path) -> JSON | None:
    """The value in the file, or None where there is no file or no JSON in it."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def sha256_of(path: Path) -> str | None:
    """Hash of a file's bytes in hexadecimal, or None where there is no file."""
    try:
        with path.open("rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest()
    except OSError:
        return None
