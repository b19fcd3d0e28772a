"""The protocol of benchmarks: questions with known answers, on which a judge is judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from lrf.types import JSON, BadRow, Sample

Spans = tuple[tuple[int, int], ...]
"""Parts of a text: start and end in characters."""
Decision = Literal["1", "2", "tie"] | None
"""Which of two answers, by its place in the file, a judge prefers; None where its reply can't be read."""


@dataclass(frozen=True, slots=True)
class BenchmarkItem:
    """One question of a benchmark.

    Parameters
    ----------
    sample: what the judge is given; its candidates in the file's order, its id unique in the benchmark.
    label: what the file says is right, in the benchmark's own form.
    group: the subset that it belongs to, for figures by group; "" where there is none.
    """

    sample: Sample
    label: JSON
    group: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """What a judge (or a baseline) says about one question. The texts are gone, so that memory stays small.

    Parameters
    ----------
    id, label, group: those of the question.
    scores: a score for each candidate, in the file's order, None for one without; empty where answers were compared.
    decisions: where two answers were compared, or judgements are recorded so: the decision with the answers in the
        file's order, then with the answers swapped. Else empty.
    spans: of a benchmark that labels spans (:class:`LabelsSpans`), the characters of the answer that the judge finds
        wrong, start and end; None where it points at none in particular.
    """

    id: str
    label: JSON
    group: str
    scores: tuple[float | None, ...] = ()
    decisions: tuple[Decision, ...] = ()
    spans: Spans | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recorded judgement, as its file has it: see :class:`Judged`."""

    id: str
    scores: tuple[float | None, ...] = ()
    decisions: tuple[Decision, ...] = ()
    spans: Spans | None = None


@runtime_checkable
class LabelsSpans(Protocol):
    """A benchmark with one answer a question and labels of its wrong spans; it is also given the judge's spans."""

    @property
    def labels_spans(self) -> Literal[True]: ...


@runtime_checkable
class Benchmark(Protocol):
    """A benchmark in its published layout. It is made of its settings, and read in a thread, one row at a time.

    >>> class Sums:
    ...     compares = False
    ...     def read(self):
    ...         answers = (Candidate("0", "4"), Candidate("1", "5"))
    ...         yield BenchmarkItem(Sample("sum", "2 + 2?", (), answers), label=0)
    ...     def recorded(self, path):
    ...         raise DataError(f"{path}: judgements of sums are recorded nowhere")
    ...     def right(self, judged):
    ...         return None if None in judged.scores else float(judged.scores[0] > judged.scores[1])
    ...     def measure(self, judged):
    ...         return {"accuracy": mean(self.right(one) for one in judged)}
    """

    @property
    def compares(self) -> bool:
        """Whether every question has two answers of which one is better, so that they may be compared directly."""
        ...

    def read(self) -> Iterator[BenchmarkItem | BadRow]:
        """All questions in the file's order, the same each time; a row that can't be used as a BadRow.

        Raises :class:`lrf.errors.DataError` when the files can't be read at all.
        """
        ...

    def recorded(self, path: Path) -> Iterator[Recorded]:
        """The judgements in a file of the benchmark's authors. Raises :class:`lrf.errors.DataError`."""
        ...

    def right(self, judged: Judged) -> float | None:
        """What the judgement is worth by the published rule, 0 to 1; None without a usable judgement or label."""
        ...

    def measure(self, judged: Sequence[Judged]) -> Mapping[str, JSON]:
        """The benchmark's published figures, under their published names and in their units.

        Figures that can't be computed of these judgements are None.
        """
        ...
