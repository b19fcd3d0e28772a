"""JSON Schema of the pipeline file, for editors, with the components that are installed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.errors import PydanticInvalidForJsonSchema

from lrf.config.model import RESERVED, GlobalSettings, reserved_keys
from lrf.errors import PluginError
from lrf.plugin.catalog import Catalog, load_settings
from lrf.plugin.spec import ComponentSpec

Schema = dict[str, Any]

_VARIABLE: Schema = {"type": "string", "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*\}"}
_PLACES: Mapping[str, tuple[str, str, str]] = {
    "source": ("data", "one", "Where samples come from."),
    "sampler": ("sample", "one", "What writes candidates, up to `n` a sample; left out, the data has them."),
    "judge": ("judges", "map", "The LLMs that judge, by name."),
    "embedder": ("embedders", "map", "What makes vectors of texts, by name."),
    "retriever": ("retrievers", "map", "What finds the pieces of a document that bear on a text, by name."),
    "dimension": ("dimensions", "list", "The aspects of an answer that are rated, each 0 to 10."),
    "aggregator": ("aggregator", "one", "What makes one reward of the ratings; mean, if left out."),
    "pairing": ("pairs", "one", "How a preference pair is chosen of a sample's candidates."),
    "trainer": ("train", "one", "How the policy is trained on the pairs."),
    "launcher": ("launcher", "one", "How the trainer's processes are started; in one process here, if left out."),
    "observer": ("observers", "list", "What follows runs: traces and experiment trackers."),
    "executor": ("executor", "one", "Where judges, embedders and the sampler work; here, if left out."),
}


def pipeline_schema(catalog: Catalog) -> Schema:
    """JSON Schema (draft 2020-12) of a pipeline file, with the settings of every component of the catalog.

    A component whose settings can't be imported here is allowed, with any settings.
    """
    definitions: Schema = {}
    properties: Schema = {}
    for kind, (key, place, description) in _PLACES.items():
        definitions[kind] = _component(kind, catalog, definitions)
        reference = {"$ref": f"#/$defs/{kind}"}
        shapes: dict[str, Schema] = {
            "one": {"anyOf": [reference, {"type": "null"}]},
            "map": {"type": ["object", "null"], "additionalProperties": reference},
            "list": {"type": ["array", "null"], "items": reference},
        }
        properties[key] = {**shapes[place], "description": description}
    head = _model(GlobalSettings, "pipeline", definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "lrf pipeline",
        "type": "object",
        "properties": {**head["properties"], **properties},
        "required": head["required"],
        "additionalProperties": False,
        "$defs": dict(sorted(definitions.items())),
    }


def _component(kind: str, catalog: Catalog, definitions: Schema) -> Schema:
    """A block of this kind: a bare type, or a type with its settings."""
    specs = catalog.specs(kind)
    types: Schema = {
        "description": f"The {kind}.",
        "oneOf": [{"const": s.name, "description": s.summary} for s in specs],
    }
    if not specs:
        types = {"type": "string", "description": f"The {kind}; none is installed."}
    rules = []
    for spec in specs:
        settings = _settings(kind, spec, definitions)
        if settings is not None:
            definitions[f"{kind}.{spec.name}"] = settings
            chosen = {"properties": {"type": {"const": spec.name}}, "required": ["type"]}
            rules.append({"if": chosen, "then": {"$ref": f"#/$defs/{kind}.{spec.name}"}})
    block: Schema = {"type": "object", "properties": {"type": types}, "required": ["type"]}
    if rules:
        block["allOf"] = rules
    return {"if": {"type": "string"}, "then": types, "else": block}


def _settings(kind: str, spec: ComponentSpec, definitions: Schema) -> Schema | None:
    try:
        settings = _model(load_settings(spec), f"{kind}.{spec.name}", definitions)
    except (PluginError, PydanticInvalidForJsonSchema):
        return None
    own: Schema = {"type": {"const": spec.name, "description": spec.summary}}
    if kind in RESERVED:
        all_keys = _model(RESERVED[kind], f"{kind}.keys", definitions)["properties"]
        own |= {key: all_keys[key] for key in reserved_keys(kind, spec)}
    for need in spec.needs:
        text = f"Name of the {need} it works with: `main` or the only one, if left out."
        own[need] = {"type": ["string", "null"], "description": text}
    return {**settings, "properties": {**settings.get("properties", {}), **own}}


def _model(model: type[BaseModel], prefix: str, definitions: Schema) -> Schema:
    """The schema of a model; the models inside it go to ``definitions``, under names that begin with ``prefix``."""
    schema = model.model_json_schema(ref_template=f"#/$defs/{prefix}.{{model}}")
    for name, inner in schema.pop("$defs", {}).items():
        definitions[f"{prefix}.{name}"] = _with_variables(inner)
    result: Schema = _with_variables(schema)
    return result


def _with_variables(schema: Any) -> Any:
    """The schema, where a ``${NAME}`` may stand in place of every number and truth value."""
    if isinstance(schema, list):
        return [_with_variables(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") in ("integer", "number", "boolean"):
        about = {k: v for k, v in schema.items() if k in ("title", "description", "default")}
        return {**about, "anyOf": [{k: v for k, v in schema.items() if k not in about}, _VARIABLE]}
    return {key: value if key == "default" else _with_variables(value) for key, value in schema.items()}
