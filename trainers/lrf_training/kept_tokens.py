"""Token ids that stay as they are for as long as a training lasts, however often it is resumed.

A chat template may write today's date. Tokenised anew on another day, the rows would be others, and a training would
begin anew.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from lrf_training.checkpoint import fsync_path, write_whole
from lrf_training.mixture import Mixture
from lrf_training.tokens import TokenCounts

Taken = dict[str, tuple[int, int]]


def kept_tokens(
    tokens: Path, made_of: str, rows: Mixture[Any], write: Callable[[], TokenCounts]
) -> tuple[TokenCounts, Taken]:
    """The counts of ``tokens``, which ``write`` makes from ``rows`` if it isn't there, and of each file's rows.

    ``made_of`` is a hash of everything that the token ids are made of; those of another hash are made anew.
    """
    mark = tokens.parent / "training" / "tokens.json"  # with the training's states, which go when it is complete
    mark.parent.mkdir(exist_ok=True)
    if (kept := _read(mark, made_of, tokens)) is not None:
        return kept
    mark.unlink(missing_ok=True)
    counts = write()
    fsync_path(tokens)
    numbers = {field.name: getattr(counts, field.name) for field in fields(counts)}
    kept_counts = {"made_of": made_of, "size": tokens.stat().st_size, "counts": numbers, "files": rows.counts}
    write_whole(mark, json.dumps(kept_counts))
    return counts, rows.counts


def _read(mark: Path, made_of: str, tokens: Path) -> tuple[TokenCounts, Taken] | None:
    try:
        saved = json.loads(mark.read_text(encoding="utf-8"))
        if saved["made_of"] != made_of or saved["size"] != tokens.stat().st_size:
            return None
        counts = {**saved["counts"]}
        counters = {name: Counter(counts[name]) for name in ("lost_by_reason", "extra")}
        return TokenCounts(**counts | counters), {path: (rows, taken) for path, (rows, taken) in saved["files"].items()}
    except (OSError, ValueError, KeyError, TypeError):  # it isn't there, or half of it is
        return None
