from __future__ import annotations

import gzip
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lrf.errors import DataError
from lrf.testing import check_plugin, check_source
from lrf.types import BadRow, Sample
from lrf_data.jsonl import JsonlSource
from lrf_data.settings import JsonlSettings

ROW = '{"context": "It rained.", "query": "Did it rain?", "candidates": [{"text": "是的。"}]}'


def source(path: Any) -> JsonlSource:
    return JsonlSource(JsonlSettings(path=path))


def written(path: Path, *lines: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines))
    return path


def test_every_component_that_the_plugin_registers_can_be_imported() -> None:
    check_plugin("lrf_data.plugin")


def test_each_line_is_a_row(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", ROW, ROW)
    check_source(source(path))
    assert [s.id for s in source(path).read() if isinstance(s, Sample)] == ["0", "1"]


def test_blank_lines_are_no_rows_but_count_as_lines(tmp_path: Path) -> None:
    rows = list(source(written(tmp_path / "a.jsonl", ROW, "", "  \r", "{}", "")).read())
    assert isinstance(rows[0], Sample)
    assert rows[1:] == [BadRow(str(tmp_path / "a.jsonl"), 4, "context: missing")]


def test_a_byte_order_mark_and_windows_line_ends_are_fine(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", b"\xef\xbb\xbf" + ROW.encode() + b"\r", ROW + "\r", "")
    assert all(isinstance(s, Sample) for s in source(path).read())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON: Expecting property name enclosed in double quotes at character "),
        (b'{"query": "caf\xe9"}', "not UTF-8: invalid continuation byte at byte 14 of the line"),
        ("[]", "a row must be an object with the fields"),
        ('{"metadata": {"a": NaN}}', "not usable JSON: NaN is not a JSON value"),
        ('{"metadata": {"a": -1e999}}', "not usable JSON: -1e999 is larger than any number that can be kept"),
        ('{"query": "a", "query": "b"}', 'not usable JSON: the key "query" is given twice'),
        (
            f'{{{"".join(f"{json.dumps(str(n))}: 1, " for n in range(30_000))}"29999": 2}}',
            'not usable JSON: the key "29999" is given twice',
        ),
        ("[" * 100_000, "not usable JSON: nested too deeply"),
        (f'{{"id": {"9" * 5000}}}', "not usable JSON: Exceeds the limit"),
        ('{"query": "\\ud83d"}', "query: contains the lone surrogate U+D83D"),
    ],
)
def test_a_bad_line_is_named_and_the_others_are_read(tmp_path: Path, line: str | bytes, message: str) -> None:
    path = written(tmp_path / "a.jsonl", ROW, line, ROW)
    first, bad, last = source(path).read()
    assert isinstance(first, Sample)
    assert isinstance(last, Sample)
    assert isinstance(bad, BadRow)
    assert (bad.file, bad.line) == (str(path), 2)
    assert bad.message.startswith(message)


def test_gzipped_files_are_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(f"{ROW}\n{ROW}".encode()))
    assert len(list(source(path).read())) == 2


@pytest.mark.parametrize(
    "packed", [b"no gzip", gzip.compress(ROW.encode() * 9, mtime=0)[:-12]], ids=["no gzip", "cut off"]
)
def test_a_damaged_gzip_file_is_an_error(tmp_path: Path, packed: bytes) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(packed)
    with pytest.raises(DataError, match=r"a\.jsonl\.gz: can't be read: "):
        list(source(tmp_path / "a.jsonl.gz").read())


