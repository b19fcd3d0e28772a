"""What a run writes down about where its outcome comes from: ``pipeline.yaml`` and ``versions.json``."""

from __future__ import annotations

import importlib.metadata
import platform
from functools import cache
from typing import TYPE_CHECKING

from lrf.config.yaml_document import write_document
from lrf.stages.changes import changed_settings
from lrf.stages.run_dir import RunDir
from lrf.store.files import replacing, write_json

if TYPE_CHECKING:
    from lrf.config import ComponentBlock, Pipeline
    from lrf.plugin.catalog import Catalog

LIBRARIES = (
    "aiohttp", "deepspeed", "numpy", "openai", "pluggy", "pydantic", "qdrant-client", "quicktok-v1",
    "structlog", "tokenizers", "torch", "transformers", "trl", "vllm",
)  # fmt: skip


def keep_pipeline(run: RunDir, pipeline: Pipeline) -> list[str]:
    """Write the resolved pipeline; returns how it differs from that of the run before, a line each."""
    changed = changed_settings(run, pipeline)
    with replacing(run.pipeline) as file:
        file.write("# The pipeline of this run with every default filled in. Secrets stay ${NAME}.\n")
        write_document(pipeline.resolved, file)
    return changed


def write_versions(run: RunDir, pipeline: Pipeline, catalog: Catalog) -> None:
    """Write the versions of Python, lrf, the plugins that the pipeline uses, and the libraries below them."""
    values = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "lrf": lrf_version(),
        "plugins": {f"{b.kind} {b.type}": str(catalog.package_of(b.spec)) for b in _blocks(pipeline)},
        "libraries": installed_versions(LIBRARIES),
        "seed": pipeline.seed,
        "folder": str(pipeline.folder),
    }
    write_json(run.versions, values)


def lrf_version() -> str | None:
    """The version of the installed lrf; None where it isn't installed."""
    return installed_versions(("lrf",)).get("lrf")


def installed_versions(names: tuple[str, ...]) -> dict[str, str]:
    """The versions of those distributions that are installed."""
    return {name: version for name in names if (version := _version(name)) is not None}


@cache  # it parses all that the distribution says of itself, its README included
def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _blocks(pipeline: Pipeline) -> list[ComponentBlock]:
    maps = (pipeline.judges, pipeline.embedders, pipeline.retrievers)
    places = (pipeline.launcher, pipeline.executor)
    singles = (pipeline.data, pipeline.sample, pipeline.aggregator, pipeline.pairs, pipeline.train, *places)
    return [b for m in maps for b in m.values()] + [b for b in (*pipeline.dimensions, *singles) if b is not None]
