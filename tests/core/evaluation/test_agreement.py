"""How well rewards agree with people: the measures, the labels' file, and the command."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lrf
from lrf.cli.main import invoke
from lrf.errors import DataError
from lrf.evaluation.labels import read_labels
from lrf.evaluation.measures import accuracy, correlation, kendall, preferences_of, weighted
from lrf.evaluation.report import agreement
from lrf.stages.score.correlation import spearman
from project import Project

scores_of = st.dictionaries(
    st.sampled_from("pqrstuv"),
    st.dictionaries(st.sampled_from("abcd"), st.one_of(st.none(), st.integers(0, 4).map(float)), min_size=1),
    min_size=1,
)


def all_pairs(scores: Mapping[str, Mapping[str, float | None]]) -> list[tuple[str, str, str]]:
    return [(s, a, b) for s, of in scores.items() for a in of for b in of if a < b]


@given(scores_of)
def test_a_pair_counts_one_half_or_nothing(scores: dict[str, dict[str, float | None]]) -> None:
    pairs = all_pairs(scores)
    found = accuracy(pairs, scores, 0)
    both = [(x, y) for s, a, b in pairs if (x := scores[s][a]) is not None and (y := scores[s][b]) is not None]
    assert found.pairs == len(both)
    assert found.unscored == len(pairs) - len(both)
    assert found.ties == sum(x == y for x, y in both)
    if both:
        assert found.accuracy.value == pytest.approx(sum((x > y) + (x == y) / 2 for x, y in both) / len(both))
    else:
        assert found.accuracy.value is None


@given(scores_of, st.integers(0, 2**32 - 1))
def test_the_interval_holds_the_value_within_nought_and_one(scores: dict[str, Any], seed: int) -> None:
    share = accuracy(all_pairs(scores), scores, seed).accuracy
    if share.low is not None:
        assert 0 <= share.low <= share.high <= 1


@given(scores_of)
def test_turning_every_preference_round_turns_the_accuracy_round(scores: dict[str, Any]) -> None:
    pairs = all_pairs(scores)
    there, back = accuracy(pairs, scores, 0), accuracy([(s, b, a) for s, a, b in pairs], scores, 0)
    if there.accuracy.value is not None:
        assert there.accuracy.value + back.accuracy.value == pytest.approx(1)


def test_the_interval_is_the_same_for_the_same_seed() -> None:
    right, count = [1.0, 0.0, 2.0, 1.0, 0.0], [2.0, 1.0, 2.0, 1.0, 3.0]
    assert weighted(right, count, 7) == weighted(right, count, 7)
    assert weighted(right, count, 7).low is not None


@pytest.mark.parametrize(
    ("right", "count"),
    [([1.0], [2.0]), ([1.0, 0.0, 2.0, 1.0], [2.0, 1.0, 2.0, 1.0]), ([1.0, 2.0] * 10, [2.0, 4.0] * 10)],
)
def test_few_samples_and_samples_that_are_all_alike_make_no_interval(right: list[float], count: list[float]) -> None:
    share = weighted(right, count, 7)
    assert share.value == pytest.approx(sum(right) / sum(count))
    assert share.low is share.high is None


@pytest.mark.parametrize("samples", [5, 40])
def test_the_interval_is_scipys_percentile_interval(samples: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(samples)
    count = rng.integers(1, 5, samples).astype(float)
    right = np.round(count * rng.random(samples))
    share = weighted(list(right), list(count), 1)
    theirs = stats.bootstrap(
        (right, count), lambda a, b: a.sum() / b.sum(), paired=True, vectorized=False, method="percentile",
        n_resamples=4000, rng=2,
    ).confidence_interval  # fmt: skip
    assert (share.low, share.high) == pytest.approx(tuple(theirs), abs=0.03)


def test_the_interval_is_about_as_wide_as_theory_says() -> None:
    right = [1.0] * 300 + [0.0] * 100
    share = weighted(right, [1.0] * 400, 0)
    half = 1.96 * (0.75 * 0.25 / 400) ** 0.5
    assert share.value == 0.75
    assert share.low == pytest.approx(0.75 - half, abs=0.01)
    assert share.high == pytest.approx(0.75 + half, abs=0.01)


def test_samples_are_redrawn_and_not_their_pairs() -> None:
    few = weighted([50.0, 0.0, 50.0, 0.0, 50.0], [50.0] * 5, 0)  # 250 pairs, but of five samples only
    assert (few.low, few.high) == (0.2, 1.0)


def test_ratings_become_pairs_where_they_differ() -> None:
    pairs, alike = preferences_of({"s": {"a": 3.0, "b": 5.0, "c": 3.0}, "t": {"a": 1.0}})
    assert pairs == [("s", "b", "a"), ("s", "b", "c")]
    assert alike == 1


def test_rank_correlation_is_within_samples() -> None:
    people = {"s": {"a": 1.0, "b": 2.0, "c": 3.0}, "t": {"a": 1.0, "b": 2.0}, "u": {"a": 4.0}}
    scores = {"s": {"a": 7.0, "b": 8.0, "c": 9.0}, "t": {"a": 2.0, "b": 1.0}, "u": {"a": None}}
    found = correlation(people, scores, 0)
    assert (found.spearman.value, found.kendall.value, found.samples) == (0.0, 0.0, 2)
    assert (found.candidates, found.unscored) == (5, 1)


few = st.integers(0, 6).map(float)


@given(st.lists(st.tuples(few, few), min_size=2, max_size=12))
def test_the_correlations_are_scipys(values: list[tuple[float, float]]) -> None:
    stats = pytest.importorskip("scipy.stats")
    a, b = map(list, zip(*values, strict=True))
    if len(set(a)) < 2 or len(set(b)) < 2:
        assert spearman(a, b) is kendall(a, b) is None
    else:
        assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
        assert kendall(a, b) == pytest.approx(stats.kendalltau(a, b).statistic)


@pytest.mark.parametrize("measure", [spearman, kendall])
def test_a_correlation_of_unequally_many_values_is_refused(measure: Callable[..., float | None]) -> None:
    with pytest.raises(ValueError):
        measure([1.0, 2.0, 3.0], [1.0, 2.0])


@given(st.dictionaries(st.sampled_from("pqrs"), st.dictionaries(st.sampled_from("abcd"), st.integers(0, 9).map(float))))
def test_scores_that_are_the_ratings_agree_wholly(people: dict[str, dict[str, float]]) -> None:
    found = correlation(people, people, 0)
    for value in (found.spearman.value, found.kendall.value, found.overall):
        assert value is None or value == pytest.approx(1)


Csv = Callable[[str], Path]


@pytest.fixture
def csv(tmp_path: Path) -> Csv:
    def write(text: str) -> Path:
        path = tmp_path / "labels.csv"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def make_run(folder: Path, rows: list[tuple[str, str, float | None, Mapping[str, float | None], str]]) -> Path:
    """A run directory with these rewards: (sample, candidate, reward, ratings, the answer's text)."""
    run = folder / "run"
    run.mkdir()
    samples: dict[str, list[dict[str, str]]] = {}
    with (run / "rewards.jsonl").open("w") as f:
        for sample, candidate, reward, ratings, text in rows:
            samples.setdefault(sample, []).append({"id": candidate, "text": text})
            row = {
                "sample_id": sample,
                "candidate_id": candidate,
                "reward": reward,
                "ratings": ratings,
                "unscored": None,
            }
            f.write(json.dumps(row) + "\n")
    with (folder / "samples.jsonl").open("w") as f:
        for sample, candidates in samples.items():
            f.write(json.dumps({"id": sample, "context": "c", "query": "q", "candidates": candidates}) + "\n")
    (run / "pipeline.yaml").write_text(f"name: run\ndata: {{type: jsonl, path: {folder / 'samples.jsonl'}}}\n")
    return run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(
        tmp_path,
        [
            ("s1", "a", 8.0, {"help": 8.0, "faith": 2.0}, "short"),
            ("s1", "b", 3.0, {"help": 3.0, "faith": 2.0}, "much longer"),
            ("s1", "c", None, {"help": 4.0, "faith": None}, "long"),
            ("s2", "a", 5.0, {"help": 5.0, "faith": 1.0}, "one"),
            ("s2", "b", 5.0, {"help": 4.0, "faith": 9.0}, "two!"),
        ],
    )


def test_preferences_are_held_against_reward_dimensions_and_baselines(run: Path, csv: Csv) -> None:
    found = agreement(csv("sample_id,preferred,other\ns1,a,b\ns1,c,a\ns2,b,a\n"), run)
    assert (found.kind, found.labels, found.samples) == ("preferences", 3, 2)
    values = {name: (a.accuracy.value, a.pairs, a.ties, a.unscored) for name, a in found.accuracies.items()}
    assert values == {
        "reward": (0.75, 2, 1, 1),
        "help": (pytest.approx(1 / 3), 3, 0, 0),
        "faith": (0.75, 2, 1, 1),
        "longer wins": (pytest.approx(1 / 3), 3, 0, 0),
        "first wins": (pytest.approx(1 / 3), 3, 0, 0),
    }


def test_ratings_of_several_people_are_averaged(run: Path, csv: Csv) -> None:
    found = agreement(csv("sample_id,candidate_id,rating\ns1,a,1\ns1,a,5\ns1,b,2\ns2,a,1\ns2,b,1\n"), run)
    assert found.kind == "ratings"
    assert (found.accuracies["reward"].accuracy.value, found.accuracies["reward"].pairs, found.alike) == (1.0, 1, 1)
    assert found.correlations["reward"].spearman.value == 1.0


def test_other_columns_and_blank_lines_are_passed_over(run: Path, csv: Csv) -> None:
    labels = csv('\ufeffannotator, sample_id ,preferred,other\r\n"x, y",s1,a,b\r\n\r\n,,,\r\n')
    assert agreement(labels, run).labels == 1


def test_without_the_data_there_is_no_longer_wins_and_it_is_said_why(run: Path, csv: Csv, capsys) -> None:
    (run.parent / "samples.jsonl").unlink()
    labels = csv("sample_id,preferred,other\ns1,a,b\n")
    found = agreement(labels, run)
    assert list(found.accuracies) == ["reward", "help", "faith", "first wins"]
    assert invoke(["bench", str(labels), "--run", str(run)]) == 0
    assert "\"longer wins\" is missing, since the run's data can't be read" in capsys.readouterr().out


def test_data_at_a_relative_path_is_found_again(project: Project, csv: Csv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROWS", "data.jsonl")
    project.write(project.pipeline(data={"type": "jsonl", "path": "${ROWS}"}, dimensions=["helpfulness"]))
    assert lrf.run(project.folder / "pipeline.yaml", runs=project.runs).status == "finished"
    found = agreement(csv("sample_id,preferred,other\nsample-0,c0,c1\n"), project.run_dir)
    assert found.without_lengths is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sample,prefered,other\ns1,a,b\n", "labels.csv:1: expected the columns sample_id,preferred,other or "),
        ("sample_id,prefered,other\ns1,a,b\n", "did you mean preferred?"),
        ("sample_id;preferred;other\ns1;a;b\n", "the columns must be separated by commas"),
        ("sample_id,preferred,other,rating,candidate_id\n", "columns of preferences and of ratings in one file"),
        ("sample_id,preferred,other,other\n", "labels.csv:1: the column 'other' is given twice"),
        ("", "got nothing"),
        ("sample_id,preferred,other\n", "no rows after the first line"),
        ("sample_id,candidate_id,rating\ns1,a,1_0\n", "labels.csv:2: rating: expected a finite number; got '1_0'"),
        ("sample_id,preferred,other\ns1,a\n", "labels.csv:2: expected 3 columns, as in the first line; got 2"),
        ("sample_id,preferred,other\ns1,a,\n", "labels.csv:2: other: empty"),
        ("sample_id,preferred,other\ns1,a,a\n", "labels.csv:2: other: the same candidate as preferred, 'a'"),
        ("sample_id,candidate_id,rating\ns1,a,good\n", "labels.csv:2: rating: expected a finite number; got 'good'"),
        ("sample_id,candidate_id,rating\ns1,a,nan\n", "labels.csv:2: rating: expected a finite number; got 'nan'"),
        ('sample_id,preferred,other\ns1,"a"x,b\n', "labels.csv:2: no valid CSV"),
        ("sample_id,preferred,other\ns1,a,b\ns11,a,b\n", "labels.csv:3: sample_id: the run has no sample 's11'; did"),
        ("sample_id,preferred,other\ns1,a,d\n", "labels.csv:2: other: sample 's1' has no candidate 'd' in the run"),
    ],
)
def test_a_mistake_in_the_labels_is_reported_with_its_place(run: Path, csv: Csv, capsys, text: str, says: str) -> None:
    assert invoke(["bench", str(csv(text)), "--run", str(run)]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert "Traceback" not in err


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(b"sample_id,preferred,other\n\xff,a,b\n")
    with pytest.raises(DataError, match="not UTF-8 text"):
        read_labels(tmp_path / "labels.csv")


@given(st.text(max_size=200))
def test_no_text_in_the_labels_ends_in_another_error(text: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.csv"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        for whole in (text, f"sample_id,preferred,other\n{text}"):
            path.write_bytes(whole.encode("utf-8", "surrogatepass"))
            with contextlib.suppress(DataError):
                read_labels(path)


def test_labels_of_what_the_run_does_not_have_can_be_left_out_and_are_counted(run: Path, csv: Csv, capsys) -> None:
    labels = str(csv("sample_id,preferred,other\ns1,a,b\nx,a,b\ns1,a,z\n"))
    assert invoke(["bench", labels, "--run", str(run), "--skip-unknown"]) == 0
    assert "1 preferences on 1 samples, 2 rows skipped: not in the run" in capsys.readouterr().out


def test_labels_none_of_which_is_of_the_run_are_those_of_another_one(run: Path, csv: Csv, capsys) -> None:
    labels = str(csv("sample_id,preferred,other\nx,a,b\ns1,a,z\n"))
    assert invoke(["bench", labels, "--run", str(run), "--skip-unknown"]) == 2
    assert "none of the 2 rows is of this run" in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, csv: Csv, capsys) -> None:
    assert invoke(["bench", str(csv("sample_id,preferred,other\ns,a,b\n")), "--run", str(tmp_path)]) == 2
    assert "expected a run directory with rewards" in capsys.readouterr().err


def test_the_command_as_json_carries_everything(run: Path, csv: Csv, capsys) -> None:
    labels = str(csv("sample_id,candidate_id,rating\ns1,a,5\ns1,b,2\ns2,a,1\ns2,b,3\n"))
    assert invoke(["bench", labels, "--run", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pairwise"]["reward"]["pairs"] == 2
    assert set(found["rank_correlation"]) == {"reward", "help", "faith", "longer wins", "first wins"}
    assert invoke(["bench", labels, "--run", str(run)]) == 0
    assert "SPEARMAN [95%]" in capsys.readouterr().out


LLMBAR = Path(os.environ.get("LRF_TEST_DATA", "/nowhere")) / "llmbar"


@pytest.mark.skipif(not LLMBAR.is_dir(), reason="LLMBar: LRF_TEST_DATA names no folder that has it")
@pytest.mark.parametrize("model", ["GPT-4", "ChatGPT"])
def test_real_judges_agree_with_llmbars_preferences_as_its_authors_found(tmp_path: Path, csv: Csv, model: str) -> None:
    rated = json.loads((LLMBAR / f"natural.{model}.Rating.result.json").read_text())
    stated = json.loads((LLMBAR / f"natural.{model}.Rating.statistics.json").read_text())
    rows, labels = [], ["sample_id,preferred,other"]
    for n, row in enumerate(rated):
        for side in ("1", "2"):
            reward = float(row["results"][0][f"score_{side}"][0])
            rows.append((str(n), side, reward, {"rating": reward}, row[f"output_{side}"]))
        labels.append(f"{n},{row['label']},{3 - row['label']}")
    found = agreement(csv("\n".join(labels)), make_run(tmp_path, rows))
    reward = found.accuracies["reward"]
    assert reward.pairs == 100
    # the authors ask in both orders, which decides a tie for each side once
    assert f"{100 * reward.accuracy.value:.1f}%" == stated["correct_average"]
    assert f"{100 - reward.ties} / 100" == stated["equal"].split(" = ")[0]
    assert found.accuracies["first wins"].accuracy.value == sum(row["label"] == 1 for row in rated) / 100
    assert reward.accuracy.low > found.accuracies["longer wins"].accuracy.value
