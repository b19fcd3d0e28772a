"""Launching: the plan that is written, and real processes that it starts."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lrf.cli.main import cli
from lrf.config import parse_pipeline
from lrf.errors import ConfigError, StageError
from lrf.plugin.catalog import load_catalog
from lrf.protocols import LaunchPlan
from lrf.stages.channel import Messages
from lrf.stages.context import StageContext
from lrf.stages.run_dir import RunDir
from lrf.stages.train.launch import plan_launch, prepare_launch
from lrf.stages.train.policy import lost_policy, make_room, replaced
from lrf.stages.train.stage import TrainStage
from lrf.stages.train.supervise import launch
from waiting import until

Start = Callable[..., LaunchPlan]

RANK = """
import json, os, sys, time
folder = {folder!r}
rank = int(sys.argv[1])
log = os.open(f"{{folder}}/ranks/{{rank}}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.dup2(log, 1); os.dup2(log, 2)
def say(**message):
    with open(f"{{folder}}/ranks/{{rank}}.jsonl", "a") as f:
        f.write(json.dumps(message) + "\\n")
"""


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """A plan that starts two processes, ranks 0 and 1, with this code; ``say`` writes to the rank's channel."""

    def make(code: str, **fields: Any) -> LaunchPlan:
        (tmp_path / "ranks").mkdir(exist_ok=True)
        rank = tmp_path / "rank.py"
        rank.write_text(RANK.format(folder=str(tmp_path)) + textwrap.dedent(code))
        both = f"{sys.executable} {rank} 0 & zero=$!; {sys.executable} {rank} 1 & one=$!; wait $zero && wait $one"
        return LaunchPlan(world=2, per_node=2, argv=("bash", "-c", both), **fields)

    return make


def run(plan: LaunchPlan, folder: Path, told: list[Any] | None = None) -> dict[str, Any]:
    return launch(plan, folder, (told if told is not None else []).append)


def test_progress_and_result_are_those_of_rank_0(start: Start, tmp_path: Path) -> None:
    plan = start(
        """
        for step in range(3):
            say(progress={"step": step, "rank": rank})
        say(result={"checkpoint": f"of rank {rank}", "loss": 0.5})
        """
    )
    told: list[Any] = []
    assert run(plan, tmp_path, told) == {"checkpoint": "of rank 0", "loss": 0.5}
    assert told == [{"step": step, "rank": 0} for step in range(3)]


def test_a_launcher_that_fails_after_the_training_is_complete_costs_nothing_but_a_note(tmp_path: Path) -> None:
    result = json.dumps({"result": {"loss": 1}})
    told: list[Any] = []
    plan = LaunchPlan(world=1, argv=("bash", "-c", f"echo '{result}' > {tmp_path}/ranks/0.jsonl; kill -ABRT $$"))
    assert run(plan, tmp_path, told) == {"loss": 1}
    assert "was ended by signal 6 after the training was complete" in told[0]["note"]


def test_a_result_that_another_machine_s_disk_shows_late_is_waited_for(tmp_path: Path) -> None:
    late = f"(sleep 0.5; echo '{json.dumps({'result': {'loss': 1}})}' > {tmp_path}/ranks/0.jsonl) > /dev/null 2>&1 &"
    plan = LaunchPlan(world=1, argv=("bash", "-c", f"set -m; {late} disown"))
    assert run(plan, tmp_path) == {"loss": 1}


def test_processes_that_end_well_without_a_result_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrf.stages.train.supervise.SETTLE_S", 0.2)
    with pytest.raises(StageError, match="bash ended with exit code 0"):
        run(LaunchPlan(world=1, argv=("bash", "-c", "true")), tmp_path)


def test_signals_to_all_let_the_ranks_finish_and_what_rank_0_says_of_it_ends_the_stage(
    start: Start, tmp_path: Path
) -> None:
    plan = start(
        """
        import signal
        def stop(*_):
            time.sleep(0.3)  # a step, and saving its state
            say(error=f"rank {rank} saved its state", exit_code=130)
            sys.exit(130)
        signal.signal(signal.SIGTERM, stop)
        say(progress={"pid": os.getpid()})
        while True:
            time.sleep(1)
        """
    )

    def stop_all(progress: Any) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)

    passed_on = plan.argv[2].replace("wait $zero && wait $one", "trap 'kill $zero $one' TERM; wait; wait")
    with pytest.raises(StageError, match="rank 0 saved its state") as raised:
        launch(replace(plan, argv=("bash", "-c", passed_on)), tmp_path, stop_all)
    assert raised.value.exit_code == 130


