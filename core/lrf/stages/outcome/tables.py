"""A run as Arrow tables.

``candidates``: ``sample_id``, ``candidate_id``, ``source``, ``query``, ``answer``, ``answer_characters``, ``reward``,
``rank``, ``rating_NAME`` for each dimension, and ``unscored_dimension``, ``unscored_reason``, ``unscored_detail``.

``statements``: ``sample_id``, ``candidate_id``, ``dimension``, ``statement``, ``verdict``, ``support`` (0 to 1),
``attribution``, ``analysis``, ``evidence`` (the words of the chunks that the verdict was given on) and ``closest`` (the
quoted words, or the sentence of the evidence that is most like the statement).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from lrf.stages.outcome.joined import ScoredCandidate, ScoredSample
from lrf.types import JSON, Judgement

if TYPE_CHECKING:
    from lrf.stages.outcome.loading import ScoredRun, Table

ROWS_A_BATCH = 4096


def arrow_table(run: ScoredRun, table: Table) -> Any:
    """The whole table, made in batches of rows, so that only Arrow's own copy of it is in memory."""
    import pyarrow as pa

    schema = _candidates_schema(_dimensions(run)) if table == "candidates" else _statements_schema()
    rows = (row for sample in run for row in (_candidates(sample) if table == "candidates" else _statements(sample)))
    batches = []
    while part := list(islice(rows, ROWS_A_BATCH)):
        batches.append(pa.RecordBatch.from_pylist(part, schema=schema))
    return pa.Table.from_batches(batches, schema=schema)


def _dimensions(run: ScoredRun) -> list[str]:
    """The dimensions of the first sample; all samples of a run have the same."""
    first = next((c for sample in run for c in sample.candidates), None)
    return list(first.reward.ratings) if first else []


def _candidates_schema(dimensions: list[str]) -> Any:
    import pyarrow as pa

    text, number = pa.string(), pa.float64()
    return pa.schema(
        [
            *((n, text) for n in ("sample_id", "candidate_id", "source", "query", "answer")),
            ("answer_characters", pa.int64()),
            ("reward", number),
            ("rank", pa.int64()),
            *((f"rating_{name}", number) for name in dimensions),
            *((n, text) for n in ("unscored_dimension", "unscored_reason", "unscored_detail")),
        ]
    )


def _statements_schema() -> Any:
    import pyarrow as pa

    text = pa.string()
    return pa.schema(
        [
            *((n, text) for n in ("sample_id", "candidate_id", "dimension", "statement", "verdict")),
            ("support", pa.float64()),
            ("attribution", text),
            ("analysis", text),
            ("evidence", pa.list_(text)),
            ("closest", text),
        ]
    )


def _candidates(sample: ScoredSample) -> Iterator[dict[str, JSON]]:
    for c in _in_order(sample):
        unscored = c.reward.unscored
        yield {
            "sample_id": sample.id,
            "candidate_id": c.id,
            "source": c.candidate.source,
            "query": sample.sample.query,
            "answer": c.text,
            "answer_characters": len(c.text),
            "reward": c.reward.reward,
            "rank": c.rank,
            **{f"rating_{name}": rating for name, rating in c.reward.ratings.items()},
            "unscored_dimension": unscored.dimension if unscored else None,
            "unscored_reason": unscored.reason if unscored else None,
            "unscored_detail": unscored.detail if unscored else None,
        }


def _statements(sample: ScoredSample) -> Iterator[dict[str, JSON]]:
    for c in _in_order(sample):
        for name, judgement in c.reward.judgements.items():
            for s in judgement.statements if isinstance(judgement, Judgement) else ():
                place = sample.closest(s)
                yield {
                    "sample_id": sample.id,
                    "candidate_id": c.id,
                    "dimension": name,
                    "statement": s.text,
                    "verdict": s.verdict,
                    "support": s.support,
                    "attribution": s.attribution,
                    "analysis": s.analysis,
                    "evidence": [sample.words(span) for span in s.evidence],
                    "closest": sample.words(place) if place else None,
                }


def _in_order(sample: ScoredSample) -> list[ScoredCandidate]:
    """The candidates in the data's order."""
    return [sample.candidate(c.id) for c in sample.sample.candidates]
