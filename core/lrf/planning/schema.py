"""Values for JSON schemas, for replies that are made up."""

from __future__ import annotations

from collections.abc import Mapping

from lrf.types import JSON


def instance(schema: Mapping[str, JSON]) -> JSON:
    """A value that satisfies a schema of the kinds that expectations use."""
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("type") == "object":
        return {name: instance(part) for name, part in schema.get("properties", {}).items()}
    return {"string": "Analysis.", "array": []}.get(schema.get("type", ""), schema.get("minimum", 0))
