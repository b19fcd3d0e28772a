"""The JSON Schema of the pipeline file allows what lrf allows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from lrf.config import pipeline_schema
from lrf.config.problems import Problems
from lrf.config.yaml_document import read_document
from lrf.plugin.catalog import Catalog, load_catalog

PIPELINES = Path(__file__).parents[2] / "pipelines"


def values(text: str) -> Any:
    return read_document(text.replace("$", "$$"), Problems(None), {}).values


def validator(catalog: Catalog) -> Draft202012Validator:
    schema = pipeline_schema(catalog)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def test_the_pipelines_of_the_tests_are_valid() -> None:
    checks = validator(load_catalog())
    files = sorted(PIPELINES.glob("*.yaml"))
    assert files
    for file in files:
        assert (file.name, list(checks.iter_errors(values(file.read_text(encoding="utf-8"))))) == (file.name, [])


def test_every_installed_component_is_in_the_schema() -> None:
    catalog = load_catalog()
    definitions = pipeline_schema(catalog)["$defs"]
    for r in (r for r in catalog.registrations if r.kind != "benchmark"):  # which no pipeline has
        assert definitions[f"{r.kind}.{r.spec.name}"]["properties"]["type"]["const"] == r.spec.name


def test_every_setting_of_the_built_ins_is_described() -> None:
    definitions = pipeline_schema(load_catalog())["$defs"]
    bare = [
        f"{name}.{key}"
        for name, schema in definitions.items()
        for key, value in schema.get("properties", {}).items()
        if "description" not in value and "$ref" not in value
    ]
    assert [b for b in bare if b.split(".")[0] in ("source", "judge", "embedder", "retriever", "dimension")] == []


RIGHT = [
    "name: x",
    "{name: x, judges: {main: coin}}",
    "{name: x, judges: {main: {type: oracle, model: m, temperature: '${HEAT}', limits: {calls: 3}}}}",
    "{name: x, dimensions: [charm, {type: truth, name: t, judge: a, retriever: b, size: 2}]}",
    "{name: x, data: {type: rows, path: p, on_bad_row: skip}, pairs: null, train: drill}",
    "{name: x, budget: {calls: 3}, python: {train: python3}, policy: {model: m}, seed: 3, max_unscored: 0.1}",
]
WRONG = [
    "{}",
    "{name: x, retreivers: {}}",
    "{name: x, judges: {main: orakle}}",
    "{name: x, judges: {main: {type: orakle}}}",
    "{name: x, judges: {main: {model: m}}}",
    "{name: x, judges: {main: {type: oracle, model: m, temprature: 1}}}",
    "{name: x, judges: {main: {type: oracle, model: m, temperature: 3}}}",
    "{name: x, judges: {main: {type: oracle, model: m, limits: {calls: 99}}}}",
    "{name: x, judges: {main: {type: coin, model: m}}}",
    "{name: x, dimensions: charm}",
    "{name: x, dimensions: [{type: length, judge: a}]}",
    "{name: x, data: {type: rows, path: p, on_bad_row: stopp}}",
    "{name: x, budget: {calls: 0}}",
]


def test_right_pipelines_are_valid_and_wrong_ones_are_not(toys: Catalog) -> None:
    checks = validator(toys)
    assert [(text, errors) for text in RIGHT if (errors := list(checks.iter_errors(values(text))))] == []
    assert [text for text in WRONG if checks.is_valid(values(text))] == []


def test_the_summary_of_each_type_is_there_for_the_editor(toys: Catalog) -> None:
    types = pipeline_schema(toys)["$defs"]["judge"]["then"]["oneOf"]
    assert {"const": "oracle", "description": "The toy oracle."} in types


def test_a_component_whose_settings_cannot_be_imported_is_allowed_with_any_settings(toys: Catalog, distribute) -> None:
    from lrf.plugin.loader import load_plugins

    plugin = """
        from lrf.plugin.hookspecs import hookimpl
        from lrf.plugin.spec import ComponentSpec

        @hookimpl
        def lrf_register_judges():
            return [ComponentSpec("big", "big_parts:J", "big_parts:S", "Big.")]
    """
    distribute(
        "big", entry_points={"big": "big_plugin"}, modules={"big_plugin": plugin, "big_parts": "import no_gpu_here"}
    )
    catalog = Catalog(load_plugins({"LRF_DISABLE_PLUGINS": ",".join(toys.disabled)}))
    assert validator(catalog).is_valid({"name": "x", "judges": {"main": {"type": "big", "anything": 1}}})
