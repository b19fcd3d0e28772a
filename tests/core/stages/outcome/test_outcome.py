"""`lrf.load_run` and `lrf show`: what a run made, joined with its texts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lrf
from judge_server import JudgeServer
from lrf.cli.main import invoke
from lrf.errors import RunError
from lrf.stages.outcome.closest import Sentences
from lrf.stages.outcome.joined import ScoredSample
from lrf.stages.score.rows import judgement_json, judgement_of
from lrf.types import (
    Candidate,
    Document,
    JudgedStatement,
    Judgement,
    Note,
    Quotation,
    Reward,
    Sample,
    Span,
    Unscored,
    Vote,
)
from project import Project

numbers = st.floats(0, 10)
spans = st.builds(Span, st.text(), st.integers(0, 9), st.integers(10, 99))
votes = st.builds(Vote, st.text(), st.integers(0, 3), numbers, st.text())
statements = st.builds(
    JudgedStatement, st.text(), st.text(), st.floats(0, 1), st.lists(spans).map(tuple), st.none() | st.text(),
    st.none() | st.dictionaries(st.text(), st.floats(0, 1), min_size=1), st.lists(votes).map(tuple),
    st.lists(st.builds(Quotation, st.text(), st.none() | spans, st.floats(0, 1))).map(tuple),
    st.sampled_from([None, "unsupported", "not_retrieved"]),
)  # fmt: skip
judgements = st.builds(
    Judgement, numbers, st.none() | st.text(), st.none() | st.text(), st.lists(statements, max_size=3).map(tuple),
    st.lists(st.builds(Note, spans, st.none() | st.text()), max_size=3).map(tuple),
    st.dictionaries(st.text(), st.integers()), st.none() | numbers, st.lists(votes).map(tuple),
    st.dictionaries(st.text(), st.floats(0, 1)),
)  # fmt: skip


@given(judgements)
def test_a_judgement_is_read_back_as_it_was_written(judgement: Judgement) -> None:
    assert judgement_of(json.loads(json.dumps(judgement_json(judgement)))) == judgement


@pytest.fixture
def scored(project: Project) -> Project:
    assert invoke(["run", str(project.write(project.with_evidence())), "--runs", str(project.runs)]) == 0
    return project


def test_every_candidate_comes_with_its_texts_and_in_its_rank(scored: Project) -> None:
    run = lrf.load_run(scored.run_dir)
    samples = list(run)
    rewards = {(r["sample_id"], r["candidate_id"]): r["reward"] for r in scored.lines("rewards.jsonl")}
    assert [s.id for s in samples] == ["sample-0", "sample-1", "sample-2"]
    assert {(s.id, c.id): c.reward.reward for s in samples for c in s.candidates} == rewards
    assert run["sample-1"].candidate("c2").text == "Contract 200 names a fee of 202 euros. It was signed in 200."
    for sample in samples:
        values = [c.reward.reward or 0 for c in sample.candidates]
        assert values == sorted(values, reverse=True)
        assert [c.rank for c in sample.candidates] == [1 + sum(v > mine for v in values) for mine in values]
        for judgement in (j for c in sample.candidates for j in c.reward.judgements.values()):
            assert isinstance(judgement, Judgement)
            for statement in judgement.statements:
                place = sample.closest(statement)
                assert place is None or sample.words(place) in sample.sample.documents[0].text
    assert "3 samples, 15 candidates" in repr(run)
    assert "c2" in samples[0]._repr_html_()


def test_a_run_is_a_table_of_candidates_and_one_of_statements(scored: Project) -> None:
    run = lrf.load_run(scored.run_dir)
    candidates, statements = run.to_arrow(), run.to_arrow("statements")
    assert candidates.column("reward").to_pylist() == [r["reward"] for r in scored.lines("rewards.jsonl")]
    assert candidates.column("rating_faithfulness").null_count == 0
    counted = sum(len(r["judgements"]["faithfulness"].get("statements", ())) for r in scored.lines("judgements.jsonl"))
    assert statements.num_rows == counted > 0
    documents = [s.sample.documents[0].text for s in run]
    for words in (w for row in statements.column("evidence").to_pylist() for w in row):
        assert any(words in document for document in documents)


def test_a_run_without_its_data_still_tells_the_reasons(
    scored: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = tmp_path / "copied"
    shutil.copytree(scored.run_dir, elsewhere)
    kept = scored.data.read_text(encoding="utf-8")
    scored.data.unlink()
    run = lrf.load_run(elsewhere)
    assert run.without_texts is not None
    assert "data.jsonl" in run.without_texts
    assert sum(len(s.candidates) for s in run) == 15
    assert invoke(["show", str(elsewhere), "sample-0", "c0"]) == 0
    assert "texts are missing" in capsys.readouterr().err
    scored.data.write_text(kept.replace('"c4"', '"other"'), encoding="utf-8")
    with pytest.raises(RunError, match="sample 'sample-0' has other candidates"):
        list(lrf.load_run(elsewhere))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"\xff\xfe{}", "not UTF-8"),
        (b'{"sample_id": "sample-0", "candidate_id": "c0", "judgements": {"faithfulness": {"rating": "much"}}}',
         "no row of judgements: rating"),
        (b'{"sample_id": "x", "candidate_id": "c0", "judgements": {}}', "doesn't belong to rewards.jsonl"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named_with_its_line(
    scored: Project, line: bytes, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rest = (scored.run_dir / "judgements.jsonl").read_bytes().split(b"\n")[1:]
    (scored.run_dir / "judgements.jsonl").write_bytes(b"\n".join([line, *rest]))
    assert invoke(["show", str(scored.run_dir)]) == 2
    assert why in capsys.readouterr().err


def test_an_unscored_candidate_is_shown_last_with_the_judges_words_and_what_helps(
    project: Project, judge_server: JudgeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    judge_server.fault("garbage", times=None)
    project.write_data(1)
    pipeline = project.write(project.pipeline(max_unscored=1.0, pairs=None))
    assert invoke(["run", str(pipeline), "--runs", str(project.runs)]) == 0
    capsys.readouterr()
    assert invoke(["show", str(project.run_dir), "sample-0", "c1"]) == 0
    out = capsys.readouterr().out
    assert "I'm sorry, I can't rate this." in out
    assert "`lrf rescore PIPELINE --failed` asks again" in out
    assert invoke(["show", str(project.run_dir), "sample-0", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [c["rank"] for c in facts["candidates"]] == [None] * 5
    assert "rescore" in facts["candidates"][0]["unscored"]["help"]


def test_what_does_not_exist_is_named_with_what_does(scored: Project, capsys: pytest.CaptureFixture[str]) -> None:
    for args, why in (
        (["sample-9"], "no sample 'sample-9'; did you mean sample-"),
        (["sample-0", "c9"], "its candidates: 'c"),
    ):
        assert invoke(["show", str(scored.run_dir), *args]) == 2
        assert why in capsys.readouterr().err
    assert invoke(["show", str(scored.folder)]) == 2
    assert "rewards.jsonl is not there" in capsys.readouterr().err


def test_two_runs_of_other_settings_are_compared(scored: Project, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = scored.run_dir, scored.runs / "again"
    again = scored.with_evidence(name="again", seed=1, aggregator="minimum")
    assert invoke(["run", str(scored.write(again)), "--runs", str(scored.runs)]) == 0
    capsys.readouterr()
    assert invoke(["compare", str(before), str(after), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    rewards = [
        {(r["sample_id"], r["candidate_id"]): r["reward"] for r in map(json.loads, (run / "rewards.jsonl").open())}
        for run in (before, after)
    ]
    changes = [rewards[1][key] - rewards[0][key] for key in rewards[0]]
    assert found["differences"]["reward"]["mean"] == pytest.approx(sum(changes) / 15)
    assert any(line.startswith("aggregator") for line in found["settings"])
    assert (found["samples"], found["candidates"], found["only_in_run"]) == (3, 15, 0)
    sizes = [abs(m["reward"] - m["before"]) for m in found["moved"]]
    assert sizes == sorted(sizes, reverse=True)
    assert max(map(abs, changes)) == pytest.approx(sizes[0])
    assert invoke(["compare", str(before), str(before)]) == 0
    assert "the settings are the same" in capsys.readouterr().out


def test_figures_count_what_the_files_have(scored: Project) -> None:
    run = lrf.load_run(scored.run_dir)
    figures = run.figures()
    for sample in run:
        figures.add(sample)
    found = figures.as_json()
    rows = scored.lines("rewards.jsonl")
    for name in ("helpfulness", "faithfulness"):
        ratings = [row["ratings"][name] for row in rows]
        assert found["histograms"][f"rating: {name}"]["mean"] == pytest.approx(sum(ratings) / 15, abs=0.001)
        assert sum(found["histograms"][f"rating: {name}"]["bins"]) == 15
    calls = run.summary["stages"]["score"]
    by_dimension = found["calls"]["by_dimension"].values()
    assert sum(one["replies"] for one in by_dimension) == calls["calls"]
    assert sum(one["prompt_tokens"] for one in by_dimension) == calls["prompt_tokens"]
    assert sum(bin_["calls"] for bin_ in found["calls"]["over_time"]) == calls["calls"]
    assert found["equal_pairs"]["pairs"] == 30
    assert sum(found["margins"]) == 3


def explained() -> tuple[Sample, Reward]:
    text = "The council met on 3 May. It closed the tram line by seven votes to two. The depot was sold."
    sample = Sample("tram", "How?", (Document("0", text),), (Candidate("b", "It kept the line."),))
    statement = JudgedStatement("It kept the tram line.", "No support", 0.0, (Span("0", 0, len(text)),))
    judged: dict[str, Any] = {
        "helpfulness": Judgement(8.0, "Brief."),
        "faithfulness": Judgement(0.0, statements=(statement,)),
        "logicality": Unscored("logicality", "no_rating", "the reply has no rating"),
    }
    ratings = {"helpfulness": 8.0, "faithfulness": 0.0, "logicality": None}
    return sample, Reward("tram", "b", None, ratings, judged["logicality"], judged)


def test_a_reward_explains_itself_the_costliest_first() -> None:
    sample, reward = explained()
    text = reward.explain(sample)
    assert text.index("logicality: unscored") < text.index("faithfulness: 0.00") < text.index("helpfulness: 8.00")
    assert "[No support] It kept the tram line.\n      The council met" in text
    assert "seven votes" not in reward.explain()


@pytest.mark.parametrize(
    ("statement", "text", "closest"),
    [
        ("It kept the tram line.", "They met. It closed the tram line, e.g. for 3.5 years. So.",
         "It closed the tram line, e.g. for 3.5 years."),
        ("委员会关闭了电车。", "五月三日开会。委员会关闭了电车线路！车库出售。", "委员会关闭了电车线路！"),
        ("A line that is\nwrapped", "Other.\nThe line that is\n  wrapped\nNext line", "The line that is\n  wrapped"),
        ("nothing alike", "Qqq zzz.", None),
    ],
)  # fmt: skip
def test_the_sentence_most_like_a_statement_is_found(statement: str, text: str, closest: str | None) -> None:
    span = Sentences({"d": text}).closest(statement, [Span("d", 0, len(text))])
    assert (span and text[span.start : span.end]) == closest


def test_hostile_texts_reach_the_terminal_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    from lrf.cli.reasons_shown import show_sample

    sample = Sample("\x1b[2J", "\x1b]0;x\x07", (), (Candidate("[bold]\u202e", "\x1b[31m[/]{{x}}"),))
    odd = {"items": [1, {"item": "o"}, {"item": "i", "weight": 1, "score": 0.5}, {"item": "o", "weight": "x"}]}
    judgement = Judgement(1.0, "\x9b2J [red]", reply_mode="rubric", extra=odd)
    reward = Reward(sample.id, "[bold]\u202e", 1.0, {"d": 1.0}, None, {"d": judgement})
    one = ScoredSample.of(sample, [reward])
    show_sample(one, one.candidates, full=True)
    out = capsys.readouterr().out
    assert not any(c in out for c in "\x1b\x07\x9b\u202e")
    assert "[red]" in out
    assert "[bold]" in out
    assert "0.50 i (weight 1)" in out
