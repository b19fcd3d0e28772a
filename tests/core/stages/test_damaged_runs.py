"""What stands in a run's directory and is not what lrf left there: told with its place, never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

import lrf
from lrf.cli.main import invoke
from lrf.errors import RunError
from lrf.stages.run_dir import RunDir, fingerprint
from lrf.stages.score.rescore import rounds_of
from lrf.stages.score.rows import reward_rows
from project import Project

ROW = '{"sample_id": "s", "candidate_id": "c", "reward": 1, "ratings": {"d": null}, "unscored": null}'


@pytest.mark.parametrize("name", ["bad_rows.jsonl", "rewards.jsonl", "pairs.parquet"])
def test_a_folder_where_a_stage_writes_a_file_ends_the_run_with_a_summary(project: Project, name: str) -> None:
    (project.run_dir / name / "inside").mkdir(parents=True)
    summary = lrf.run(project.pipeline(), runs=project.runs)
    assert (summary.status, summary.exit_code) == ("failed", 1)
    assert f"{project.run_dir / name}: Is a directory; what is finished is kept" in summary.message
    assert '"status": "failed"' in (project.run_dir / "summary.json").read_text()
    (project.run_dir / name / "inside").rmdir()
    (project.run_dir / name).rmdir()
    assert lrf.run(project.pipeline(), runs=project.runs).status == "finished"


@pytest.mark.parametrize("name", ["pipeline.yaml", "log.jsonl", "summary.json"])
def test_a_folder_in_the_place_of_the_runs_own_files_is_reported(project: Project, name: str) -> None:
    (project.run_dir / name).mkdir(parents=True)
    with pytest.raises(RunError, match=rf"{name}: Is a directory; mend that"):
        lrf.run(project.pipeline(), runs=project.runs, last="data")


def test_a_plugins_fault_ends_the_run_with_a_summary_and_leaves_its_traceback_in_the_log(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lrf_pairs.best_worst import BestWorst

    def pair(*_: object) -> object:
        raise ZeroDivisionError("a plugin's fault")

    monkeypatch.setattr(BestWorst, "pair", pair)
    summary = lrf.run(project.pipeline(), runs=project.runs)
    assert summary.status == "failed"
    assert "ZeroDivisionError: a plugin's fault; " in summary.message
    assert "Traceback" in (project.run_dir / "log.jsonl").read_text()
    assert (project.run_dir / "summary.json").exists()


@pytest.mark.parametrize("text", ["- {name: [x]}", "3: {2020-01-01: x}", "dimensions: [{name: {}}]", "a: &a [*a]", "["])
def test_a_pipeline_of_the_run_that_somebody_changed_doesnt_stop_the_next_one(project: Project, text: str) -> None:
    project.run_dir.mkdir(parents=True)
    (project.run_dir / "pipeline.yaml").write_text(text)
    assert lrf.run(project.pipeline(), runs=project.runs, last="data").status == "finished"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("[1]", "no row of rewards"),
        (ROW.replace('"s"', "3"), "no row of rewards"),
        (ROW.replace("1", "true"), "no row of rewards"),
        (ROW.replace("1", "NaN"), "NaN is not a JSON value"),
        (ROW.replace('{"d": null}', '{"d": "x"}'), "no row of rewards"),
        (ROW.replace('"unscored": null', '"unscored": {}'), "no row of rewards"),
    ],
)
def test_a_line_that_is_no_row_of_rewards_is_named(tmp_path: Path, line: str, why: str) -> None:
    file = tmp_path / "rewards.jsonl"
    file.write_text(f"{ROW}\n{line}\n")
    rows = reward_rows(file)
    assert next(rows)["reward"] == 1
    with pytest.raises(RunError, match=rf"rewards\.jsonl:2: .*{why}"):
        next(rows)


def test_every_command_says_which_line_is_damaged(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.run_dir.mkdir(parents=True)
    (project.run_dir / "rewards.jsonl").write_bytes(b"\xff\n")
    labels = project.folder / "labels.csv"
    labels.write_text("sample_id,preferred,other\ns,a,b\n")
    pipeline, runs = str(project.write(project.pipeline())), str(project.runs)
    for command in (
        ["run", pipeline, "--runs", runs, "--from", "pairs"],
        ["rescore", pipeline, "--runs", runs, "--failed"],
        ["bench", str(labels), "--run", str(project.run_dir)],
    ):
        assert invoke(command) == 2, command
        assert "rewards.jsonl:1: not UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]", "3", '{"dimensions": 3, "failed": {}, "pending": null}', '{"failed": {}}'])
def test_a_damaged_record_of_rescoring_is_never_read_as_empty(tmp_path: Path, text: str) -> None:
    run = RunDir(tmp_path)
    assert rounds_of(run).dimensions == {}
    run.rescore.write_text(text)
    with pytest.raises(RunError, match=r"rescore\.json: damaged"):
        rounds_of(run)


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"fingerprint": "x"}', '{"fingerprint": "x", "files": 3}'])
def test_an_unreadable_record_means_that_the_stage_isnt_done(tmp_path: Path, text: str) -> None:
    record = RunDir(tmp_path).record("score")
    record.write(fingerprint(1), [], {"n": 1})
    assert record.last() == record.finished(fingerprint(1)) == {"n": 1}
    record.file.write_text(text)
    assert record.last() is record.finished("x") is None
