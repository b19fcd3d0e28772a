"""What a component's part of an outcome depends on, as JSON values for a fingerprint."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from lrf.stages.run_dir import path_fingerprint
from lrf.types import JSON

if TYPE_CHECKING:
    from lrf.config import ComponentBlock
    from lrf.plugin.catalog import Catalog


def component_fingerprint(block: ComponentBlock, catalog: Catalog) -> JSON:
    """A component's settings, its package, and the files that they name; not what decides only how it is done.

    A cache's folder or a database's changes by itself, and with whatever else uses it.
    """
    settings = block.settings.fingerprint_fields()
    reference = block.settings.model_reference
    files = {"model": weights_fingerprint(reference.name if reference else None)}
    paths = {name: path for name, path in paths_in(block.settings) if name.partition(".")[0] in settings}
    files |= {name: path_fingerprint(path) for name, path in paths.items()}
    return [block.name, block.type, dict(block.needs), settings, files, str(catalog.package_of(block.spec))]


def weights_fingerprint(model: object) -> JSON:
    """Sizes and times of a checkpoint's files, for a model that is a path; None for a model's name."""
    return path_fingerprint(Path(model)) if isinstance(model, str) and Path(model).is_absolute() else None


def paths_in(value: object, name: str = "") -> Iterator[tuple[str, Path]]:
    """The paths in settings, with their places: "chat_template", "sources.0.path"."""
    if isinstance(value, Path):
        yield name, value
        return
    parts: Iterable[tuple[object, object]] = ()
    if isinstance(value, BaseModel):
        parts = value
    elif isinstance(value, Mapping):
        parts = value.items()
    elif isinstance(value, tuple | list):
        parts = enumerate(value)
    for key, part in parts:
        yield from paths_in(part, f"{name}.{key}".lstrip("."))