def test_what_ranks_print_lies_in_a_log_of_each(start: Start, tmp_path: Path) -> None:
    run(start('print("hello from", rank, flush=True); say(result={})'), tmp_path)
    assert [(tmp_path / f"ranks/{rank}.log").read_text() for rank in (0, 1)] == ["hello from 0\n", "hello from 1\n"]


def test_a_plan_s_variables_reach_every_rank(start: Start, tmp_path: Path) -> None:
    plan = start('say(result={"found": os.environ["NCCL_SOCKET_IFNAME"]})', env={"NCCL_SOCKET_IFNAME": "ib0"})
    assert run(plan, tmp_path)["found"] == "ib0"


def test_an_error_of_any_rank_ends_the_stage_with_its_words_and_exit_code(start: Start, tmp_path: Path) -> None:
    plan = start('if rank: say(error="row 7: there is no answer", exit_code=2)')
    with pytest.raises(StageError, match="row 7: there is no answer") as raised:
        run(plan, tmp_path)
    assert raised.value.exit_code == 2


def test_a_rank_that_dies_is_reported_with_the_last_lines_of_its_own_log(start: Start, tmp_path: Path) -> None:
    plan = start(
        """
        if rank:
            print("out of memory", flush=True)
            os.kill(os.getpid(), 9)
        """
    )
    with pytest.raises(StageError) as raised:
        run(plan, tmp_path)
    message = str(raised.value)
    assert "ended with exit code 137" in message
    assert f"last lines of rank 1 ({tmp_path}/ranks/1.log):\n  out of memory" in message


def test_lines_of_an_earlier_attempt_are_not_told_again(start: Start, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="first attempt"):
        run(start('print("first attempt", flush=True); sys.exit(1)'), tmp_path)
    with pytest.raises(StageError) as raised:
        run(start('print("second attempt", flush=True); sys.exit(1)'), tmp_path)
    assert "first attempt" not in str(raised.value)
    assert "first attempt" in (tmp_path / "ranks/0.log").read_text()


def blamed(tmp_path: Path, codes: dict[int, int], errors: dict[int, str]) -> StageError:
    """The error of a launcher that blames ranks in torchrun's words, when other ranks say errors."""
    (tmp_path / "ranks").mkdir()
    for rank in range(4):
        (tmp_path / f"ranks/{rank}.log").touch()
    says = "".join(
        f"echo '{json.dumps({'error': error, 'exit_code': 1})}' >> {tmp_path}/ranks/{rank}.jsonl; "
        for rank, error in errors.items()
    )
    words = "".join(f"  rank      : {r} (local_rank: {r})\n  exitcode  : {c} (pid: 4)\n" for r, c in codes.items())
    prints = f'echo "the lines of 3" >> {tmp_path}/ranks/3.log; printf {json.dumps(words)}'
    with pytest.raises(StageError) as raised:
        run(LaunchPlan(world=4, per_node=4, argv=("bash", "-c", f"{says}{prints}; exit 1")), tmp_path)
    return raised.value


def test_the_rank_that_torchrun_blames_is_the_one_reported(tmp_path: Path) -> None:
    message = str(blamed(tmp_path, {3: -9}, {}))
    assert "rank 3 of 4 was ended by signal 9, and the training with it" in message
    assert "the lines of 3" in message


@pytest.mark.parametrize(
    ("codes", "errors", "reason"),
    [
        ({0: 1, 1: -9}, {0: "connection closed by peer"}, "rank 1 of 4 was ended by signal 9"),
        ({0: 1, 1: 2}, {1: "the loss became nan in step 3"}, "the loss became nan in step 3"),
    ],
    ids=["others fail when a rank is killed", "a rank fell over the one that says why"],
)
def test_the_reason_is_what_a_rank_says(
    tmp_path: Path, codes: dict[int, int], errors: dict[int, str], reason: str
) -> None:
    assert reason in str(blamed(tmp_path, codes, errors))


def test_a_command_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no-such-launcher can't be started"):
        run(LaunchPlan(world=2, argv=("no-such-launcher",)), tmp_path)


