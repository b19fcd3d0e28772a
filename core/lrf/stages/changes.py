"""What differs in a pipeline from the one that the run was last made with."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import yaml

from lrf.config.diff import changes

if TYPE_CHECKING:
    from lrf.config import Pipeline
    from lrf.stages.run_dir import RunDir


def changed_settings(run: RunDir, pipeline: Pipeline) -> list[str]:
    """A line for each setting that differs from the run's ``pipeline.yaml``; empty where there is no readable one."""
    if not run.pipeline.exists():
        return []
    try:  # the file may have been edited into something that is no pipeline
        before = json.loads(json.dumps(yaml.safe_load(run.pipeline.read_text(encoding="utf-8"))))
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError):
        return []
    return changes(before, pipeline.resolved) if isinstance(before, dict) else []
