"""A run in this process: its stages, its files, how it ends, and what the next run of the same command does."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

import lrf
from judge_server import JudgeServer
from lrf.errors import ConfigError, RunError
from lrf.plugin.catalog import load_catalog
from lrf.stages import feeding
from lrf.stages.summary import RunSummary
from lrf.store.lock import RunLock
from project import Project, sample_row


def run(project: Project, pipeline: dict[str, Any] | None = None, **more: Any) -> RunSummary:
    return lrf.run(pipeline or project.pipeline(), runs=project.runs, **more)


def test_a_run_scores_every_candidate_and_makes_pairs(project: Project, judge_server: JudgeServer) -> None:
    summary = run(project)
    assert (summary.status, summary.exit_code, summary.message) == ("finished", 0, "")
    rewards = project.lines("rewards.jsonl")
    assert [(r["sample_id"], r["candidate_id"]) for r in rewards] == [
        (f"sample-{s}", f"c{c}") for s in range(3) for c in range(5)
    ]
    for row in rewards:
        assert row["unscored"] is None
        assert row["reward"] == pytest.approx(sum(row["ratings"].values()) / 2)
        assert list(row["ratings"]) == ["helpfulness", "logicality"]
    assert judge_server.books.calls == 30
    assert summary.stages["score"]["calls"] == 30


def test_all_four_dimensions_are_scored_with_evidence(project: Project, judge_server: JudgeServer) -> None:
    summary = run(project, project.with_evidence())
    assert summary.exit_code == 0
    texts = {json.loads(line)["id"]: json.loads(line)["context"] for line in project.data.read_text().splitlines()}
    for row in project.lines("judgements.jsonl"):
        judged = row["judgements"]
        assert list(judged) == ["helpfulness", "logicality", "faithfulness", "completeness"]
        assert judged["completeness"]["notes"]
        statements = judged["faithfulness"]["statements"]
        assert statements
        for statement in statements:
            assert statement["evidence"]
            for span in statement["evidence"]:
                assert span["document"] == "0"
                assert 0 <= span["start"] < span["end"] <= len(texts[row["sample_id"]])
    assert max(judge_server.books.embedded.values()) == 1
    assert judge_server.books.repeated == 0  # documents, notes and equal questions are paid for once


def test_files_are_in_the_order_of_the_data(project: Project, judge_server: JudgeServer) -> None:
    project.write_data(12)
    judge_server.delay_s = 0.02
    run(project)
    for name in ("rewards.jsonl", "judgements.jsonl"):
        ids = [row["sample_id"] for row in project.lines(name)]
        assert ids == [f"sample-{i}" for i in range(12) for _ in range(5)]
    assert judge_server.books.most_in_flight == 8


def test_every_sample_has_a_pair_or_a_reason(project: Project) -> None:
    project.write_data([sample_row(0), sample_row(1, candidates=3), {**sample_row(2), "candidates": []}])
    summary = run(project)
    assert summary.exit_code == 0
    pairs, left_out = project.lines("pairs.jsonl"), project.lines("left_out.jsonl")
    assert {row["sample_id"] for row in pairs} == {"sample-0"}
    assert [(row["sample_id"], bool(row["reason"])) for row in left_out] == [("sample-1", True), ("sample-2", True)]
    assert summary.stages["pairs"]["samples"] == 3


def test_pairs_are_in_the_format_that_trl_reads_with_the_rewards_beside(project: Project) -> None:
    import pyarrow.parquet as pq

    run(project)
    rewards = {(r["sample_id"], r["candidate_id"]): r for r in project.lines("rewards.jsonl")}
    pairs = project.lines("pairs.jsonl")
    assert pairs
    for row in pairs:
        assert [turn["role"] for turn in row["prompt"]] == ["user"]
        assert row["chosen"][0]["role"] == row["rejected"][0]["role"] == "assistant"
        assert row["chosen_reward"] > row["rejected_reward"]
        chosen = rewards[row["sample_id"], row["chosen_id"]]
        assert (chosen["reward"], chosen["ratings"]) == (row["chosen_reward"], row["chosen_ratings"])
        assert row["prompt"][0]["content"].endswith("name?")
    table = pq.read_table(project.run_dir / "pairs.parquet").to_pylist()
    assert [t["chosen"] for t in table] == [p["chosen"] for p in pairs]
    assert [dict(t["chosen_ratings"]) for t in table] == [p["chosen_ratings"] for p in pairs]


def test_messages_of_the_data_are_the_prompt_word_for_word(project: Project) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which <<question>>?"}]
    project.write_data([{**sample_row(0), "messages": messages}])
    run(project)
    (row,) = project.lines("pairs.jsonl")
    assert row["prompt"] == messages
    assert row["prompt_template_sha256"] is None


def test_a_run_leaves_a_summary_and_a_log_and_no_temporary_file(project: Project) -> None:
    summary = run(project)
    written = json.loads((project.run_dir / "summary.json").read_text())
    assert written["status"] == "finished"
    assert written["stages"]["data"]["candidates"] == written["stages"]["score"]["candidates"] == 15
    assert set(written["files"]) >= {"rewards", "judgements", "pairs", "left_out", "log", "summary"}
    assert all((project.run_dir / name).exists() for name in written["files"].values())
    assert summary.run_dir == project.run_dir
    events = [row["event"] for row in project.lines("log.jsonl")]
    assert (events[0], events[-1]) == ("run started", "run ended")
    assert not [p.name for p in project.run_dir.rglob("*.partial")]


def test_a_second_run_asks_nobody_and_changes_nothing(project: Project, judge_server: JudgeServer) -> None:
    run(project, project.with_evidence())
    before, calls, embedded = project.files(), judge_server.books.calls, judge_server.books.embedded.total()
    summary = run(project, project.with_evidence())
    assert summary.exit_code == 0
    assert summary.changed == []
    assert project.files() == before
    assert judge_server.books.calls == calls
    assert judge_server.books.embedded.total() == embedded
    score = json.loads((project.run_dir / "summary.json").read_text())["stages"]["score"]
    assert score["skipped"]
    assert score["skipped_because"] == "finished by an earlier run, with the same data, settings and files"
    assert (score["calls"], score["prompt_tokens"], score["embedding_calls"], score["by_dimension"]) == (0, 0, 0, {})
    assert score["all_sittings"]["calls"] == calls


@pytest.mark.parametrize("name", ["rewards.jsonl", "judgements.jsonl", "pairs.jsonl", "left_out.jsonl"])
def test_a_file_that_was_lost_or_touched_is_made_again(project: Project, judge_server: JudgeServer, name: str) -> None:
    run(project)
    before, calls = project.files(), judge_server.books.calls
    (project.run_dir / name).write_text("scribble")
    assert run(project).exit_code == 0
    assert project.files() == before
    assert judge_server.books.calls == calls


def test_another_aggregator_costs_no_call_and_is_reported(project: Project, judge_server: JudgeServer) -> None:
    run(project)
    before, calls = project.lines("rewards.jsonl"), judge_server.books.calls
    summary = run(project, project.pipeline(aggregator="minimum"))
    assert any("aggregator" in change and "minimum" in change for change in summary.changed)
    assert judge_server.books.calls == calls
    for old, new in zip(before, project.lines("rewards.jsonl"), strict=True):
        assert new["ratings"] == old["ratings"]
        assert new["reward"] == min(old["ratings"].values())


def test_a_new_dimension_costs_its_own_calls_only(project: Project, judge_server: JudgeServer) -> None:
    run(project, project.pipeline(dimensions=["helpfulness"]))
    calls = judge_server.books.calls
    summary = run(project)
    assert any("dimensions" in change for change in summary.changed)
    assert judge_server.books.calls == calls + 15
    assert judge_server.books.repeated == 0


def test_new_data_costs_its_own_calls_only(project: Project, judge_server: JudgeServer) -> None:
    run(project)
    project.write_data(4)
    summary = run(project)
    assert summary.stages["score"]["samples"] == 4
    assert judge_server.books.calls == 40
    assert judge_server.books.repeated == 0


def test_a_document_that_changed_is_scored_anew(project: Project, judge_server: JudgeServer) -> None:
    rows = [sample_row(i) for i in range(3)]
    rows[1]["context"] = {"path": "document.txt"}
    (project.folder / "document.txt").write_text("The first version of the document. " * 20)
    project.write_data(rows)
    pipeline = project.with_evidence()
    run(project, pipeline)
    before, calls = project.files(), judge_server.books.calls
    (project.folder / "document.txt").write_text("Another version of the document. " * 20)
    run(project, pipeline)
    assert judge_server.books.calls > calls
    assert project.files()["judgements.jsonl"] != before["judgements.jsonl"]


def test_a_judges_address_is_no_part_of_its_replies(project: Project, judge_server: JudgeServer) -> None:
    pipeline = project.pipeline()
    run(project, pipeline)
    pipeline["judges"]["main"].update(base_url=judge_server.base_url.replace("127.0.0.1", "localhost"))
    run(project, pipeline)
    assert judge_server.books.calls == 30


@pytest.mark.parametrize("kind", ["judges", "retrievers", "embedders"])
def test_another_judge_retriever_or_embedder_of_the_same_name_is_noticed(project: Project, kind: str) -> None:
    """All three are called main: each counts."""
    project.write_data(1, candidates=1)
    pipeline = project.with_evidence(dimensions=["faithfulness"], pairs=None)
    before = run(project, pipeline)
    assert before.exit_code == 0
    change = {"chunk_tokens": 128} if kind == "retrievers" else {"model": "another"}
    pipeline[kind]["main"] |= change
    after = run(project, pipeline)
    assert len(after.changed) == 1
    assert after.stages["score"]["score_seconds"] != before.stages["score"]["score_seconds"]
    assert after.stages["score"]["calls" if kind == "judges" else "embedding_calls"] > 0
    assert run(project, pipeline).results["score"].skipped


def test_until_score_makes_no_pairs_and_from_pairs_scores_nothing(project: Project, judge_server: JudgeServer) -> None:
    run(project, last="score")
    assert not (project.run_dir / "pairs.jsonl").exists()
    calls = judge_server.books.calls
    assert run(project, first="pairs").exit_code == 0
    assert (project.run_dir / "pairs.jsonl").exists()
    assert judge_server.books.calls == calls


async def test_until_data_pays_nothing_also_inside_a_running_event_loop(
    project: Project, judge_server: JudgeServer
) -> None:
    summary = run(project, last="data")
    assert summary.stages["data"]["samples"] == 3
    assert judge_server.books.calls == 0


def test_pairs_without_rewards_say_what_to_run_first(project: Project) -> None:
    summary = run(project, first="pairs")
    assert summary.exit_code == 1
    assert "rewards.jsonl is not there; run the stage before first (`--from score`)" in summary.message


@pytest.mark.parametrize(
    ("rows", "named"), [(2, "sample-2"), (4, "sample-3"), ([sample_row(n) for n in (7, 8, 9)], "sample-7")]
)
def test_pairs_of_other_data_than_the_rewards_are_refused(project: Project, rows: Any, named: str) -> None:
    run(project, last="score")
    project.write_data(rows)
    summary = run(project, first="pairs")
    assert summary.exit_code == 1
    assert "doesn't belong to this data" in summary.message
    assert named in summary.message


def test_a_pipeline_without_scoring_pairs_by_source(project: Project, judge_server: JudgeServer) -> None:
    row = sample_row(0)
    for candidate, source in zip(row["candidates"], ("strong", "weak", "x", "x", "x"), strict=True):
        candidate["source"] = source
    project.write_data([row])
    pairs = {"type": "contrast", "strong": "strong", "weak": "weak"}
    summary = run(project, project.pipeline(dimensions=None, judges=None, pairs=pairs))
    assert summary.exit_code == 0, summary.message
    assert judge_server.books.calls == 0
    assert [(p["chosen_id"], p["rejected_id"]) for p in project.lines("pairs.jsonl")] == [("c0", "c1")]


def test_a_stage_that_the_pipeline_lacks_can_not_be_run(project: Project) -> None:
    with pytest.raises(ConfigError, match="this pipeline has: data, score, pairs"):
        run(project, first="train")


def bad_rows() -> list[Any]:
    return [sample_row(0), '{"id": "half', {**sample_row(1), "query": ""}, sample_row(2), sample_row(0)]


def test_a_bad_row_stops_the_run_before_any_cost_and_is_named(project: Project, judge_server: JudgeServer) -> None:
    project.write_data(bad_rows())
    summary = run(project)
    assert summary.exit_code == 2
    for line in (2, 3, 5):
        assert f"data.jsonl:{line}: " in summary.message
    assert "on_bad_row: skip" in summary.message
    assert judge_server.books.calls == 0


def test_skipped_rows_are_counted_and_listed_and_the_rest_is_scored(project: Project) -> None:
    project.write_data(bad_rows())
    pipeline = project.pipeline()
    pipeline["data"]["on_bad_row"] = "skip"
    summary = run(project, pipeline)
    assert summary.exit_code == 0, summary.message
    data = summary.stages["data"]
    assert (data["rows"], data["samples"], data["bad_rows"]) == (5, 2, 3)
    assert [row["line"] for row in project.lines("bad_rows.jsonl")] == [2, 3, 5]
    assert {r["sample_id"] for r in project.lines("rewards.jsonl")} == {"sample-0", "sample-2"}


def test_data_that_is_empty_or_not_there_is_named(project: Project) -> None:
    project.write_data([])
    empty = run(project)
    project.data.unlink()
    missing = run(project)
    assert empty.exit_code == missing.exit_code == 2
    assert "no sample in the data" in empty.message
    assert str(project.data) in missing.message


def test_more_unscored_than_allowed_is_exit_3_with_the_reasons(project: Project, judge_server: JudgeServer) -> None:
    judge_server.fault("garbage", times=None, when=lambda prompt: "c of" in prompt or "101 euros" in prompt)
    summary = run(project)
    assert summary.exit_code == 3
    assert "max_unscored: 0.05" in summary.message
    assert "\n  helpfulness: no_rating (1)\n    such as candidate c1 of sample sample-0: " in summary.message
    assert "asked 5 times; the last reply: " in summary.message
    assert "`rating: json`" in summary.message
    assert "`lrf rescore PIPELINE --failed`" in summary.message
    unscored = [r for r in project.lines("rewards.jsonl") if r["reward"] is None]
    assert [(r["sample_id"], r["candidate_id"], r["unscored"]["reason"]) for r in unscored] == [
        ("sample-0", "c1", "no_rating")
    ]
    assert len(project.lines("rewards.jsonl")) == 15


def test_unscored_rows_within_the_limit_let_the_run_finish(project: Project, judge_server: JudgeServer) -> None:
    judge_server.fault("garbage", times=None, when=lambda prompt: "101 euros" in prompt)
    summary = run(project, project.pipeline(max_unscored=0.1))
    assert summary.exit_code == 0
    counts = summary.stages["score"]
    assert counts["scored"] + counts["unscored"] == counts["candidates"] == 15
    assert counts["unscored"] == 1


def test_what_failed_for_a_while_is_asked_again_by_the_next_run_and_nothing_else(
    project: Project, judge_server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lrf.http.backoff.FIRST_S", 0.0)
    judge_server.fault("html", times=None, when=lambda prompt: "101 euros" in prompt)
    assert run(project).exit_code == 3
    calls = judge_server.books.calls
    judge_server.faults.clear()
    assert run(project).exit_code == 0
    assert judge_server.books.calls == calls + 2
    assert all(r["reward"] is not None for r in project.lines("rewards.jsonl"))


def test_rate_limits_and_faults_that_pass_change_nothing_in_the_files(
    project: Project, judge_server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lrf.http.backoff.FIRST_S", 0.01)
    run(project)
    undisturbed = project.files()
    project.runs = project.folder / "disturbed"
    for kind, times in (("429", 20), ("503", 3), ("html", 3), ("break", 3), ("429", 5)):
        judge_server.fault(kind, times)
    summary = run(project)
    assert summary.exit_code == 0, summary.message
    assert project.files() == undisturbed
    assert summary.stages["score"]["faults"] > 25


def test_a_judge_that_can_not_work_stops_the_run_with_what_to_do(
    project: Project, judge_server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    judge_server.fault("401", times=None)
    summary = run(project)
    assert summary.exit_code == 2
    assert summary.status == "failed"
    assert "OPENAI_API_KEY" in summary.message
    assert project.lines("rewards.jsonl") == []


def test_a_server_that_is_not_there_stops_the_run(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrf.engine.retries.PATIENCE_BEFORE_ANY_REPLY_S", 0.2)
    pipeline = project.pipeline()
    pipeline["judges"]["main"]["base_url"] = "http://127.0.0.1:9/v1"
    summary = run(project, pipeline)
    assert summary.exit_code == 1
    assert "judges.main has served nothing" in summary.message
    assert "same command" in summary.message


@pytest.mark.parametrize("error", [RunError("the disk is gone"), ValueError("a plugin's own")])
def test_a_source_that_breaks_off_stops_the_run_and_what_is_paid_for_is_kept(
    project: Project, judge_server: JudgeServer, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    whole = feeding.samples

    async def broken(source: Any) -> AsyncIterator[Any]:
        async for row in whole(source):
            if row[0] == 2:
                raise error
            yield row

    monkeypatch.setattr(feeding, "samples", broken)
    summary = run(project)
    assert summary.exit_code == (error.exit_code if isinstance(error, RunError) else 1)
    assert str(error) in summary.message
    assert "of 3 samples are scored and kept" in summary.message
    monkeypatch.undo()
    assert run(project).exit_code == 0
    assert judge_server.books.calls == 30  # what was in flight was finished, and isn't paid for again


def test_a_budget_stops_the_run_and_a_higher_one_finishes_it(project: Project, judge_server: JudgeServer) -> None:
    run(project)
    undisturbed = project.files()
    project.runs = project.folder / "budgeted"
    judge_server.books.asked.clear()
    summary = run(project, project.pipeline(budget={"calls": 12}))
    assert (summary.exit_code, summary.status) == (4, "stopped")
    assert "12 calls" in summary.message
    assert "samples are scored and kept" in summary.message
    assert judge_server.books.calls == 12
    partial = project.lines("rewards.jsonl")
    assert len(partial) in (0, 5)
    summary = run(project, project.pipeline(budget={"calls": 30}))
    assert summary.exit_code == 0
    assert judge_server.books.calls == 30
    assert project.files() == undisturbed


def test_a_second_run_at_the_same_time_is_refused(project: Project) -> None:
    project.run_dir.mkdir(parents=True)
    with RunLock(project.run_dir), pytest.raises(RunError, match="is in use by"):
        run(project)


def test_a_journal_that_can_not_be_used_is_exit_2_and_left_alone(project: Project) -> None:
    project.run_dir.mkdir(parents=True)
    (project.run_dir / "journal.sqlite").write_text("scribble" * 1000)
    summary = run(project)
    assert summary.exit_code == 2
    assert "journal.sqlite can't be used as a journal" in summary.message
    assert (project.run_dir / "journal.sqlite").read_text() == "scribble" * 1000


def test_the_resolved_pipeline_runs_unchanged(project: Project, judge_server: JudgeServer) -> None:
    run(project)
    calls = judge_server.books.calls
    summary = lrf.run(project.run_dir / "pipeline.yaml", runs=project.runs)
    assert summary.exit_code == 0
    assert summary.changed == []
    assert judge_server.books.calls == calls


def test_versions_and_seed_are_kept(project: Project) -> None:
    run(project, project.pipeline(seed=7))
    versions = json.loads((project.run_dir / "versions.json").read_text())
    assert versions["seed"] == 7
    assert versions["lrf"] == lrf.__version__
    assert "lrf" in versions["plugins"]["judge openai"]


def test_progress_is_reported_with_counts_that_end_at_the_whole(project: Project) -> None:
    told: list[Any] = []
    run(project, report=told.append)
    score = [p for p in told if p["stage"] == "score" and "samples" in p]
    assert score[-1]["samples"] == score[-1]["of_samples"] == 3
    assert score[-1]["candidates"] == 15
    assert [p["stage"] for p in told if p.get("event") == "begins"] == ["data", "score", "pairs"]


def test_an_observer_that_was_detached_hears_nothing_for_the_rest_of_the_run(
    project: Project, distribute: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    monkeypatch.setattr("builtins.heard", heard, raising=False)
    source = """
        from lrf import hookimpl

        @hookimpl
        def lrf_run_started():
            heard.append("started")

        @hookimpl
        def lrf_sample_scored(sample_id):
            heard.append(sample_id)
            raise ValueError("no more")

        @hookimpl
        def lrf_run_finished():
            heard.append("finished")
    """
    distribute("listening", entry_points={"listening": "listening"}, modules={"listening": source})
    load_catalog.cache_clear()
    try:
        assert run(project).exit_code == 0
    finally:
        load_catalog.cache_clear()
    assert heard[0] == "started"
    assert len(heard) == 2
    (event,) = [row for row in project.lines("log.jsonl") if row["event"] == "observer detached"]
    assert "lrf_sample_scored raised ValueError: no more" in event["reason"]


def test_pairs_of_other_rewards_do_not_stay_beside_new_ones(project: Project) -> None:
    assert run(project).exit_code == 0
    assert (project.run_dir / "pairs.jsonl").exists()
    changed = project.pipeline(dimensions=["helpfulness"])
    assert run(project, changed, last="score").exit_code == 0
    assert not (project.run_dir / "pairs.jsonl").exists()
    assert run(project, changed).exit_code == 0
    assert len(project.lines("pairs.jsonl")) + len(project.lines("left_out.jsonl")) == 3


def test_processes_that_cannot_share_the_training_are_reported_first(
    project: Project, judge_server: JudgeServer
) -> None:
    train = {"type": "dpo", "init": {}, "global_batch": 16}
    launcher = {"type": "torchrun", "nproc_per_node": 5}
    with pytest.raises(ConfigError, match=r"what would fit: global_batch: 15 or 20, or 4 processes"):
        lrf.run(project.pipeline(train=train, launcher=launcher), runs=project.runs)
    assert judge_server.books.calls == 0
