"""What becomes of what a sampler wrote: every candidate is kept or counted, whatever it says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrf.config.model import SampleKeys
from lrf.errors import GateError
from lrf.prompting.requests import Reply
from lrf.stages.sample.rows import left_out, row_of, write_candidates
from lrf.store.files import dump
from lrf.testing.strategies import replies, samples
from lrf.types import Candidate, Sample

KEYS = st.builds(
    SampleKeys, on_cut_off=st.sampled_from(("keep", "drop")), duplicates=st.sampled_from(("merge", "keep"))
)


@settings(max_examples=20)
@given(st.lists(st.tuples(samples(max_candidates=3), st.lists(replies(), max_size=5)), max_size=3), KEYS)
def test_candidates_are_kept_or_dropped_for_a_reason(
    drawn: Sequence[tuple[Sample, list[Reply]]], keys: SampleKeys
) -> None:
    rows = [row_of(sample, found, None, "policy", keys) for sample, found in drawn]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "candidates.jsonl"
        counts = write_candidates(path, [(0, dump(row)) for row in rows])
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    assert lines == json.loads(json.dumps(rows))
    for (sample, found), row in zip(drawn, rows, strict=True):
        kept = [Candidate(**c) for c in row["candidates"]]
        assert tuple(kept[: len(sample.candidates)]) == sample.candidates
        assert len({c.id for c in kept}) == len(kept)
        assert len(kept) + sum(row["dropped"].values()) == row["given"] + row["drawn"]
        new = [c.text for c in kept[len(sample.candidates) :]]
        assert {*new} <= {r.text for r in found}
        if keys.duplicates == "merge":
            assert len({*new}) == len(new)
            assert not {*new} & {c.text for c in sample.candidates}
        finishes = {c.metadata["finish"] for c in kept[len(sample.candidates) :]}
        assert "filter" not in finishes
        assert "length" not in finishes or keys.on_cut_off == "keep"
        assert (row["left_out"] is None) == bool(kept)
    assert counts.samples == len(rows)


def test_a_row_that_lost_a_candidate_stops_the_stage(tmp_path: Path) -> None:
    sample = Sample("a", "q", ())
    row = row_of(sample, [Reply("x"), Reply("y")], (1, 2), "policy", SampleKeys())
    row["candidates"].pop()
    with pytest.raises(GateError, match="candidates don't add up"):
        write_candidates(tmp_path / "candidates.jsonl", [(0, dump(row))])


def test_candidates_of_a_sample_that_is_left_out_are_counted(tmp_path: Path) -> None:
    sample = Sample("a", "q", (), (Candidate("0", "x"),))
    counts = write_candidates(tmp_path / "candidates.jsonl", [(1, dump(left_out(sample, "judge_timed_out", "late")))])
    assert (counts.dropped, counts.reasons, counts.transient) == ({"left_out": 1}, {"judge_timed_out": 1}, 1)
