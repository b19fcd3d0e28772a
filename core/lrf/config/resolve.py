"""The resolved pipeline: plain values with every default filled in, and no secret."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lrf.config.model import ComponentBlock, GlobalSettings
from lrf.config.yaml_document import YamlDocument
from lrf.text.redaction import redact
from lrf.types import JSON


def resolve(
    keys: Sequence[str], head: GlobalSettings, blocks: Mapping[str, Any], on_bad_row: str, document: YamlDocument
) -> dict[str, JSON]:
    """The pipeline as JSON values, laid out as a pipeline file and itself a valid one.

    Where the file has a ``${NAME}`` (or ``$$``), the resolved pipeline has what is written there.
    """
    plain: dict[str, JSON] = head.model_dump(mode="json")
    for key, value in blocks.items():
        if isinstance(value, ComponentBlock):
            generation = value.generation.model_dump(mode="json", exclude_none=True)
            own = {"data": {"on_bad_row": on_bad_row}, "sample": generation}
            plain[key] = _plain(value, own.get(key, {}))
        elif isinstance(value, Mapping):
            plain[key] = {
                name: _plain(block, block.rates.model_dump(mode="json", exclude_none=True))
                for name, block in value.items()
            }
        elif value:
            plain[key] = [_plain(block, _reserved(block)) for block in value]
    ordered = {key: plain[key] for key in keys if plain.get(key) not in (None, {}, [])}
    redacted: dict[str, JSON] = _written(ordered)
    for path, text in document.as_written.items():
        _put(redacted, path, text)
    return redacted


def _reserved(block: ComponentBlock) -> dict[str, JSON]:
    """A dimension's name and its keys about judges; those about panels only where it has one."""
    if block.kind != "dimension":
        return {}
    if "judge" not in block.needs:
        return {"name": block.name}
    left_out = {"name"}
    if not block.keys.judges:
        left_out |= {"judges", "panel", "panel_min", "sure"}
    elif block.keys.panel != "cascade":
        left_out.add("sure")
    if block.keys.writer is None:
        left_out.add("writer")
    return {"name": block.name, **block.keys.model_dump(mode="json", exclude=left_out)}


def _plain(block: ComponentBlock, reserved: Mapping[str, JSON]) -> dict[str, JSON]:
    needs = {kind: name for kind, name in block.needs.items() if not (kind == "judge" and "judges" in reserved)}
    return {"type": block.type, **reserved, **needs, **block.settings.model_dump(mode="json", by_alias=True)}


def _written(value: JSON) -> Any:
    """The value as a pipeline file has it: secrets as ``${NAME}``, every other dollar sign doubled."""
    if isinstance(value, dict):
        return {key: _written(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_written(v) for v in value]
    return redact(value, lambda part: part.replace("$", "$$")) if isinstance(value, str) else value


def _put(values: Any, path: Sequence[str | int], text: str) -> None:
    """Put the text at the path, if the settings still have that place."""
    *before, last = path
    for part in before:
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            return
    if isinstance(values, dict) and last in values:
        here: Any = values[last]
    elif isinstance(values, list) and isinstance(last, int) and last < len(values):
        here = values[last]
    else:
        return
    if isinstance(here, dict) and "type" in here:
        here["type"] = text  # the file has the bare type in the block's place
    else:
        values[last] = text
