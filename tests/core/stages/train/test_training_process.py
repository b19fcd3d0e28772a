"""What the process of a training does and says, in this process: its channel's lines, and its exit code."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lrf
from judge_server import JudgeServer
from lrf.plugin.catalog import load_catalog
from lrf.stages import child_process
from lrf.stages.channel import Channel
from lrf.stages.run_dir import RunDir
from lrf.stages.train import worker
from lrf.text.redaction import hide
from project import Project

DRILL = """
from lrf import ComponentSpec, StageError, hookimpl
from lrf.protocols import Answers, TrainingResult
from lrf.settings import Shares, TrainerSettings

class Config(TrainerSettings):
    does: str = "train"
    of: str = "pairs"
    @property
    def reads(self):
        return (self.of,)
    def shares(self, world):
        return Shares()

class Drill:
    def __init__(self, config):
        self.does = config.does

    def train(self, job):
        job.report({"loss": 0.5, "note": "half done", "key": "sk-of-the-drill"})
        checkpoint = job.output / "checkpoint"
        if self.does == "nothing":
            return TrainingResult(checkpoint, {})
        checkpoint.mkdir(parents=True, exist_ok=True)
        errors = {"refuse": StageError("no, sk-of-the-drill"), "crash": ValueError("odd"), "stop": KeyboardInterrupt(),
                  "full": OSError(28, "No space left on device")}
        if self.does in errors:
            raise errors[self.does]
        if job.rewards:
            answers = [Answers(1, ["A fee of 400 euros.", "No fee."], "a")]
            self.does = str([reward.candidate_id for reward in job.rewards.score(answers)[0]])
        return TrainingResult(checkpoint, {"rank": job.rank, "world": job.world, "did": self.does})

@hookimpl
def lrf_register_trainers():
    target, settings = "drilling:Drill", "drilling:Config"
    online = ComponentSpec("online", target, settings, "Asks for rewards.", rewards=True)
    return [ComponentSpec("drill", target, settings, "Drills."), online]
"""
STAGE = "lrf.stages.train.stage:TrainStage"


@pytest.fixture
def run(tmp_path: Path, distribute: Any) -> Iterator[RunDir]:
    """A run with pairs, whose trainer is a distribution's."""
    distribute("drilling", entry_points={"drilling": "drilling"}, modules={"drilling": DRILL})
    load_catalog.cache_clear()
    hide("sk-of-the-drill", "DRILL_KEY")
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    run.pairs.write_text('{"prompt": [], "chosen": [], "rejected": []}\n')
    yield run
    load_catalog.cache_clear()


