"""Parts of the data."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lrf
from judge_server import JudgeServer
from lrf.build import source_of
from lrf.config import parse_pipeline
from lrf.plugin.catalog import load_catalog
from lrf.rows.part import Part, PartSource
from lrf.testing.strategies import samples
from project import Project, sample_row


@given(sample=samples(), other=samples(), of=st.integers(1, 9))
def test_a_sample_is_in_one_part_with_all_samples_of_its_documents(
    sample: lrf.Sample, other: lrf.Sample, of: int
) -> None:
    parts = [Part(number, of) for number in range(1, of + 1)]
    (own,) = [part for part in parts if part.has(sample)]
    if sample.documents:
        assert own.has(lrf.Sample("another", other.query, sample.documents, other.candidates))


def test_samples_spread_over_the_data_are_of_the_part_too(project: Project) -> None:
    project.write_data(40, candidates=1)
    source = source_of(parse_pipeline(project.pipeline(part="2/4"), load_catalog()))
    assert isinstance(source, PartSource)
    spread, whole = source.spread(5), list(source.read())
    assert spread is not None
    found = list(spread)
    assert 0 < len(found) <= 5
    assert [sample for sample in whole if sample in found] == found


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "1/0", "-1/3", "1/3/5", "one/two", ""])
def test_what_names_no_part_is_refused_with_what_does(project: Project, text: str) -> None:
    with pytest.raises(lrf.ConfigError, match=r"part: .*from 1, and the number of parts: 3/8"):
        parse_pipeline(project.pipeline(part=text), load_catalog())


def test_runs_that_share_the_data_make_the_rewards_and_pairs_of_one_run(
    project: Project, judge_server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [sample_row(number) for number in range(9)]
    project.write_data([*rows, {**rows[0], "id": "of the same document", "query": "When was it signed?"}])
    names = ("rewards.jsonl", "judgements.jsonl", "pairs.jsonl")

    def lines(name: str) -> dict[str, list[str]]:
        return {file: (project.runs / name / file).read_text().splitlines() for file in names}

    def run(**changes: str) -> None:
        assert lrf.run(project.write(project.pipeline(**changes)), runs=project.runs).exit_code == 0

    run(name="whole")
    calls = judge_server.books.calls
    for number in (1, 2, 3):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(number))
        run(name="part-${SLURM_ARRAY_TASK_ID}", part="${SLURM_ARRAY_TASK_ID}/3")
    assert judge_server.books.calls == 2 * calls
    parts = [lines(f"part-{number}") for number in (1, 2, 3)]
    for file in names:
        assert all(part[file] for part in parts)
        assert sorted(line for part in parts for line in part[file]) == sorted(lines("whole")[file])
