"""Differences between two resolved pipelines."""

from __future__ import annotations

import json
from collections.abc import Mapping

from lrf.types import JSON


def changes(old: Mapping[str, JSON], new: Mapping[str, JSON]) -> list[str]:
    """One line for each difference, such as ``judges.main.model: 'a' → 'b'``; empty when there is none."""
    return list(_differences(old, new, ""))


def _differences(old: JSON, new: JSON, path: str) -> list[str]:
    old, new = _by_name(old), _by_name(new)
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        return [] if old == new and type(old) is type(new) else [f"{path}: {_shown(old)} → {_shown(new)}"]
    lines = []
    for key in dict.fromkeys((*old, *new)):
        at = f"{path}.{key}" if path else key
        if key not in old:
            lines.append(f"{at}: added, {_shown(new[key])}")
        elif key not in new:
            lines.append(f"{at}: removed, was {_shown(old[key])}")
        else:
            lines += _differences(old[key], new[key], at)
    both = [key for key in old if key in new]
    if path == "dimensions" and both != [key for key in new if key in old]:
        lines.append(f"{path}: another order: {', '.join(new)}")
    return lines


def _by_name(value: JSON) -> JSON:
    """A list of named blocks as a mapping: a block inserted in front then changes no other."""
    if not isinstance(value, list) or not value:
        return value
    named = all(isinstance(v, Mapping) and isinstance(v.get("name"), str) for v in value)
    return {v["name"]: v for v in value} if named else value


def _shown(value: JSON) -> str:
    if isinstance(value, Mapping) and "type" in value:
        return str(value["type"])
    text = repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:77]}…"