def started(run: RunDir, does: str = "train", *options: str, by_launcher: bool = False) -> tuple[int, list[Any]]:
    """The exit code and the messages of a training's process, that of the stage or one that a launcher started."""
    run.pipeline.write_text(json.dumps({"name": "run", "train": {"type": "drill", "does": does}}))
    out = io.StringIO()
    if by_launcher:
        code = worker.main(str(run.path), str(run.path.parent), Channel(out))
    else:
        code = child_process.main(Channel(out), str(run.path), STAGE, str(run.path.parent), *options)
    return code, [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_stage_reports_trains_and_is_finished(run: RunDir) -> None:
    code, said = started(run)
    assert code == 0
    progress = [message["progress"] for message in said if "progress" in message]
    assert "train: half done" in [part.get("note") for part in progress]
    assert {"loss": 0.5, "key": "${DRILL_KEY}"} in [part.get("figures") for part in progress]
    trained = said[-1]["result"]
    assert (trained["checkpoint"], trained["launcher"], trained["world"]) == ("policy/drill/checkpoint", "local", 1)
    assert "sk-of-the-drill" not in run.log.read_text()
    code, said = started(run)
    assert said[-1]["result"]["skipped"]


@pytest.mark.parametrize("by_launcher", [False, True], ids=["stage", "worker"])
@pytest.mark.parametrize(
    ("does", "code", "error"),
    [
        ("refuse", 1, "no, ${DRILL_KEY}"),
        ("stop", 130, "was stopped"),
        ("full", 1, "No space left on device"),
        ("nothing", 1, "which is not there"),
        ("crash", 1, None),
    ],
)
def test_what_a_trainer_raises_is_the_last_message_but_a_fault_of_its_code_is_printed(
    run: RunDir, does: str, code: int, error: str | None, by_launcher: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    ended, said = started(run, does, by_launcher=by_launcher)
    assert ended == code
    if error is None:
        assert "ValueError: odd" in capsys.readouterr().err
        assert all("progress" in message for message in said)
    else:
        assert error in said[-1]["error"]
        assert said[-1]["exit_code"] == code


def test_a_rank_that_is_not_the_first_says_what_it_made_of_its_part(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("RANK", "1"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    code, said = started(run, by_launcher=True)
    assert code == 0
    assert (said[-1]["result"]["rank"], said[-1]["result"]["world"]) == (1, 2)


@pytest.mark.parametrize(
    ("pairs", "code", "error"),
    [(None, 1, "run the stage before first (`--from pairs`)"), ("", 3, "left_out.jsonl says why")],
    ids=["none", "empty"],
)
def test_pairs_that_are_missing_or_empty_are_said_to_be(run: RunDir, pairs: str | None, code: int, error: str) -> None:
    run.pairs.unlink() if pairs is None else run.pairs.write_text(pairs)
    ended, said = started(run)
    assert ended == said[-1]["exit_code"] == code
    assert error in said[-1]["error"]


def test_a_policy_of_other_settings_is_replaced_only_where_that_is_asked_for(run: RunDir) -> None:
    started(run, "refuse")
    assert started(run, "train")[1][-1]["exit_code"] == 2
    assert started(run, "train", "--replace")[0] == 0


def test_a_pipeline_without_the_stage_is_refused(run: RunDir) -> None:
    run.pipeline.write_text(json.dumps({"name": "run"}))
    out = io.StringIO()
    assert worker.main(str(run.path), str(run.path.parent), Channel(out)) == 1
    assert "has no `train:` block" in out.getvalue()
    assert child_process.main(Channel(out), str(run.path), STAGE, str(run.path.parent)) == 1
    assert "has no stage train" in out.getvalue()


def test_a_trainer_of_scored_answers_gets_them_with_their_prompts_unless_the_rewards_are_of_other_data(
    run: RunDir, project: Project
) -> None:
    drill = {"type": "drill", "of": "scored"}
    assert lrf.run(project.pipeline(train=drill, pairs=None), runs=project.runs, last="score").exit_code == 0
    of_project, out = RunDir(project.run_dir), io.StringIO()
    assert child_process.main(Channel(out), str(of_project.path), STAGE, str(project.folder)) == 0
    rows = project.lines("scored.jsonl")
    assert [row["candidate_id"] for row in rows] == [f"c{n}" for n in range(5)] * 3
    assert rows[0]["prompt"][0]["content"].endswith("Which fee does contract 100 name?")
    assert rows[0]["reward"] == sum(rows[0]["ratings"].values()) / 2
    lines = of_project.rewards.read_text().splitlines(keepends=True)
    for changed, problem in (
        (lines[5:], "expected the candidates of sample 'sample-0', found those of 'sample-1'"),
        ([*lines, lines[0].replace("sample-0", "sample-9")], "it has no sample 'sample-9'"),
    ):
        of_project.rewards.write_text("".join(changed))
        out = io.StringIO()
        assert child_process.main(Channel(out), str(of_project.path), STAGE, str(project.folder), "--replace") == 1
        assert problem in out.getvalue()


def test_a_trainer_that_asks_for_rewards_has_them_and_its_stage_says_what_they_cost(
    run: RunDir, project: Project, judge_server: JudgeServer
) -> None:
    project.write_data(3, candidates=0)
    online = {"type": "online", "of": "prompts"}
    assert lrf.run(project.pipeline(train=online, pairs=None), runs=project.runs, last="data").exit_code == 0
    out = io.StringIO()
    code = child_process.main(Channel(out), str(project.run_dir), STAGE, str(project.folder))
    *_, last = out.getvalue().splitlines()
    assert code == 0, last
    result = json.loads(last)["result"]
    assert result["did"] == "['a-0', 'a-1']"
    assert (result["answers"], result["unscored_answers"], result["calls"]) == (2, 0, 4)
    assert judge_server.books.calls == 4
