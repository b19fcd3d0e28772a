"""From text to values: YAML, its limits, and variables."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lrf.config import load_pipeline, parse_pipeline
from lrf.config.problems import Problems, dotted
from lrf.config.yaml_document import YamlDocument, read_document, write_document
from lrf.errors import ConfigError
from lrf.plugin.catalog import Catalog


def read(source: Mapping[str, Any] | str, environ: Mapping[str, str] | None = None) -> YamlDocument:
    problems = Problems("p.yaml")
    document = read_document(source, problems, environ or {})
    problems.raise_any()
    return document


def message(source: Mapping[str, Any] | str, environ: Mapping[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as error:
        read(source, environ)
    return str(error.value)


def test_scalars_are_those_of_yaml_1_2() -> None:
    text = "{a: 1e-6, b: no, c: 1:30, d: 0x1f, e: 0o17, f: 007, g: .5, h: ~, i: , j: true, k: '1', l: 2024-01-01}"
    assert read(text).values == {
        "a": 1e-6,
        "b": "no",
        "c": "1:30",
        "d": 31,
        "e": 15,
        "f": 7,
        "g": 0.5,
        "h": None,
        "i": None,
        "j": True,
        "k": "1",
        "l": "2024-01-01",
    }
    assert repr(read("{a: .inf, b: -.Inf, c: .nan}").values) == "{'a': inf, 'b': -inf, 'c': nan}"


@settings(max_examples=50)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63) + 1, 2**63 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
        | st.from_regex(r"[-+.0-9eoxnuly~]{1,5}", fullmatch=True),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.from_regex("[a-z]{1,4}", fullmatch=True), inner),
        max_leaves=12,
    )
)
def test_what_is_written_is_read_back_whatever_it_looks_like(value: Any) -> None:
    written = io.StringIO()
    write_document(value, written)
    assert read(written.getvalue().replace("$", "$$")).values == value
    assert repr(yaml.safe_load(written.getvalue())) == repr(value)


@pytest.mark.parametrize("text", ["9" * 5000, "0x" + "f" * 5000, "-9223372036854775809"])
def test_a_number_of_more_than_64_bits_is_reported_with_its_line(text: str) -> None:
    assert message(f"a: 1\nb: {text}\n").startswith("p.yaml:2: b: ")
    assert message(f"a: 1\nb: {text}\n").count("\n") == 0


@pytest.mark.parametrize("text", ['"a\\0b"', '"\\ud800"', '{"\\0": 1}'])
def test_what_no_file_can_hold_is_reported(text: str) -> None:
    assert "can't be stored in a file; remove it" in message(f"a: {text}\n")


def test_a_key_given_twice_is_reported_with_both_lines() -> None:
    assert message("a: 1\nb: 2\na: 3\n") == "p.yaml:3: a: this key is given twice, first on line 1; keep one"


@pytest.mark.parametrize(
    "text",
    ["a: !!python/object/apply:os.system ['true']", "a: !!python/name:os.system", "a: !custom 1", "!!set {a, b}"],
)
def test_tags_are_refused_and_never_obeyed(text: str) -> None:
    assert "is not allowed; write plain values" in message(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1\nb: 2", "not valid YAML"),
        ("a: 1\n---\nb: 2", "not valid YAML"),
        ("a: 1\nb: [${X}]", "p.yaml:2: not valid YAML: while parsing a flow sequence; expected"),
        ("a: 1\nb: [${X}]", "between [ ] or { }, put ${NAME} in quotes"),
        ("a: \x07", "not valid YAML"),
        ("a: *nowhere", "p.yaml:1: not valid YAML: found undefined alias"),
        ("a: !!int x", "'x' can't be read as !!int"),
        ("a: " + "9" * 5000, "can't be read as !!int"),
        ("1: x", "the key 1 is not text; put it in quotes"),
        ("? [a, b]\n: x", "the key of several parts is not text"),
        ("a: &x {b: 1}\nc:\n  <<: *x", "p.yaml:3: c.<<: merge keys (<<) are not supported"),
        ("a: " + "[" * 60 + "]" * 60, "nested too deeply"),
        ("[" * 50_000, "nested too deeply"),
        ("a: &a [*a]", "nested too deeply"),
        ("x" * 1_000_001, "the file is too large"),
    ],
)
def test_text_that_is_not_good_is_refused_with_the_reason(text: str, expected: str) -> None:
    assert expected in message(text)


def test_aliases_may_be_used_but_not_to_grow_without_end() -> None:
    assert read("a: &a [1, 2]\nb: *a").values == {"a": [1, 2], "b": [1, 2]}
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10))
    assert "too many values" in message(bomb)


def test_variables_are_replaced_after_parsing_and_in_values_only() -> None:
    environ = {"X": "a: [b]\nc: d", "N": "3"}
    document = read('a: ${X}\nb:\n- pre-${N}-post\n- "${N}${N}"\nc: $$5 $${X} $6\nd: $$${N}', environ)
    assert document.values == {"a": "a: [b]\nc: d", "b": ["pre-3-post", "33"], "c": "$5 ${X} $6", "d": "$3"}
    assert document.as_written == {
        ("a",): "${X}",
        ("b", 0): "pre-${N}-post",
        ("b", 1): "${N}${N}",
        ("c",): "$$5 $${X} $6",
        ("d",): "$$${N}",
    }
    assert read("${N}: 1", environ).values == {"${N}": 1}


def test_what_a_variable_brings_is_not_searched_for_variables() -> None:
    assert read("a: ${X}", {"X": "${Y} $$"}).values == {"a": "${Y} $$"}


def test_a_missing_or_broken_variable_is_an_error_with_its_line() -> None:
    text = "a: 1\nb: ${NOPE}\nc:\n  - ${not-a-name}\n"
    lines = message(text).splitlines()
    assert lines[0].startswith("p.yaml:2: b: the environment has no variable NOPE")
    assert lines[1].startswith("p.yaml:4: c[0]: a variable is written ${NAME}")


def test_a_mapping_is_read_as_a_file_would_be() -> None:
    document = read({"a": ("${N}", 2), "b": {"c": None}}, {"N": "3"})
    assert document.values == {"a": ["3", 2], "b": {"c": None}}
    assert "the key 1 is not text" in message({"a": {1: 2}})


def test_paths_are_written_with_dots_and_list_positions() -> None:
    assert dotted(("dimensions", 2, "name")) == "dimensions[2].name"


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, toys) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_pipeline(tmp_path / "none.yaml", toys)
    with pytest.raises(ConfigError, match="can't be read: Is a directory"):
        load_pipeline(tmp_path, toys)
    (tmp_path / "latin.yaml").write_bytes("name: é".encode("latin-1"))
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_pipeline(tmp_path / "latin.yaml", toys)
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    with pytest.raises(ConfigError, match="expected a pipeline"):
        load_pipeline(tmp_path / "empty.yaml", toys)


def test_a_file_that_is_too_large_is_said_to_be_so_whatever_its_characters(tmp_path: Path, toys: Catalog) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text("#" + "法" * 1_400_000, encoding="utf-8")
    with pytest.raises(ConfigError, match="the file is too large"):
        load_pipeline(file, toys)


@pytest.mark.parametrize("path", ["p" * 5000, "a\0b", "\ud800", "missing.yaml", "."])
def test_a_path_without_prices_is_a_mistake_of_the_pipeline(tmp_path: Path, toys: Catalog, path: str) -> None:
    with pytest.raises(ConfigError, match="prices"):
        parse_pipeline({"name": "n", "prices": path}, toys, folder=tmp_path)
