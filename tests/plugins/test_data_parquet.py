from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lrf.errors import DataError
from lrf.testing import check_source
from lrf.types import BadRow, Candidate, Sample
from lrf_data.parquet import ParquetSource
from lrf_data.settings import ParquetSettings

ROW: dict[str, Any] = {
    "id": 7,
    "context": [{"title": "T", "text": "It rained."}, {"title": None, "text": "第一节"}],
    "query": "Did it rain?",
    "candidates": [
        {"id": "a", "text": "Yes.", "source": "m", "metadata": {"n": 1}},
        {"id": "b", "text": "", "source": None, "metadata": None},
    ],
}


def written(path: Path, rows: list[dict[str, Any]], schema: pa.Schema | None = None) -> Path:
    pq.write_table(pa.Table.from_pylist(rows, schema), path)
    return path


def read(path: Any, **settings: Any) -> list[Sample | BadRow]:
    return list(ParquetSource(ParquetSettings(path=path, **settings)).read())


def test_nested_columns_are_objects_and_lists(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", [ROW])
    check_source(ParquetSource(ParquetSettings(path=path)))
    (sample,) = read(path)
    assert isinstance(sample, Sample)
    assert sample.id == "7"
    assert sample.context == "T\nIt rained.\n\n第一节"
    assert sample.candidates == (Candidate("a", "Yes.", "m", {"n": 1}), Candidate("b", "", None, {}))


@pytest.mark.parametrize("batch_rows", [1, 2, 100])
def test_rows_are_the_same_however_they_are_batched(tmp_path: Path, batch_rows: int) -> None:
    path = written(tmp_path / "a.parquet", [{**ROW, "id": n} for n in range(5)])
    assert [s.id for s in read(path, batch_rows=batch_rows) if isinstance(s, Sample)] == ["0", "1", "2", "3", "4"]


def test_columns_say_which_column_is_which_field_and_others_are_left_unread(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", [{"question": "Why?", "passage": "a", "year": 1997}])
    (sample,) = read(path, columns={"query": "question", "context": "passage", "reference": "passage"})
    assert isinstance(sample, Sample)
    assert (sample.query, sample.context, sample.reference) == ("Why?", "a", "a")


def test_without_columns_an_unknown_column_makes_bad_rows(tmp_path: Path) -> None:
    (bad,) = read(written(tmp_path / "a.parquet", [{"question": "Why?", "context": "a"}]))
    assert isinstance(bad, BadRow)
    assert "did you mean query?" in bad.message


def test_a_column_that_is_not_there_is_an_error_with_those_that_are(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", [{"question": "Why?"}])
    with pytest.raises(DataError, match=r"no column 'quest' for query; columns: question"):
        read(path, columns={"query": "quest"})


def test_columns_for_no_field_are_refused() -> None:
    with pytest.raises(ValueError, match="'quary' is no field of a row; allowed: id, context, query"):
        ParquetSettings(path=Path("a"), columns={"quary": "a"})


def test_values_that_are_no_json_make_a_bad_row(tmp_path: Path) -> None:
    rows = [{**ROW, "metadata": {"when": datetime(1997, 1, 1)}}]
    (bad,) = read(written(tmp_path / "a.parquet", rows))
    assert bad == BadRow(str(tmp_path / "a.parquet"), 1, "metadata.when: a value of type datetime is not a JSON value")


def test_text_that_is_not_utf8_makes_a_bad_row_and_the_others_are_read(tmp_path: Path) -> None:
    broken = pa.array([b"It rained.", b"caf\xe9"]).cast(pa.binary()).view(pa.string())
    table = pa.table({"context": broken, "query": ["a", "b"]})
    pq.write_table(table, tmp_path / "a.parquet")
    good, bad = read(tmp_path / "a.parquet")
    assert isinstance(good, Sample)
    assert isinstance(bad, BadRow)
    assert bad.line == 2
    assert "utf-8" in bad.message


def test_a_file_that_is_not_parquet_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("{}")
    with pytest.raises(DataError, match=r"a\.parquet: can't be read as Parquet"):
        read(tmp_path / "a.parquet")


def test_a_row_group_that_would_fill_the_memory_is_refused_by_name_and_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lrf_data.parquet.LARGEST_GROUP", 100)
    path = tmp_path / "bomb.parquet"
    pq.write_table(pa.table({"query": ["x" * 5000], "context": ["y"]}), path)
    with pytest.raises(DataError, match=r"bomb\.parquet: row group 0 takes [\d,]+ bytes unpacked; 100 are the most"):
        list(ParquetSource(ParquetSettings(path=path)).read())