def test_several_files_are_read_in_order_and_share_their_ids(tmp_path: Path) -> None:
    row = json.loads(ROW)
    a = written(tmp_path / "a.jsonl", json.dumps({**row, "id": "a"}))
    b = written(tmp_path / "b.jsonl", json.dumps({**row, "id": "b"}), json.dumps({**row, "id": "a"}))
    listed = list(source([b, a]).read())
    assert [s.id for s in listed if isinstance(s, Sample)] == ["b", "a"]
    assert [(r.file, r.line) for r in listed if isinstance(r, BadRow)] == [(str(a), 1)]
    by_pattern = list(source(tmp_path / "*.jsonl").read())
    assert [s.id for s in by_pattern if isinstance(s, Sample)] == ["a", "b"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    assert len(list(source(written(tmp_path / "[a].jsonl", ROW)).read())) == 1


def test_texts_are_found_beside_the_file_that_names_them(tmp_path: Path) -> None:
    for name in ("x", "y"):
        written(tmp_path / name / "a.jsonl", '{"query": "?", "context": {"path": "a.txt"}}')
        written(tmp_path / name / "a.txt", f"text of {name}")
    texts = [s.context for s in source(tmp_path / "*" / "a.jsonl").read() if isinstance(s, Sample)]
    assert texts == ["text of x", "text of y"]


@pytest.mark.parametrize(
    ("path", "message"),
    [("gone.jsonl", "no such file"), ("*.gone", "no file matches this pattern"), ("", "is a folder; name its files")],
)
def test_a_path_to_nothing_is_an_error_that_names_it(tmp_path: Path, path: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        source(tmp_path / path).read()


def test_a_relative_path_starts_at_the_pipeline_file() -> None:
    settings = JsonlSettings.model_validate({"path": ["a.jsonl", "/b.jsonl"]}, context={"folder": "/pipelines"})
    assert settings.path == [Path("/pipelines/a.jsonl"), Path("/b.jsonl")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"[{ROW}]", "one JSON array; put each object on a line of its own: jq -c '.[]' "),
        (json.dumps([json.loads(ROW)] * 2, indent=2), "one JSON array; "),
        (
            json.dumps(json.loads(ROW), indent=2),
            "JSON over several lines; put each object on a line of its own: jq -c . ",
        ),
        ("id,context,query\n1,It rained.,Did it rain?\n", "a CSV table; write its rows as JSON Lines: python -c "),
        ("id\tquery\n1\tDid it rain?\n", "a TSV table; "),
        (b"PAR1\x15\x04", "a Parquet file; use the source parquet"),
        (gzip.compress(ROW.encode(), mtime=0), "compressed with gzip; end its name in .gz"),
        (ROW.encode("utf-16"), "text in UTF-16; write it in UTF-8"),
    ],
)
def test_a_file_in_another_format_is_named_with_what_to_do(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = written(tmp_path / "a.jsonl", content)
    with pytest.raises(DataError) as caught:
        list(source(path).read())
    assert str(caught.value).startswith(f"{path}: not JSON Lines, but {message}")


def test_the_command_that_is_proposed_for_a_table_makes_rows_of_it(tmp_path: Path) -> None:
    table = written(tmp_path / "a.csv", "context;query", "It rained.;Did it rain?", "")
    with pytest.raises(DataError) as caught:
        list(source(table).read())
    command = str(caught.value).split("JSON Lines: ")[1]
    subprocess.run(command.replace("python", sys.executable, 1), shell=True, check=True, cwd=tmp_path)
    (sample,) = source(tmp_path / "a.jsonl").read()
    assert isinstance(sample, Sample)
    assert sample.query == "Did it rain?"


def test_a_small_file_of_one_endless_line_is_refused_by_name_line_and_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lrf.rows.lines.LONGEST_ROW", 1000)
    path = tmp_path / "bomb.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"query": "?"}\n{"query": "' + b"x" * 5000))
    with pytest.raises(DataError, match=r"bomb\.jsonl\.gz:2: the line is longer than 1,000 bytes"):
        list(JsonlSource(JsonlSettings(path=path)).read())


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.integers(1, 400), max_size=9), min_size=1, max_size=3), st.integers(1, 12))
def test_a_few_samples_are_taken_from_all_over_the_files_in_order(
    tmp_path: Path, files: list[list[int]], count: int
) -> None:
    numbers = iter(range(1000))
    rows = [[json.dumps({"id": str(next(numbers)), "context": "x" * n, "query": "?"}) for n in file] for file in files]
    data = source([written(tmp_path / f"{place}.jsonl", *lines, "") for place, lines in enumerate(rows)])
    everything = [sample.id for sample in data.read() if isinstance(sample, Sample)]
    spread = [sample.id for sample in data.spread(count) or ()]
    assert len(spread) <= count
    assert spread == [id_ for id_ in everything if id_ in spread]
    sizes = [len(line) + 1 for lines in rows for line in lines]
    starts = [*(sum(sizes[: int(id_)]) for id_ in spread), sum(sizes)] if spread else []
    assert all(b - a <= sum(sizes) / count + 3 * max(sizes) for a, b in itertools.pairwise([0, *starts]))
    assert spread[:1] == everything[:1]
