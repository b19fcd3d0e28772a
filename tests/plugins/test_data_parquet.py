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


def repeated(text: str, rows: int, values: int) -> pa.Table:
    """Rows of a list of documents, which are all the same text; on the disk it is stored once."""
    total = rows * values
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * total, pa.int32()), pa.array([text]))
    documents = pa.StructArray.from_arrays([texts, pa.array([str(n) for n in range(total)])], ["text", "id"])
    lists = pa.ListArray.from_arrays(pa.array(range(0, total + 1, values), pa.int32()), documents)
    return pa.table({"context": lists, "query": ["Did it rain?"] * rows})


def written_as_it_is(path: Path, table: pa.Table, **options: Any) -> Path:
    pq.write_table(table, path, compression="zstd", dictionary_pagesize_limit=1 << 30, **options)
    return path


def test_a_row_group_that_would_fill_the_memory_is_refused_by_name_and_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lrf.rows.parquet_sizes.LARGEST_GROUP", 100)
    path = written(tmp_path / "bomb.parquet", [{"query": "x" * 5000, "context": "y"}])
    with pytest.raises(DataError, match=r"bomb\.parquet: row group 0 takes [\d,]+ bytes unpacked; 100 are the most"):
        read(path)


def test_a_row_whose_dictionary_unpacks_to_gigabytes_is_a_bad_row_and_is_never_unpacked(tmp_path: Path) -> None:
    path = written_as_it_is(tmp_path / "bomb.parquet", repeated("It rained. " * 400_000, rows=2, values=1000))
    assert path.stat().st_size < 20_000
    before = pa.default_memory_pool().max_memory()
    for row in read(path):
        assert isinstance(row, BadRow)
        assert "bytes unpacked; 268,435,456 are the most that are read of a row" in row.message
    assert pa.default_memory_pool().max_memory() - before < 1 << 28


def test_rows_that_share_a_large_text_are_read_in_bounds_and_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written_as_it_is(tmp_path / "shared.parquet", repeated("It rained. " * 1000, rows=20, values=3))
    usual = read(path)
    assert all(isinstance(row, Sample) for row in usual)
    monkeypatch.setattr("lrf.rows.parquet_sizes.ALWAYS_FINE", 0)  # all columns are read as references
    assert read(path) == usual


def test_texts_that_are_stored_as_what_differs_from_the_one_before_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pa.table({"context": ["It rained. " * 10_000] * 50, "query": ["q"] * 50})
    how = {"use_dictionary": False, "column_encoding": {"context": "DELTA_BYTE_ARRAY"}}
    path = written_as_it_is(tmp_path / "delta.parquet", table, **how)
    assert len(read(path)) == 50
    monkeypatch.setattr("lrf.rows.parquet_sizes.ALWAYS_FINE", 1 << 10)
    monkeypatch.setattr("lrf.rows.parquet_sizes.LARGEST_GROUP", 1 << 20)
    with pytest.raises(
        DataError, match=r"column context \(DELTA_BYTE_ARRAY\) may take [\d,]+ bytes unpacked; 1,048,576"
    ):
        read(path)
