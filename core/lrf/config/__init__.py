"""The pipeline file: parsed and checked into a :class:`Pipeline`."""

from lrf.config.diff import changes
from lrf.config.json_schema import pipeline_schema
from lrf.config.model import BadRowRule, BudgetSettings, ComponentBlock, Pipeline, Policy
from lrf.config.parser import load_pipeline, parse_pipeline

__all__ = [
    "BadRowRule",
    "BudgetSettings",
    "ComponentBlock",
    "Pipeline",
    "Policy",
    "changes",
    "load_pipeline",
    "parse_pipeline",
    "pipeline_schema",
]
