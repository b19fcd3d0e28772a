"""One component's block on its own, for the library."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lrf.config.model import Block, DimensionKeys
from lrf.config.parser import PipelineParser
from lrf.config.problems import Problems
from lrf.config.yaml_document import read_document
from lrf.plugin.catalog import Catalog


def parse_block(
    kind: str,
    value: Mapping[str, Any] | str,
    catalog: Catalog,
    *,
    folder: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Block:
    """A block as it would stand in a pipeline (a bare string is its type), with nothing said of who it works with.

    Raises :class:`lrf.errors.ConfigError` with every mistake in it.
    """
    problems = Problems(None)
    document = read_document({kind: value}, problems, environ)
    reading = PipelineParser(document, problems, catalog, (folder or Path.cwd()).absolute(), None, environ)
    draft = reading.draft(kind, "", document.values.get(kind) if isinstance(document.values, dict) else None, (kind,))
    problems.raise_any()
    assert draft.spec is not None and draft.settings is not None  # noqa: PT018
    own = draft.reserved.name if isinstance(draft.reserved, DimensionKeys) else None
    return Block(kind, own or draft.type, draft.type, draft.spec, draft.settings, {}, draft.reserved)
