"""The source ``longreward``: the layout of LongReward's public data (arXiv 2410.21252).

Documents: a row ``{"idx": 11, "query", "context", "answer"}`` a line. The sample's id is ``idx``; ``answer``, if
there is one, is the reference. Candidates, in a second file and in any order: ``{"idx": "11-7", "query",
"answer"}``, where ``idx`` begins with the document's and stays the candidate's id. Other keys go to ``metadata``.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, cast

from lrf.rows.data import Row, parse_line, quoted, samples_from_rows, text_problem
from lrf.rows.lines import lines
from lrf.types import JSON, BadRow, Sample
from lrf_data.files import find_files, open_bytes, read_jsonl, reading
from lrf_data.settings import LongRewardSettings


class LongRewardSource:
    """Samples from a file of documents, each with its candidates from another file.

    The candidates' file is gone through twice: first to note where each sample's lines begin (16 bytes a line are
    kept), then line by line as the documents come. Its bad lines are told first, those without a document last.
    """

    def __init__(self, settings: LongRewardSettings) -> None:
        self._max_file_bytes = settings.max_file_bytes
        self._documents = settings.documents
        self._candidates = settings.candidates

    def read(self) -> Iterator[Sample | BadRow]:
        find_files([self._documents, self._candidates])
        return samples_from_rows(self._rows(), max_file_bytes=self._max_file_bytes)

    def _rows(self) -> Iterator[Row | BadRow]:
        with reading(self._candidates), _seekable(self._candidates) as file:
            index = _Index(file, str(self._candidates))
            yield from index.build()
            for row in read_jsonl(self._documents):
                yield from _with_candidates(row, index)
            yield from index.left()


class _Index:
    """The places in the file at which the lines of each sample's candidates begin."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self._places: dict[str, array[int]] = {}  # offset, line number, offset, line number, …
        self._taken: set[str] = set()

    def build(self) -> Iterator[BadRow]:
        """Reads the file once. Yields the lines that belong to no sample."""
        offset = 0
        for number, line in enumerate(lines(self._file, Path(self._name)), start=1):
            if line.strip():
                row = parse_line(line, self._name, number)
                sample = row.message if isinstance(row, BadRow) else _sample_of(row.value)
                if isinstance(row, BadRow):
                    yield row
                elif sample is None:
                    yield BadRow(
                        self._name, number, 'idx: expected "<idx of the document>-<n>", as in {"idx": "11-7", …}'
                    )
                else:
                    self._places.setdefault(sample, array("q")).extend((offset, number))
            offset += len(line)

    def candidates(self, sample: str) -> Iterator[Row]:
        """The sample's candidates in the order of the file."""
        self._taken.add(sample)
        places = self._places.get(sample, array("q"))
        for offset, number in zip(places[::2], places[1::2], strict=True):
            self._file.seek(offset)
            row = parse_line(self._file.readline(), self._name, number)
            yield cast(Row, row)  # the first pass has read it already

    def left(self) -> Iterator[BadRow]:
        """The candidates without a document, by line."""
        lines = [
            (number, sample)
            for sample, places in self._places.items()
            if sample not in self._taken
            for number in places[1::2]
        ]
        for number, sample in sorted(lines):
            yield BadRow(self._name, number, f"idx: there is no document with the idx {quoted(sample)}")


def _with_candidates(row: Row | BadRow, index: _Index) -> Iterator[Row | BadRow]:
    """The document's row in lrf's fields, after the candidates that don't match it."""
    if isinstance(row, BadRow) or not isinstance(row.value, Mapping):
        yield row
        return
    document = dict(row.value)
    if (idx := document.pop("idx", None)) is None:
        yield BadRow(row.file, row.line, "idx: missing")
        return
    query = document.pop("query", None)
    candidates: dict[str, Mapping[str, JSON]] = {}
    for given in index.candidates(str(idx)):
        if (wrong := _misfit(given.value, query, candidates)) is not None:
            yield BadRow(given.file, given.line, wrong)
            continue
        candidate = dict(given.value)
        name = candidate.pop("idx")
        del candidate["query"]
        candidates[name] = {"id": name, "text": candidate.pop("answer"), "metadata": candidate}
    value = {
        "id": idx,
        "query": query,
        "context": document.pop("context", None),
        "reference": document.pop("answer", None),
        "candidates": list(candidates.values()),
        "metadata": document,
    }
    yield Row(row.file, row.line, value, row.folder)


def _misfit(candidate: Mapping[str, JSON], query: JSON, earlier: Mapping[str, JSON]) -> str | None:
    if candidate["idx"] in earlier:
        return f"idx: {quoted(candidate['idx'])} is already the idx of an earlier candidate"
    if candidate.get("query") != query:
        return "query: differs from the query of the document with this idx"
    wrong = text_problem(candidate.get("answer"))
    return wrong and f"answer: {wrong}"


def _sample_of(value: JSON) -> str | None:
    idx = value.get("idx") if isinstance(value, Mapping) else None
    if not isinstance(idx, str):
        return None
    sample, dash, number = idx.rpartition("-")
    return sample if sample and dash and number else None


def _seekable(path: Path) -> BinaryIO:
    if path.suffix != ".gz":
        return path.open("rb")
    unpacked = tempfile.TemporaryFile()  # noqa: SIM115 - closed by the caller
    try:
        with open_bytes(path) as packed:
            unpacked.writelines(lines(packed, path))
        unpacked.seek(0)
    except BaseException:
        unpacked.close()
        raise
    return cast(BinaryIO, unpacked)
