"""Rubrics of other tools, read as they are published: autorubric, verifiers, OpenRubrics, and lrf's own form."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lrf.errors import ConfigError
from lrf_rubric.items import MAX_ITEMS, MAX_TEXT, Item, checked, item_of

MAX_BYTES = 1 << 20
MAX_DEPTH = 12
_LINE = re.compile(r"[ \t]*(?:\d{1,3}[.)]|[-*•])[ \t]+(\S.*)")
_KIND = re.compile(r"\[(hard rule|principle)\]", re.IGNORECASE)


def read_file(path: Path) -> tuple[Item, ...]:
    """The items of a file: YAML, JSON, TOML, or the plain text of OpenRubrics.

    Raises :class:`lrf.errors.ConfigError` with the file, the item, and what is allowed.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ConfigError(f"{path}: a rubric has at most {MAX_BYTES:,} bytes")
        text = content.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: can't be read as UTF-8 text: {error}") from None
    return items_of(_parsed(text, path), str(path))


def _parsed(text: str, path: Path) -> Any:
    ending = path.suffix.lower()
    try:
        if ending == ".toml":
            return tomllib.loads(text)
        if ending == ".json":
            return json.loads(text)
        if ending not in (".yaml", ".yml"):
            return text
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise ConfigError(f"{path}: aliases (*name) aren't read; write values out")
        return yaml.safe_load(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        words = " ".join(str(error).split())[:300] or type(error).__name__
        raise ConfigError(f"{path}: can't be read: {words}") from None


def items_of(value: Any, where: str) -> tuple[Item, ...]:
    """The items of a rubric as plain values, in any of the forms. Raises :class:`lrf.errors.ConfigError`."""
    if isinstance(value, Mapping) and isinstance(value.get("rubric"), str):
        value = value["rubric"]  # a row of OpenRubrics' data sets
    if isinstance(value, str):
        return checked(_of_text(value, where), where)
    entries = _entries(value, where)
    if len(entries) > MAX_ITEMS:
        raise ConfigError(f"{where}: the rubric has more than {MAX_ITEMS} items")
    return checked([_item(entry, f"{where}: item {n}") for n, entry in enumerate(entries, start=1)], where)


def _entries(value: Any, where: str, depth: int = 0) -> list[Any]:
    """The items in a list, or in an object under rubric, items, criteria or sections, sections laid out flat."""
    if depth > MAX_DEPTH:
        raise ConfigError(f"{where}: nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        if isinstance(guidelines := value.get("guidelines"), str) and guidelines.strip():
            raise ConfigError(f"{where}: `guidelines` apply to no single item; write them into the items they concern")
        key = next((key for key in ("rubric", "items", "sections", "criteria") if key in value), None)
        if key is None:
            raise ConfigError(f"{where}: expected a list of items, or an object with `items`, `criteria` or `rubric`")
        return _entries(value[key], where, depth + 1)
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise ConfigError(f"{where}: expected a list of items, not {type(value).__name__}")
    entries: list[Any] = []
    for entry in value:
        nested = isinstance(entry, Mapping) and "criteria" in entry
        entries += _entries(entry, where, depth + 1) if nested else [entry]
        if len(entries) > MAX_ITEMS:
            break
    return entries


def _item(entry: Any, where: str) -> Item:
    if isinstance(entry, str):
        return _of_line(entry, where)
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{where}: expected an object, not {type(entry).__name__}")
    fields = {str(key): value for key, value in entry.items() if value is not None}
    if "requirement" in fields:
        return item_of(_of_autorubric(fields, where), where)
    if "choices" in fields:
        fields["scale"] = _of_choices(fields.pop("choices"), where)
    return item_of(fields, where)


def _of_autorubric(fields: dict[str, Any], where: str) -> dict[str, Any]:
    """autorubric's criterion: its weight is 10 unless given, and its options have values from 0 to 1."""
    if fields.pop("aggregation", None) is not None:
        raise ConfigError(f"{where}: `aggregation` of one criterion isn't supported; lrf's panels take the mean")
    if fields.pop("scale_type", "ordinal") not in ("ordinal", "nominal", "binary"):
        raise ConfigError(f"{where}: `scale_type` is none of ordinal, nominal, binary")
    options = fields.pop("options", None)
    if options is not None:
        if not isinstance(options, Sequence) or not all(isinstance(o, Mapping) for o in options):
            raise ConfigError(f"{where}: `options` must be a list of objects with label and value")
        if any(option.get("na") for option in options):
            raise ConfigError(f"{where}: an option that says “not applicable” (na) has no value here; leave it out")
        fields["scale"] = [{"label": o.get("label"), "value": o.get("value")} for o in options]
    return {"weight": 10.0, "text": fields.pop("requirement"), **fields}


def _of_choices(choices: Any, where: str) -> Any:
    """verifiers' choices, worst first, evenly spaced from 0 to 1."""
    if not isinstance(choices, Sequence) or isinstance(choices, str) or len(choices) < 2:
        raise ConfigError(f"{where}: `choices` must be a list of two or more, the worst first")
    if list(choices) == ["no", "yes"]:
        return "yes_no"
    return [{"label": choice, "value": n / (len(choices) - 1)} for n, choice in enumerate(choices)]


def _of_text(text: str, where: str) -> list[Item]:
    """OpenRubrics' text: a numbered line for each item, marked [Hard Rule] or [Principle]."""
    lines = [match[1] for line in text.splitlines() if (match := _LINE.match(line[: MAX_TEXT + 200]))]
    if not lines:
        raise ConfigError(f"{where}: expected lines such as “1. The answer names both votes. [Hard Rule]”")
    return [_of_line(line, f"{where}: item {n}") for n, line in enumerate(lines[: MAX_ITEMS + 1], start=1)]


def _of_line(line: str, where: str) -> Item:
    kind = _KIND.search(line)
    text = " ".join(_KIND.sub("", line).split()).strip(" *")
    return item_of({"text": text, "gate": kind is not None and kind[1].lower() == "hard rule"}, where)
