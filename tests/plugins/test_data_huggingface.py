from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zipfile
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lrf.errors import DataError
from lrf.testing import check_source
from lrf.types import BadRow, Sample
from lrf_data.huggingface import HuggingFaceSource
from lrf_data.settings import HuggingFaceSettings

ROWS = [{"question": f"question {n}", "passage": f"passage {n}", "year": 1990 + n} for n in range(3)]
COLUMNS = {"query": "question", "context": "passage"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "qa"
    folder.mkdir()
    (folder / "train.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS))
    (folder / "test.jsonl").write_text(json.dumps(ROWS[0]))
    return folder


def source(path: Path | str, **settings: Any) -> HuggingFaceSource:
    return HuggingFaceSource(HuggingFaceSettings(path=str(path), **settings))


def test_a_local_folder_is_read_by_its_columns(folder: Path) -> None:
    made = source(folder, columns=COLUMNS)
    check_source(made)
    read = list(made.read())
    assert [(s.id, s.query, s.context) for s in read if isinstance(s, Sample)] == [
        (str(n), f"question {n}", f"passage {n}") for n in range(3)
    ]


def test_a_split_is_chosen_by_name(folder: Path) -> None:
    assert len(list(source(folder, columns=COLUMNS, split="test").read())) == 1


def test_without_columns_unknown_ones_make_bad_rows(folder: Path) -> None:
    rows = list(source(folder).read())
    assert len(rows) == 3
    assert all(isinstance(r, BadRow) and "did you mean query?" in r.message for r in rows)
    assert [r.line for r in rows if isinstance(r, BadRow)] == [1, 2, 3]


@pytest.mark.parametrize("whole", [True, False])
def test_folders_of_save_to_disk_are_read(tmp_path: Path, whole: bool) -> None:
    saved = datasets.Dataset.from_list(ROWS)
    (datasets.DatasetDict({"train": saved}) if whole else saved).save_to_disk(str(tmp_path / "saved"))
    rows = list(source(tmp_path / "saved", columns=COLUMNS).read())
    assert [s.query for s in rows if isinstance(s, Sample)] == ["question 0", "question 1", "question 2"]


def test_rows_of_a_local_folder_may_name_files_in_it(folder: Path) -> None:
    (folder / "train.jsonl").write_text('{"query": "Why?", "context": {"path": "a.txt"}}')
    (folder / "test.jsonl").unlink()
    (folder / "a.txt").write_text("It rained.")
    data_files = source(folder)
    (sample,) = data_files.read()
    assert isinstance(sample, Sample)
    assert sample.context == "It rained."


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "dev"}, "dev"),
        ({"columns": {"query": "quest"}}, "no column 'quest' for query; columns: question, passage, year"),
    ],
)
def test_what_the_dataset_lacks_is_named(folder: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(source(folder, **settings).read())


def test_a_missing_split_of_a_saved_folder_is_an_error_with_those_there_are(tmp_path: Path) -> None:
    datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)}).save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(DataError, match="no split 'dev'; splits: train"):
        list(source(tmp_path / "saved", split="dev").read())


def test_code_that_a_dataset_brings_is_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(DataError, match="can't be read as a dataset"):
        list(source(folder).read())
    assert not (tmp_path / "ran").exists()


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="can't be read as a dataset"):
        list(source(tmp_path / "gone").read())


def test_names_are_of_the_hub_unless_they_look_like_paths() -> None:
    def path(given: str) -> str:
        return HuggingFaceSettings.model_validate({"path": given}, context={"folder": "/pipelines"}).path

    assert path("someone/qa") == "someone/qa"
    assert Path(path("./qa")) == Path("/pipelines/qa")
    assert path("/qa") == "/qa"


def test_a_row_that_would_fill_the_memory_is_a_bad_row(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "train.jsonl").write_text(
        "\n".join(json.dumps({"question": "q", "passage": "x" * n, "year": 1}) for n in (10, 5000))
    )
    monkeypatch.setattr("lrf_data.huggingface.LONGEST_ROW", 4000)
    fits, too_large = source(folder, columns=COLUMNS).read()
    assert isinstance(fits, Sample)
    assert isinstance(too_large, BadRow)
    assert too_large.message == "takes 5,065 bytes unpacked; 268,435,456 are the most that are read of a row"


