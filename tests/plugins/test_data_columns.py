"""Columns of users' own data become the fields of a row, the same for every source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lrf
from lrf_data.columns import columns_of, mapped
from lrf_data.huggingface import HuggingFaceSource
from lrf_data.jsonl import JsonlSource
from lrf_data.parquet import ParquetSource
from lrf_data.settings import HuggingFaceSettings, JsonlSettings, ParquetSettings

ROWS = [
    {
        "nr": 1,
        "title": "Tram",
        "body": "It closed.",
        "ask": "What closed?",
        "a": "The tram.",
        "more": ["A line.", "No."],
    },
    {"nr": 2, "title": None, "body": "<<ask>> rain", "ask": "Rain?", "a": None, "more": ["Yes."]},
]
COLUMNS: dict[str, Any] = {
    "id": "no <<nr>>",
    "context": "<<title>>: <<body>>",
    "query": "ask",
    "candidates": ["a", "more"],
}


def read(folder: Path, kind: str, columns: dict[str, Any]) -> list[lrf.Sample | lrf.BadRow]:
    if kind == "jsonl":
        path = folder / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        source = JsonlSource(JsonlSettings(path=path, columns=columns))
        spread = source.spread(2)
        assert spread is not None
        assert all(sample in source.read() for sample in spread)
        return list(source.read())
    if kind == "parquet":
        path = folder / "rows.parquet"
        pq.write_table(pa.Table.from_pylist(ROWS), path)
        return list(ParquetSource(ParquetSettings(path=path, columns=columns)).read())
    datasets.Dataset.from_list(ROWS).save_to_disk(str(folder / "rows"))
    return list(HuggingFaceSource(HuggingFaceSettings(path=str(folder / "rows"), columns=columns)).read())


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "huggingface"])
def test_columns_templates_and_lists_make_the_same_samples_of_every_source(tmp_path: Path, kind: str) -> None:
    first, second = read(tmp_path, kind, COLUMNS)
    assert isinstance(first, lrf.Sample)
    assert isinstance(second, lrf.Sample)
    assert (first.id, first.context, first.query) == ("no 1", "Tram: It closed.", "What closed?")
    assert [c.text for c in first.candidates] == ["The tram.", "A line.", "No."]
    assert second.context == ": <<ask>> rain"  # a value is never read as a template
    assert [c.text for c in second.candidates] == ["Yes."]


@pytest.mark.parametrize("made", ["boddy", "<<title>> <<boddy>>", ["title", "boddy"]])
@pytest.mark.parametrize("kind", ["jsonl", "parquet", "huggingface"])
def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path: Path, kind: str, made: Any) -> None:
    said = "no column 'boddy' for context; columns: "
    columns = {**COLUMNS, "context": made}
    if kind != "jsonl":
        with pytest.raises(lrf.DataError, match=said):
            read(tmp_path, kind, columns)
        return
    bad = read(tmp_path, kind, columns)
    assert [type(row) for row in bad] == [lrf.BadRow] * 2
    assert isinstance(bad[0], lrf.BadRow)
    assert bad[0].line == 1
    assert said + "nr, title, body" in bad[0].message


NAMES = st.text(st.characters(exclude_characters="<>", exclude_categories=["Cs"]), min_size=1, max_size=5)


@given(record=st.dictionaries(NAMES, st.text(max_size=9), min_size=1), data=st.data())
def test_a_template_is_filled_in_one_pass(record: dict[str, str], data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from(sorted(record)), min_size=1))
    template = " | ".join(f"<<{name}>>" for name in names)
    assert mapped({"query": template}, record) == {"query": " | ".join(record[name] for name in names)}
    assert columns_of({"query": template}) == dict.fromkeys(names, "query")
