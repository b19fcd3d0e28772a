from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from lrf.errors import DataError
from lrf.testing import check_source
from lrf.types import BadRow, Sample
from lrf_data.longreward import LongRewardSource
from lrf_data.settings import LongRewardSettings


def document(idx: Any, **more: Any) -> dict[str, Any]:
    return {"idx": idx, "query": f"query {idx}", "context": f"context {idx}", "answer": f"answer {idx}", **more}


def candidate(sample: Any, n: Any, **more: Any) -> dict[str, Any]:
    return {"idx": f"{sample}-{n}", "query": f"query {sample}", "answer": f"answer {sample}-{n}", **more}


class Files:
    def __init__(self, folder: Path) -> None:
        self.documents = folder / "sft.jsonl"
        self.candidates = folder / "sampled.jsonl"

    def write(self, documents: list[Any], candidates: list[Any]) -> Files:
        for path, rows in ((self.documents, documents), (self.candidates, candidates)):
            lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
            data = "\n".join(lines).encode()
            path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
        return self

    @property
    def source(self) -> LongRewardSource:
        return LongRewardSource(LongRewardSettings(documents=self.documents, candidates=self.candidates))

    def read(self) -> tuple[list[Sample], list[tuple[str, int, str]]]:
        rows = list(self.source.read())
        good = [r for r in rows if isinstance(r, Sample)]
        return good, [(Path(r.file).name, r.line, r.message) for r in rows if isinstance(r, BadRow)]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_the_public_example_is_one_sample_with_its_candidates_in_file_order() -> None:
    if not (data := os.environ.get("LRF_TEST_DATA")):
        pytest.skip("LRF_TEST_DATA doesn't name the folder with LongReward's public example")
    folder = Path(data) / "longreward_example"
    files = Files(folder)
    files.candidates = folder / "sampled_responses.jsonl"
    check_source(files.source)
    (sample,), bad = files.read()
    assert bad == []
    assert sample.id == "11"
    assert [c.id for c in sample.candidates] == [f"11-{n}" for n in (7, 0, 8, 5, 2, 6, 9, 3, 1, 4)]
    assert len(sample.context) == 40_889
    assert sample.reference is not None
    assert sample.reference.startswith("The author suggests several strategies")


def test_candidates_find_their_document_in_whatever_order_they_stand(files: Files) -> None:
    files.write(
        [document("b-2"), document(1), document("没有")],
        [candidate(1, 0), candidate("b-2", "x"), candidate(1, 1), candidate("b-2", "一")],
    )
    good, bad = files.read()
    assert bad == []
    assert [(s.id, [(c.id, c.text) for c in s.candidates]) for s in good] == [
        ("b-2", [("b-2-x", "answer b-2-x"), ("b-2-一", "answer b-2-一")]),
        ("1", [("1-0", "answer 1-0"), ("1-1", "answer 1-1")]),
        ("没有", []),
    ]
    check_source(files.source)


def test_gzipped_files_are_read_alike(files: Files, tmp_path: Path) -> None:
    rows = [document(1), document(2)], [candidate(2, 0), candidate(1, 0), candidate(2, 1)]
    plain = files.write(*rows).read()
    files.documents = tmp_path / "sft.jsonl.gz"
    files.candidates = tmp_path / "sampled.jsonl.gz"
    assert files.write(*rows).read() == plain


def test_other_keys_are_kept_as_metadata(files: Files) -> None:
    (sample,), bad = files.write([document(1, length=8)], [candidate(1, 0, model="m")]).read()
    assert bad == []
    assert sample.metadata == {"length": 8}
    assert sample.candidates[0].metadata == {"model": "m"}


def test_a_document_without_an_answer_has_no_reference(files: Files) -> None:
    row = document(1)
    del row["answer"]
    (sample,), _ = files.write([row], []).read()
    assert sample.reference is None


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (candidate(2, 0), 'idx: there is no document with the idx "2"'),
        (candidate(1, 1, query="another"), "query: differs from the query of the document with this idx"),
        (candidate(1, 0), 'idx: "1-0" is already the idx of an earlier candidate'),
        (candidate(1, 1, answer=None), "answer: expected a text, got null"),
        (candidate(1, 1, answer="\ud83d"), "answer: contains the lone surrogate U+D83D at character 0; remove it"),
        ({"idx": 1}, 'idx: expected "<idx of the document>-<n>", as in {"idx": "11-7", …}'),
        ({"idx": "1"}, 'idx: expected "<idx of the document>-<n>", as in {"idx": "11-7", …}'),
        ({"idx": "1-"}, 'idx: expected "<idx of the document>-<n>", as in {"idx": "11-7", …}'),
        ("[]", 'idx: expected "<idx of the document>-<n>", as in {"idx": "11-7", …}'),
        ("{", "not JSON: "),
    ],
)
def test_a_candidate_without_document_is_a_bad_row_and_the_sample_stays(files: Files, row: Any, message: str) -> None:
    row = json.dumps(row) if isinstance(row, dict) else row
    (sample,), bad = files.write([document(1)], [candidate(1, 0), row, candidate(1, 2)]).read()
    assert [(file, line) for file, line, _ in bad] == [("sampled.jsonl", 2)]
    assert bad[0][2].startswith(message)
    assert [c.id for c in sample.candidates] == ["1-0", "1-2"]


def test_bad_documents_are_named_by_their_own_line(files: Files) -> None:
    rows = [document(None), document(1, query=""), "[]", "{", document(2), document(2)]
    good, bad = files.write(rows, [candidate(2, 0)]).read()
    assert [s.id for s in good] == ["2"]
    assert [(file, line) for file, line, _ in bad] == [("sft.jsonl", n) for n in (1, 2, 3, 4, 6)]
    assert [message.split(":")[0] for *_, message in bad] == ["idx", "query", bad[2][2].split(":")[0], "not JSON", "id"]


@pytest.mark.parametrize("gone", ["documents", "candidates"])
def test_a_missing_file_is_an_error(files: Files, gone: str) -> None:
    files.write([document(1)], [])
    getattr(files, gone).unlink()
    with pytest.raises(DataError, match="no such file"):
        files.source.read()