def test_parquet_is_read_row_by_row_so_that_a_row_that_would_fill_the_memory_is_a_bad_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text in the dictionary is stored once, and datasets would repeat it for all of a row group."""
    texts = pa.DictionaryArray.from_arrays(pa.array([0, 1, 1], pa.int32()), pa.array(["It rained.", "x" * 5000]))
    pq.write_table(pa.table({"query": ["q"] * 3, "context": texts}), tmp_path / "train.parquet")
    monkeypatch.setattr("lrf.rows.parquet_sizes.ALWAYS_FINE", 0)
    monkeypatch.setattr("lrf_data.parquet.LONGEST_ROW", 4000)
    fits, *too_large = source(tmp_path).read()
    assert isinstance(fits, Sample)
    assert fits.context == "It rained."
    assert [(row.line, row.message[:13]) for row in too_large if isinstance(row, BadRow)] == [
        (2, "takes 5,129 b"),
        (3, "takes 5,129 b"),
    ]


def zipped(members: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return made.getvalue()


LINE = json.dumps({"query": "q", "context": "c"}).encode() + b"\n"
LONG = json.dumps({"query": "q", "context": "x" * 300_000}).encode()
ENCRYPTED = zipped({"a.jsonl": LINE}).replace(b"\x14\x00\x00\x00", b"\x14\x00\x01\x00")


def arrow(opened: Any, column: str = "plain") -> bytes:
    """An Arrow file of a batch that is far smaller on the disk than in memory."""
    texts = pa.array(["It rained. " * 100_000])
    table = pa.table({"context": texts.dictionary_encode() if column == "dictionary" else texts})
    made = io.BytesIO()
    with opened(made, table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_table(table)
    return made.getvalue()


ARRAY = b"[" + b",\n".join([LINE.strip()] * 20_000) + b"]"


@pytest.mark.parametrize(
    ("name", "packed", "message"),
    [
        ("train.jsonl.gz", gzip.compress(LINE + LONG), r"train.jsonl.gz:2: the line is longer than"),
        ("train.jsonl.xz", lzma.compress(LONG), r"train.jsonl.xz:1: the line is longer than"),
        (
            "train.json.bz2",
            bz2.compress(ARRAY),
            r"takes more than 500,000 bytes unpacked, and isn't JSON Lines; unpack",
        ),
        ("train.data", gzip.compress(LONG), r"train.data:1: the line is"),  # named as nothing in particular
        ("train.zip", zipped({"a.jsonl": LINE, "b.jsonl": LONG}), r"train.zip: b.jsonl:1: the line is longer"),
        ("train.zip", zipped({"a.json": ARRAY}), r"train.zip: a.json: takes more than 500,000 bytes unpacked"),
        ("train.zip", zipped({"a.jsonl.gz": gzip.compress(LINE)}), r"a.jsonl.gz: packed within a packed file"),
        ("train.zip", zipped({"../../a.jsonl": LINE}), r"train.zip: ../../a.jsonl: leads out of the archive"),
        ("train.zip", zipped({"a.jsonl": LINE * 99})[:-30], r"train.zip: can't be unpacked: File is not a zip file"),
        ("train.zip", ENCRYPTED, "is encrypted"),
        ("train.jsonl.gz", gzip.compress(LINE * 99)[:-9], r"train.jsonl.gz: can't be unpacked: Compressed file ended"),
        (
            "train.jsonl.zst",
            b"\x28\xb5\x2f\xfdx",
            r"zstd, which takes the package zstandard; install it",
        ),
        ("train.json", ARRAY, r"train.json: more than 500,000 bytes in one JSON array; write it as JSON Lines"),
        (
            "train.arrow",
            arrow(pa.ipc.new_file),
            r"a batch takes 1,100,\d+ bytes unpacked; 500,000 are the most",
        ),
        ("train.arrow", arrow(pa.ipc.new_stream), r"a batch takes 1,100,\d+ bytes unpacked"),
        ("train.arrow", arrow(pa.ipc.new_stream, "dictionary"), r"a batch takes 1,100,\d+ bytes unpacked"),
    ],
)
def test_a_packed_file_that_datasets_would_unpack_to_gigabytes_or_that_nobody_can_check_is_refused_before(
    tmp_path: Path, name: str, packed: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_bytes(packed)
    monkeypatch.setattr("lrf.rows.lines.LONGEST_ROW", 200_000)
    monkeypatch.setattr("lrf_data.packed.MOST_WHOLE", 500_000)
    monkeypatch.setattr("lrf_data.arrow_sizes.LARGEST_BATCH", 500_000)
    monkeypatch.setattr("lrf_data.packed.find_spec", lambda name: None)
    with pytest.raises(DataError, match=message):
        list(source(tmp_path).read())


def test_the_members_of_a_zip_are_read(tmp_path: Path) -> None:
    (tmp_path / "train.zip").write_bytes(zipped({"a/1.jsonl": LINE, "a/2.jsonl": LINE * 2}))
    assert len(list(source(tmp_path).read())) == 3
