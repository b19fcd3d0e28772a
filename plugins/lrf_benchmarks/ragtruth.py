"""The benchmark ``ragtruth``: responses in which people marked what their source doesn't say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lrf.errors import DataError
from lrf.protocols import BenchmarkItem, Judged, Recorded
from lrf.rows.formats import rows_of
from lrf.types import JSON, BadRow
from lrf_benchmarks.claims import Claims
from lrf_benchmarks.pairwise import by_group
from lrf_benchmarks.rows import FieldError, checked, given, id_of, question, questions, text_of
from lrf_benchmarks.settings import RagTruthSettings


class RagTruth(Claims):
    """RAGTruth (arXiv 2401.00396): response.jsonl and source_info.jsonl.

    A response with any labelled span is hallucinated; a judge says so by a reward below ``threshold``. Precision,
    recall and F1 of hallucinated responses, by task and over all, in per cent; an unscored one counts as not detected.
    The same of spans, by characters: those of a judge's spans that are labelled, and those of the labels that a judge
    points at. A judge that rates whole answers points at none, and has no such figures.
    """

    labels_spans: Literal[True] = True

    def __init__(self, settings: RagTruthSettings) -> None:
        super().__init__(settings.threshold)
        self._folder, self._split = settings.path, settings.split

    def read(self) -> Iterator[BenchmarkItem | BadRow]:
        sources: dict[str, tuple[str, str, str]] = {}  # by id: task, question and document
        for row in rows_of(self._folder / "source_info.jsonl"):
            if isinstance(row, BadRow):
                yield row
            elif isinstance(row.value, Mapping):
                sources[str(row.value.get("source_id"))] = _source(row.value)
            else:
                yield BadRow(row.file, row.line, "expected an object")
        rows = rows_of(self._folder / "response.jsonl")
        yield from questions(rows, lambda row, number: self._question(row, number, sources))

    def _question(
        self, row: Mapping[str, Any], number: int, sources: Mapping[str, tuple[str, str, str]]
    ) -> BenchmarkItem | None:
        if self._split is not None and given(row, "split") != self._split:
            return None
        source = sources.get(str(row.get("source_id")))
        if source is None:
            raise FieldError(f"source_id: source_info.jsonl has no {str(row.get('source_id'))[:40]!r}")
        task, asked, document = source
        answer = text_of(row, "response", empty=True)
        label = _labelled(row.get("labels"), len(answer))
        return question(id_of(row, number), asked, [answer], label, task, [checked(document, "source_info")])

    def recorded(self, path: Path) -> Iterator[Recorded]:
        """Rows of response.jsonl with ``pred``: {"hallucination list": [texts]}, as the authors' baseline writes them.

        A text that isn't found in the response counts for the response, and has no span. A ``pred`` that is no object,
        as of a reply that wasn't JSON, is no judgement; one without the list has detected nothing.
        """
        for made in questions(rows_of(path), _predicted):
            if isinstance(made, BadRow):
                raise DataError(f"{made.file}:{made.line}: {made.message}")
            yield made

    def right(self, judged: Judged) -> float | None:
        supported = self.supported(judged)
        return None if supported is None else float(supported == (not judged.label))

    def measure(self, judged: Sequence[Judged]) -> Mapping[str, JSON]:
        groups = {"overall": judged, **by_group(judged)}
        return {f"{figure}_{name}": value for name, ones in groups.items() for figure, value in self._figures(ones)}

    def _figures(self, judged: Sequence[Judged]) -> Iterator[tuple[str, float | None]]:
        detected = [one for one in judged if self.supported(one) is False]
        hits, wanted = sum(bool(one.label) for one in detected), sum(bool(one.label) for one in judged)
        yield from _f1("", hits, len(detected), wanted)
        if any(one.spans is not None for one in judged):
            both = [(_characters(one.spans or ()), _characters(one.label)) for one in judged]
            found, labelled = (sum(len(one[side]) for one in both) for side in (0, 1))
            yield from _f1("span_", sum(len(mine & true) for mine, true in both), found, labelled)


def _f1(level: str, hits: int, found: int, wanted: int) -> Iterator[tuple[str, float | None]]:
    yield f"{level}precision", hits / found * 100 if found else None
    yield f"{level}recall", hits / wanted * 100 if wanted else None
    yield f"{level}f1", 2 * hits / (found + wanted) * 100 if wanted else None


def _characters(spans: Sequence[Sequence[int]]) -> set[int]:
    return {place for start, end in spans for place in range(start, end)}


def _labelled(labels: JSON, length: int) -> list[list[int]]:
    """The labelled spans, start and end in characters."""
    if not isinstance(labels, list):
        raise FieldError("labels: expected a list of spans")
    spans = []
    for number, label in enumerate(labels):
        match label:
            case {"start": int(start), "end": int(end)} if 0 <= start < end <= length:
                spans.append([start, end])
            case _:
                raise FieldError(
                    f"labels[{number}]: expected start and end within the {length:,} characters of response"
                )
    return spans


def _predicted(row: Mapping[str, Any], number: int) -> Recorded:
    if "pred" not in row:
        raise FieldError('pred: expected {"hallucination list": [texts]}; it is missing')
    if not isinstance(row["pred"], Mapping):
        return Recorded(id_of(row, number), (None,))
    listed = row["pred"].get("hallucination list")
    texts = listed if isinstance(listed, list) else []
    response = text_of(row, "response", empty=True)
    places = [(response.find(text), len(text)) for text in texts if isinstance(text, str) and text]
    spans = tuple((start, start + length) for start, length in places if start >= 0)
    return Recorded(id_of(row, number), (0.0 if texts else 10.0,), spans=spans)


def _source(row: Mapping[str, Any]) -> tuple[str, str, str]:
    info = row.get("source_info")
    if isinstance(info, Mapping):  # question answering: {question, passages}; data to text: any fields
        asked = str(info.get("question") or "Write an overview of this data.")
        text = str(info["passages"]) if "passages" in info else "\n".join(f"{key}: {v}" for key, v in info.items())
    else:
        asked, text = "Summarise the document.", str(info or "")
    return str(row.get("task_type") or ""), asked, text
