"""Files of a data set on the Hugging Face hub: ``hf:OWNER/NAME``, or ``hf:OWNER/NAME@REVISION/FILES``."""

from __future__ import annotations

from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path

from lrf.errors import ConfigError, DataError

PREFIX = "hf:"
KINDS = (".parquet", ".jsonl", ".jsonl.gz", ".json", ".csv")
"""Files of data, by how their names end: a data set that has the first kind is read from these alone, and so on."""


def hub_files(reference: str) -> list[Path]:
    """The files that ``reference`` names, from the hub's cache or downloaded into it, in the order of their names.

    FILES is a pattern such as ``data/test-*``. Left out, it is all files of data, or those of the split ``test`` where
    there is one. Raises :class:`lrf.errors.ConfigError` for what is no such reference, or without the extra, and
    :class:`lrf.errors.DataError` where the hub can't be reached, refuses, or has no such files.
    """
    owner, _, rest = reference.removeprefix(PREFIX).partition("/")
    named, _, pattern = rest.partition("/")
    name, _, revision = named.partition("@")
    if not owner or not name:
        raise ConfigError(f"--data: expected hf:OWNER/NAME or hf:OWNER/NAME/FILES; got {reference!r}")
    if find_spec("huggingface_hub") is None:
        raise ConfigError("huggingface_hub isn't installed; pip install 'lrf[datasets]'")
    wanted = [pattern] if pattern else [f"*{kind}" for kind in KINDS]
    folder = _downloaded(f"{owner}/{name}", revision or None, wanted, reference)
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    chosen = [name for name in files if any(fnmatch(name, one) for one in wanted)]
    if not pattern:
        chosen = _of_test(_of_one_kind(chosen))
    if not chosen:
        there = ", ".join(list(files)[:8]) or "none of data"
        raise DataError(f"{reference}: no such files in the data set; it has {there}")
    return [files[name] for name in chosen]


def _of_one_kind(names: list[str]) -> list[str]:
    by_kind = ([name for name in names if name.endswith(kind)] for kind in KINDS)
    return next((of_kind for of_kind in by_kind if of_kind), [])


def _of_test(names: list[str]) -> list[str]:
    return [name for name in names if name.rpartition("/")[2].startswith("test")] or names


def _downloaded(name: str, revision: str | None, patterns: list[str], reference: str) -> Path:
    """The folder with the files of these patterns."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    try:
        return Path(snapshot_download(name, repo_type="dataset", revision=revision, allow_patterns=patterns))
    except GatedRepoError:
        why = f"accept its terms at https://huggingface.co/datasets/{name} first, and set HF_TOKEN"
    except RepositoryNotFoundError:
        why = "the hub has no such data set, or it is private and HF_TOKEN isn't set"
    except (LocalEntryNotFoundError, OfflineModeIsEnabled):
        why = "the hub can't be reached, and the files aren't in its cache; fetch them elsewhere: --data FILE"
    except Exception as error:  # the hub's client lets through whatever the network raises
        why = f"can't be fetched from the hub: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    raise DataError(f"{reference}: {why}")