SUPERVISOR = """
import sys
from pathlib import Path
from lrf.protocols import LaunchPlan
from lrf.stages.train.supervise import launch
launch(LaunchPlan(world=1, argv=("bash", "-c", {command!r})), Path({folder!r}), print)
"""
WAITING = """
import os, signal
from pathlib import Path
from lrf.stages.channel import end_with_parent
end_with_parent()
os.setsid()  # as torchrun's workers do: no signal to a group reaches them
Path({pid!r}).write_text(str(os.getpid()))
signal.pause()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_no_process_outlives_the_one_that_launched_it(number: signal.Signals, tmp_path: Path) -> None:
    pid, code = tmp_path / "pid", tmp_path / "waiting.py"
    code.write_text(WAITING.format(pid=str(pid)))
    supervisor = SUPERVISOR.format(command=f"{sys.executable} {code}; true", folder=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", supervisor], stderr=subprocess.DEVNULL)
    until(lambda: pid.exists() and pid.read_text() != "")
    process.send_signal(number)
    process.wait(30)
    until(lambda: not _lives(int(pid.read_text())))


def _lives(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_policy_of_other_settings_is_only_replaced_when_told_so_and_one_of_these_is_not_touched(
    tmp_path: Path,
) -> None:
    policy = tmp_path / "policy" / "dpo"
    make_room(policy, "these")
    make_room(policy, "those")  # nothing was trained yet
    make_room(policy, "these")
    (policy / "checkpoint").mkdir()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))  # a full disk
    try:
        make_room(policy, "these")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with pytest.raises(ConfigError, match=r"policy/dpo has what was trained .*\(checkpoint\).* `lrf run --replace`"):
        make_room(policy, "others")
    make_room(policy, "these")
    assert (policy / "checkpoint").exists()
    make_room(policy, "others", replace=True)
    assert not (policy / "checkpoint").exists()


def test_a_policy_that_is_replaced_goes_only_when_the_other_is_complete(tmp_path: Path) -> None:
    policy, before = tmp_path / "policy" / "dpo", tmp_path / "policy" / "dpo.replaced"
    make_room(policy, "these", "settings")
    (policy / "checkpoint").mkdir()
    make_room(policy, "others", "other settings", replace=True)
    (policy / "tokens.arrow").write_text("the other failed here")
    make_room(policy, "a third", "third settings", replace=True)
    assert (before / "checkpoint").exists()
    assert lost_policy(policy, settings="settings") is None  # it comes back:
    assert make_room(policy, "these", "settings")
    assert (policy / "checkpoint").exists()
    assert not before.exists()
    make_room(policy, "others", "other settings", replace=True)
    replaced(policy)
    assert [path.name for path in policy.parent.iterdir()] == ["dpo"]


def test_what_cannot_be_written_before_the_training_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("no folder")
    catalog = load_catalog()
    pipeline = parse_pipeline({"name": "run", "train": TRAIN}, catalog, folder=tmp_path)
    stage = TrainStage.of(pipeline)
    assert stage is not None
    context = StageContext(pipeline, catalog, RunDir(tmp_path / "runs" / "run"), None, lambda _: None)
    try:
        with pytest.raises(StageError, match=r"Not a directory; what was saved is kept"):
            stage.work(context)
    finally:
        context.observers.close()


TRAIN = {"type": "sft", "sources": [{"path": "rows.jsonl"}], "init": {}, "global_batch": 16}


def planned(folder: Path, train: dict[str, Any] | None = None, **launcher: Any) -> Any:
    values = {"name": "run", "train": {**TRAIN, **(train or {})}, **({"launcher": launcher} if launcher else {})}
    pipeline = parse_pipeline(values, load_catalog(), folder=folder)
    return plan_launch(pipeline, RunDir(folder / "runs" / "run"))


def test_lrf_plan_says_how_the_batch_is_shared_and_what_memory_it_takes(tmp_path: Path) -> None:
    train = {**TRAIN, "init": None, "zero": 3, "sequence_parallel": 2, "max_tokens": 65536}
    launcher = {"type": "torchrun", "nproc_per_node": 8}
    values = {"name": "run", "train": train, "launcher": launcher, "policy": {"model": "meta-llama/Llama-3.1-8B"}}
    (tmp_path / "p.yaml").write_text(json.dumps(values))
    said = CliRunner().invoke(cli, ["plan", str(tmp_path / "p.yaml")], catch_exceptions=False).output
    assert "16 sequences = 4 data-parallel × 1 micro-batch × 4 accumulated; each sequence is split over 2" in said
    assert "for a longest sample of 65,536 tokens" in said
    values["policy"] = {"model": "org/nobody-knows"}
    (tmp_path / "p.yaml").write_text(json.dumps(values))
    said = CliRunner().invoke(cli, ["plan", str(tmp_path / "p.yaml")], catch_exceptions=False).output
    assert "memory of each GPU: unknown; there is no config.json of org/nobody-knows" in said


def test_without_a_launcher_the_stage_s_own_process_trains(tmp_path: Path) -> None:
    plain, local = planned(tmp_path), planned(tmp_path, type="local")
    assert plain.plan == local.plan == LaunchPlan()
    assert plain.about["processes"] == 1
    assert plain.about["accumulation"] == 16


@pytest.mark.parametrize(
    ("train", "processes", "accumulation"),
    [
        ({"global_batch": 16}, 8, 2),
        ({"global_batch": 16, "micro_batch": 2}, 4, 2),
        ({"global_batch": 16, "zero": 3, "sequence_parallel": 2}, 32, 1),
        ({"global_batch": 16, "zero": 3, "sequence_parallel": 4}, 8, 8),
    ],
)
def test_accumulation_follows_from_batch_processes_and_sequence_parallelism(
    train: dict[str, Any], processes: int, accumulation: int, tmp_path: Path
) -> None:
    about = planned(tmp_path, train, type="torchrun", nproc_per_node=processes).about
    assert about["accumulation"] == accumulation
    micro = train.get("micro_batch", 1)
    assert about["data_parallel"] * micro * about["accumulation"] == train["global_batch"]


def test_a_batch_that_processes_cannot_share_says_what_would_fit(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        planned(tmp_path, {"global_batch": 16, "zero": 3}, type="torchrun", nproc_per_node=32)
    message = str(raised.value)
    assert "16 × 1 / (32 × 1) is not a whole number" in message
    assert "global_batch: 32, or 16 processes, or sequence_parallel: 2 (zero: 3)" in message


def test_what_will_run_is_written_and_a_plan_before_it_gives_way(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "runs" / "run")
    values: dict[str, Any] = {"name": "run", "train": {**TRAIN, "zero": 2}}
    launcher = {"type": "torchrun", "nproc_per_node": 4}
    prepare_launch(parse_pipeline({**values, "launcher": launcher}, load_catalog(), folder=tmp_path), run_dir)
    found = {path.name for path in run_dir.launch.iterdir()}
    assert found == {"plan.json", "ds_config.json", "launch.sh"}
    assert json.loads((run_dir.launch / "ds_config.json").read_text())["gradient_accumulation_steps"] == 4
    assert subprocess.run(["bash", "-n", run_dir.launch / "launch.sh"]).returncode == 0
    plan = json.loads((run_dir.launch / "plan.json").read_text())
    assert [rank["log"] for rank in plan["ranks"]] == [f"ranks/{rank}.log" for rank in range(4)]
    prepare_launch(parse_pipeline({**values, "train": TRAIN}, load_catalog(), folder=tmp_path), run_dir)
    assert {path.name for path in run_dir.launch.iterdir()} == {"plan.json"}


def test_a_dry_run_writes_what_would_run_and_imports_no_torch(tmp_path: Path) -> None:
    train = {**TRAIN, "zero": 3, "sequence_parallel": 2}
    launcher = {"type": "slurm", "nodes": 4, "gpus_per_node": 8, "time": "2-00:00:00"}
    (tmp_path / "p.yaml").write_text(json.dumps({"name": "run", "train": train, "launcher": launcher}))
    code = (
        "import sys; from lrf.cli.main import main; sys.argv = ['lrf', 'run', 'p.yaml', '--dry-run']\n"
        "try:\n main()\n"
        "finally:\n print({'torch', 'deepspeed', 'transformers', 'trl', 'accelerate'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    *lines, heavy = done.stdout.splitlines()
    assert heavy == "set()", done.stderr
    folder = tmp_path / "runs/run/launch"
    assert [Path(line).name for line in lines[:3]] == ["plan.json", "ds_config.json", "job.sbatch"]
    assert "#SBATCH --time=2-00:00:00" in (folder / "job.sbatch").read_text()
    assert not (tmp_path / "runs/run/policy").exists()
    assert not os.path.lexists(tmp_path / "runs/run/pipeline.yaml")


def test_a_line_counts_once_it_is_whole_even_if_it_came_in_the_middle_of_a_character() -> None:
    told: list[Any] = []
    messages = Messages(told.append)
    line = '{"progress": {"note": "测"}}\n'.encode()
    messages.feed(b'{"result": {}}\n' + line[:25])
    assert (messages.result, told) == ({}, [])
    messages.feed(line[25:])
    assert told == [{"note": "测"}]


def test_an_interrupt_reaches_a_rank_whose_launcher_was_started_where_it_is_ignored(
    distribute: Any, tmp_path: Path
) -> None:
    """As a script's `&` does: a rank that ignored it while it loads would outlive the training by its patience."""
    plugin = "import signal; print('SIGINT:', signal.getsignal(signal.SIGINT))"
    site = distribute("acme-says", entry_points={"says": "signal_sayer"}, modules={"signal_sayer": plugin})
    (tmp_path / "pipeline.yaml").write_text("name: x\n")
    worker = f"trap '' INT; exec {sys.executable} -m lrf.stages.train.worker {tmp_path} {tmp_path}"
    path = os.pathsep.join([str(site), *sys.path])
    subprocess.run(["sh", "-c", worker], env={**os.environ, "PYTHONPATH": path}, timeout=60, check=False)
    assert "SIGINT: <built-in function default_int_handler>" in (tmp_path / "launch/ranks/0.log").read_text()
