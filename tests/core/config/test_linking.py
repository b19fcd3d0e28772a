"""A dimension's block names its judges, and says how often and in which form they are asked."""

from __future__ import annotations

import json

import jsonschema
import pytest

from lrf.config import parse_pipeline, pipeline_schema
from lrf.errors import ConfigError
from lrf.plugin.catalog import Catalog

JUDGES = "judges: {a: coin, b: {type: coin, size: 4}, c: {type: coin, size: 5}}"


def pipeline(toys: Catalog, dimension: str):  # type: ignore[no-untyped-def]
    return parse_pipeline(f"name: x\n{JUDGES}\ndimensions:\n  - {dimension}\n", toys)


def test_a_dimension_is_asked_once_in_the_best_way_unless_it_says_otherwise(toys: Catalog) -> None:
    [block] = pipeline(toys, "{type: charm, judge: a}").dimensions
    assert (block.keys.rating, block.keys.repeat, block.judges) == ("auto", 1, ("a",))


def test_a_panel_needs_no_judge_of_its_own_and_the_first_is_it(toys: Catalog) -> None:
    text = "{type: charm, judges: [b, a, c], panel: median, panel_min: 2, repeat: 3, rating: text}"
    made = pipeline(toys, text)
    [block] = made.dimensions
    assert block.judges == ("b", "a", "c")
    assert block.needs == {"judge": "b"}
    keys = block.keys
    assert (keys.panel, keys.panel_min, keys.repeat, keys.rating) == ("median", 2, 3, "text")
    again = parse_pipeline(json.dumps(made.resolved), toys)
    assert again.resolved == made.resolved
    assert again.dimensions == made.dimensions


@pytest.mark.parametrize(
    ("dimension", "message"),
    [
        ("{type: charm, judges: [a, d]}", "dimensions[0].judges: no judge is named 'd'; judges: a, b, c"),
        ("{type: charm, judges: [a, a]}", "dimensions[0].judges: the same judge is given twice; `repeat`"),
        ("{type: charm, judge: a, judges: [b]}", "dimensions[0].judges: give either `judge` or `judges`"),
        ("{type: charm, judges: []}", "dimensions[0].judges: "),
        ("{type: charm, judges: [a, b], panel_min: 3}", "dimensions[0].panel_min: 3 judges can't answer of 2"),
        ("{type: charm, judge: a, panel_min: 1}", "dimensions[0].panel_min: needs `judges`"),
        ("{type: charm, judge: a, panel: median}", "dimensions[0].panel: needs `judges`"),
        ("{type: charm, judge: a, panel: mode}", "dimensions[0].panel: "),
        ("{type: charm, judge: a, repeat: 0}", "dimensions[0].repeat: "),
        ("{type: charm, judges: [a, b], panel: cascade, sure: 1.4}", "dimensions[0].sure: "),
        ("{type: charm, judge: a, rating: guess}", "dimensions[0].rating: "),
        ("{type: length, repeat: 2}", "dimensions[0].repeat: unknown key; allowed: type, name, size"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(toys: Catalog, dimension: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        pipeline(toys, dimension)
    [line] = str(caught.value).splitlines()  # and nothing that follows from it
    assert line.startswith(f"4: {message}")


@pytest.mark.parametrize(
    ("dimension", "valid"),
    [
        ({"type": "charm", "judges": ["a", "b"], "panel": "median", "repeat": 2, "rating": "json"}, True),
        ({"type": "charm", "rating": "guess"}, False),
        ({"type": "charm", "repeat": 0}, False),
        ({"type": "length", "repeat": 2}, False),
    ],
)
def test_the_schema_for_editors_knows_the_keys(toys: Catalog, dimension: object, valid: bool) -> None:
    validator = jsonschema.Draft202012Validator(pipeline_schema(toys))
    assert validator.is_valid({"name": "x", "dimensions": [dimension]}) is valid


def test_a_cache_is_a_path_that_starts_at_the_pipelines_folder(toys: Catalog, tmp_path) -> None:  # type: ignore[no-untyped-def]
    assert parse_pipeline("name: x\ncache: c.sqlite", toys, folder=tmp_path).cache == tmp_path / "c.sqlite"
    assert parse_pipeline("name: x", toys).cache is None
