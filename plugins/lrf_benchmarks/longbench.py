"""The source ``longbench``: questions of LongBench (arXiv 2308.14508) and LongBench-Chat (arXiv 2401.18058)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lrf.rows.data import Row, samples_from_rows
from lrf.rows.formats import rows_of
from lrf.types import JSON, BadRow, Sample
from lrf_benchmarks.settings import LongBenchSettings

NO_QUESTION = "Summarise the document."
"""The question of a row whose ``input`` is empty, such as those of gov_report."""


class LongBenchSource:
    """Samples of LongBench's rows: input, context, answers, dataset, language, _id; the answers are references.

    LongBench-Chat's rows are idx, prompt (document and question), query and answer; where the prompt begins or ends
    with the query, the document is the rest of it. All references are in the sample's metadata as ``answers``, and the
    first is its reference.
    """

    def __init__(self, settings: LongBenchSettings) -> None:
        self._path = settings.path
        self._datasets = None if settings.datasets is None else set(settings.datasets)

    def read(self) -> Iterator[Sample | BadRow]:
        return samples_from_rows(row for row in map(self._row, rows_of(self._path)) if row is not None)

    def _row(self, row: Row | BadRow) -> Row | BadRow | None:
        if isinstance(row, BadRow):
            return row
        value = row.value
        if isinstance(value, Mapping) and {"idx", "prompt", "query", "answer"} <= value.keys():
            return Row(row.file, row.line, _chat(value), None)
        if not isinstance(value, Mapping) or not {"input", "context", "answers"} <= value.keys():
            message = (
                "expected LongBench's fields input, context, answers, or LongBench-Chat's idx, prompt, query, answer"
            )
            return BadRow(row.file, row.line, message)
        if self._datasets is not None and value.get("dataset") not in self._datasets:
            return None
        return Row(row.file, row.line, _longbench(value), None)


def _longbench(value: Mapping[str, JSON]) -> dict[str, JSON]:
    answers = value["answers"] if isinstance(value["answers"], list) else [value["answers"]]
    kept = {name: value[name] for name in ("dataset", "language", "length") if value.get(name) is not None}
    row = {
        "query": str(value["input"]).strip() or NO_QUESTION,
        "context": value["context"],
        "reference": answers[0] if answers else None,
        "metadata": {**kept, "answers": answers},
    }
    return {"id": str(value["_id"]), **row} if value.get("_id") else row


def _chat(value: Mapping[str, JSON]) -> dict[str, JSON]:
    prompt, query = str(value["prompt"]), str(value["query"])
    document = prompt.removesuffix(query) if prompt.endswith(query) else prompt.removeprefix(query)
    return {
        "id": str(value["idx"]),
        "query": query,
        "context": document.strip() or prompt,
        "reference": value["answer"],
        "metadata": {"answers": [value["answer"]]},
    }
