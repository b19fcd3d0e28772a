"""The launchers: what they render, and Slurm's through stand-ins for its programs that run jobs here."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lrf.config import parse_pipeline
from lrf.errors import ConfigError
from lrf.plugin.catalog import load_catalog
from lrf.protocols import LaunchJob, LaunchPlan
from lrf.testing import check_plugin
from lrf_launchers import plugin, submit
from lrf_launchers.deepspeed import DeepSpeed
from lrf_launchers.local import Local
from lrf_launchers.settings import DeepSpeedSettings, LocalSettings, SlurmSettings, TorchrunSettings
from lrf_launchers.slurm import Slurm
from lrf_launchers.torchrun import Torchrun
from waiting import until

JOB = LaunchJob(
    "run", "/venv/bin/python", "lrf.stages.train.worker", ("/runs/a run", "/work"), Path("/runs/a run/launch")
)
WORKER = ("-m", "lrf.stages.train.worker", "/runs/a run", "/work")


def test_the_plugin_keeps_the_rules_of_plugins() -> None:
    check_plugin("lrf_launchers.plugin")
    assert [spec.name for spec in plugin.lrf_register_launchers()] == [*("local", "torchrun", "deepspeed", "slurm")]


def test_local_starts_nothing() -> None:
    assert Local(LocalSettings()).plan(JOB) == LaunchPlan()


def test_torchrun_on_one_machine_needs_no_address() -> None:
    plan = Torchrun(TorchrunSettings(nproc_per_node=8)).plan(JOB)
    assert (plan.world, plan.per_node, plan.note) == (8, 8, "")
    assert plan.argv[:3] == ("/venv/bin/python", "-m", "torch.distributed.run")
    assert "--standalone" in plan.argv
    assert plan.argv[-4:] == WORKER


def test_torchrun_on_several_machines_meets_at_an_address_and_says_what_to_run_there() -> None:
    plan = Torchrun(TorchrunSettings(nproc_per_node=8, nnodes=4, rdzv_endpoint="node0:29500")).plan(JOB)
    assert (plan.world, plan.per_node) == (32, 8)
    assert "--rdzv-endpoint=node0:29500" in plan.argv
    assert "other 3 machines" in plan.note
    assert "launch.sh" in plan.note


def test_deepspeed_goes_over_the_machines_of_its_hostfile(tmp_path: Path) -> None:
    hostfile = tmp_path / "hosts"
    hostfile.write_text("# the cluster\nnode0 slots=8\n\nnode1 slots=8  # the new one\n")
    plan = DeepSpeed(DeepSpeedSettings(hostfile=hostfile)).plan(JOB)
    assert (plan.world, plan.per_node) == (16, 8)
    assert plan.files == {"hostfile": "node0 slots=8\nnode1 slots=8\n"}
    assert "--hostfile=/runs/a run/launch/hostfile" in plan.argv
    assert plan.argv[-4:] == ("--module", *WORKER[1:])


def test_deepspeed_s_other_machines_get_the_variables_too(tmp_path: Path) -> None:
    (programs := tmp_path / "bin").mkdir()
    (hostfile := tmp_path / "hosts").write_text("node0 slots=2\nnode1 slots=2\n")
    for name, code in (("ssh", "echo 127.0.0.1"), ("pdsh", f'printf "%s\\n" "$@" > {tmp_path}/said')):
        (programs / name).write_text(f"#!/bin/bash\n{code}\n")
        (programs / name).chmod(0o755)
    job = replace(JOB, python=sys.executable, folder=tmp_path)
    plan = DeepSpeed(DeepSpeedSettings(hostfile=hostfile, env={"HF_HOME": "/models/a b"})).plan(job)
    for name, text in plan.files.items():
        (tmp_path / name).write_text(text)
    env = {**os.environ, **plan.env, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(plan.argv, env=env, cwd=tmp_path, capture_output=True, timeout=100)
    assert 'export HF_HOME="/models/a b";' in (tmp_path / "said").read_text()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("node0 8", ":1: expected `host slots=N`"),
        ("node0 slots=8\nnode0 slots=8", ":2: the host node0 is listed twice"),
        ("node0 slots=8\nnode1 slots=4", "every host must have the same number of slots"),
        ("# none", "lists no host"),
    ],
)
def test_a_hostfile_that_says_nothing_certain_is_refused(text: str, problem: str, tmp_path: Path) -> None:
    hostfile = tmp_path / "hosts"
    hostfile.write_text(text)
    with pytest.raises(ConfigError, match=problem):
        DeepSpeed(DeepSpeedSettings(hostfile=hostfile)).plan(JOB)


def test_a_hostfile_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no-such-file: No such file"):
        DeepSpeed(DeepSpeedSettings(hostfile=tmp_path / "no-such-file")).plan(JOB)


def test_slurm_renders_a_job_script_that_bash_understands() -> None:
    settings = SlurmSettings(
        nodes=4,
        partition="gpu",
        time="2-00:00:00",
        options=("--exclusive", "--cpus-per-task=64"),
        setup=("module load cuda", "echo $PS1"),
        env={"NCCL_DEBUG": "WARN it's on"},
    )
    plan = Slurm(settings).plan(JOB)
    script = plan.files["job.sbatch"]
    assert (plan.world, plan.per_node) == (32, 8)
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
    options = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH")]
    assert options == [
        *("--job-name=lrf-run", "--nodes=4", "--ntasks-per-node=1", "--gpus-per-node=8"),
        *("--partition=gpu", "--time=2-00:00:00", "--output=/runs/a\\ run/launch/slurm-%j.log", "--exclusive"),
        "--cpus-per-task=64",
    ]
    assert script.index("module load cuda") < script.index("srun")
    assert "export NCCL_DEBUG='WARN it'\"'\"'s on'" in script
    srun = shlex.split(next(line for line in script.splitlines() if line.startswith("srun")))
    assert "--nproc-per-node=8" in srun
    assert srun[-4:] == list(WORKER)


def test_a_job_s_folder_is_one_option_of_slurm_whatever_its_name() -> None:
    job = replace(JOB, folder=Path("/runs/100% 'a #1/launch"))
    script = Slurm(SlurmSettings(account="a b")).plan(job).files["job.sbatch"]
    assert "#SBATCH --output=/runs/100%%\\ \\'a\\ \\#1/launch/slurm-%j.log" in script.splitlines()
    assert "#SBATCH --account=a\\ b" in script.splitlines()


def test_the_lines_before_a_job_s_start_may_use_unset_variables_but_not_fail() -> None:
    def ran(*setup: str) -> str:
        script = Slurm(SlurmSettings(setup=setup)).plan(JOB).files["job.sbatch"].partition("first=")[0]
        command = ["bash", "-c", script + "echo ran"]
        return subprocess.run(command, env={"SLURM_CPUS_PER_TASK": "64"}, text=True, stdout=subprocess.PIPE).stdout

    assert ran("echo $NO_SUCH_VARIABLE") == "\nran\n"
    assert ran("false") == ""
    assert ran("trap 'echo $SRUN_CPUS_PER_TASK' EXIT") == "ran\n64\n"  # srun doesn't take it from sbatch's option


@pytest.mark.parametrize(
    ("launcher", "problem"),
    [
        ({"type": "torchrun", "nnodes": 2}, "2 machines need a rdzv_endpoint"),
        ({"type": "torchrun", "rdzv_endpoint": "node0"}, "rdzv_endpoint"),
        ({"type": "slurm", "partition": "gpu\n#SBATCH --uid=0"}, "expected one line"),
        ({"type": "torchrun", "env": {"A B": "1"}}, "'A B' isn't the name of a variable"),
        ({"type": "torchrun", "nproc": 8}, "nproc"),
        ({"type": "torchrum"}, "torchrun"),
    ],
)
def test_a_mistake_in_the_launcher_s_block_is_reported_first(
    launcher: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=problem):
        parse_pipeline({"name": "run", "launcher": launcher}, load_catalog(), folder=tmp_path)


FAKE = {
    "sbatch": """
        job='SLURM_JOB_ID=77 SLURM_JOB_NODELIST=here bash "$0"; echo $? > "$FAKE/77.rc"'
        setsid bash -c "$job" "${@: -1}" > "$FAKE/77.out" 2>&1 &
        echo $! > "$FAKE/77.pid"
        echo "77;cluster"
    """,
    "squeue": '[ -e "$FAKE/77.pid" ] && kill -0 "$(cat "$FAKE/77.pid")" 2> /dev/null && echo RUNNING; true',
    "sacct": """
        if [ -e "$FAKE/cancelled" ]; then echo "CANCELLED by 0"
        elif [ "$(cat "$FAKE/77.rc")" = 0 ]; then echo COMPLETED
        else echo FAILED; fi
    """,
    "scancel": 'touch "$FAKE/cancelled"; kill -TERM -- "-$(cat "$FAKE/77.pid")"; echo "$1" >> "$FAKE/scancel"',
    "scontrol": "echo 127.0.0.1",
    "srun": 'shift; exec "$@"',
}


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the state of a Slurm of one machine, whose programs are found first."""
    programs = tmp_path / "slurm-bin"
    programs.mkdir()
    for name, code in FAKE.items():
        (programs / name).write_text(f"#!/bin/bash\n{code}\n")
        (programs / name).chmod(0o755)
    state = tmp_path / "slurm"
    state.mkdir()
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE", str(state))
    return state


class Submitted:
    """Stands in for the process that submits: its standard input, its signals, and what it says."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        reading, self._input = os.pipe()
        os.dup2(reading, 0)
        os.close(reading)

    def run(self, job: str, stop: Callable[[], None] | None = None) -> tuple[int, list[str]]:
        """The exit code and the lines that were said; ``stop`` is called once the job has made the file ``began``."""
        (self.folder / "job.sbatch").write_text(job)
        stopping = threading.Thread(target=lambda: (until((self.folder / "began").exists), stop and stop()))
        if stop:
            stopping.start()
        code = submit.main(self.folder / "job.sbatch", 0.02)
        if stop:
            stopping.join()
        return code, self._capsys.readouterr().out.splitlines()

    def end_input(self) -> None:
        if self._input:
            os.close(self._input)
            self._input = 0


@pytest.fixture
def submitted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Submitted]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    standard_input = os.dup(0)
    submitted = Submitted(tmp_path, capsys)
    yield submitted
    submitted.end_input()
    until(lambda: not any(thread.name == submit.WATCH for thread in threading.enumerate()))
    os.dup2(standard_input, 0)
    os.close(standard_input)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_a_job_is_submitted_followed_and_its_end_told(slurm: Path, submitted: Submitted) -> None:
    code, said = submitted.run("sleep 0.3")
    assert code == 0
    assert said == ["job 77 is submitted", "job 77: RUNNING", "job 77: COMPLETED", "job 77 ended: COMPLETED"]
    assert not (submitted.folder / "slurm_job.log").exists()


def test_a_job_that_fails_is_reported_with_its_log(slurm: Path, submitted: Submitted) -> None:
    (submitted.folder / "slurm-77.log").write_text("srun: node0: out of memory\n")
    code, said = submitted.run("exit 1")
    assert code == 1
    assert said[-3:-1] == ["job 77 ended: FAILED", "srun: node0: out of memory"]


@pytest.mark.parametrize("how", ["SIGTERM", "end of input"])
def test_a_run_that_stops_or_dies_cancels_its_job(how: str, slurm: Path, submitted: Submitted) -> None:
    stop = submitted.end_input if how == "end of input" else partial(os.kill, os.getpid(), signal.SIGTERM)
    code, _ = submitted.run(f"touch {submitted.folder}/began; sleep 60", stop)
    assert code == 1
    assert (slurm / "scancel").read_text() == "77\n"


def test_a_job_that_an_earlier_run_left_behind_is_cancelled_first(slurm: Path, submitted: Submitted) -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as left_behind:
        (slurm / "77.pid").write_text(str(left_behind.pid))
        threading.Thread(target=left_behind.wait).start()
        (submitted.folder / "slurm_job.log").write_text("77\n")
        _, said = submitted.run("true")
    assert said[0] == "cancelling job 77 of an earlier run"
    assert (slurm / "scancel").read_text() == "77\n"


@pytest.mark.parametrize(
    ("squeue", "sacct", "end"),
    [
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", "exit 1", (0, "COMPLETED")),
        ("echo timeout >&2; exit 1", "exit 1", (1, "unknown to Slurm")),
        ("exit 1", "echo OUT_OF_MEMORY+", (1, "OUT_OF_MEMORY")),
    ],
    ids=["no accounting", "no answer", "accounting only"],
)
def test_a_job_that_left_the_queue_ends_as_the_accounting_says_or_as_it_must_have(
    squeue: str, sacct: str, end: tuple[int, str], slurm: Path, submitted: Submitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit, "MAX_SILENT_POLLS", 1)
    for name, code in (("squeue", squeue), ("sacct", sacct)):
        (slurm.parent / "slurm-bin" / name).write_text(f"#!/bin/bash\n{code}\n")
    code, said = submitted.run("true")
    assert (code, said[-1]) == (end[0], f"job 77 ended: {end[1]}")


def test_without_slurm_s_programs_the_reason_is_reported(submitted: Submitted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert submitted.run("true") == (1, ["sbatch: sbatch: No such file or directory"])


TRAINER = """
import lrf, os, time
from pathlib import Path
from lrf.settings import Shares, TrainerSettings

class RollCall(TrainerSettings):
    @property
    def reads(self):
        return ()
    def shares(self, world):
        return Shares()

class Trainer:
    def __init__(self, settings):
        pass
    def train(self, job):
        (job.output / f"rank-{job.rank}").write_text(f"{job.local_rank} of {job.world}")
        while len(list(job.output.glob("rank-*"))) < job.world:
            time.sleep(0.02)
        (job.output / "checkpoint").mkdir(exist_ok=True)
        job.report({"rank": job.rank})
        if key := os.environ.get("PLANTED_KEY"):
            print("a library logs", key)
            job.report({"header": key})
            raise (lrf.StageError if job.rank else RuntimeError)(f"401 for {key}")
        found = {path.name: path.read_text() for path in sorted(job.output.glob("rank-*"))}
        return lrf.TrainingResult(job.output / "checkpoint", {"found": found})

@lrf.hookimpl
def lrf_register_trainers():
    here = "roll_call:"
    return [lrf.ComponentSpec("roll_call", here + "Trainer", here + "RollCall", "who takes part")]
"""


class RollCall:
    """A third party's trainer, installed in a folder, that says who took part."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        about = folder / "site" / "roll_call-1.0.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: roll-call\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text("[lrf]\nroll_call = roll_call\n")
        (folder / "site" / "roll_call.py").write_text(TRAINER)

    def run(self, launcher: dict[str, Any] | None, **more: Any) -> subprocess.Popen[str]:
        file = self.folder / "p.yaml"
        parts = {"name": "run", "train": "roll_call", "launcher": launcher, **more}
        file.write_text(json.dumps({name: part for name, part in parts.items() if part is not None}))
        site = os.pathsep.join([str(self.folder / "site"), *sys.path])
        env = {**os.environ, "PYTHONPATH": site, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "lrf", "run", str(file), f"--runs={self.folder}/runs"]
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def took_part(self) -> dict[str, str]:
        summary = json.loads((self.folder / "runs/run/summary.json").read_text())
        assert summary["status"] == "finished", summary["message"]
        found: dict[str, str] = summary["stages"]["train"]["found"]
        return found


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def roll_call(tmp_path: Path) -> RollCall:
    return RollCall(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [
        {"type": "torchrun", "nproc_per_node": 2},
        {"type": "deepspeed", "num_gpus": 2},
        {"type": "slurm", "nodes": 1, "gpus_per_node": 2, "poll_s": 0.1},
    ],
    ids=lambda launcher: launcher["type"],
)
def test_under_every_launcher_both_processes_take_part(
    launcher: dict[str, Any], roll_call: RollCall, slurm: Path
) -> None:
    if launcher["type"] == "slurm":
        launcher = {**launcher, "port": free_port()}
    said, _ = roll_call.run(launcher).communicate(timeout=200)
    assert roll_call.took_part() == {"rank-0": "0 of 2", "rank-1": "1 of 2"}, said


@pytest.mark.slow
def test_two_machines_meet_by_rendezvous_one_of_them_by_the_written_script(roll_call: RollCall) -> None:
    process = roll_call.run({"type": "torchrun", "nnodes": 2, "rdzv_endpoint": f"127.0.0.1:{free_port()}"})
    script = roll_call.folder / "runs/run/launch/launch.sh"
    until(script.exists)
    env = {**os.environ, "PYTHONPATH": str(roll_call.folder / "site"), "OMP_NUM_THREADS": "1"}
    other = subprocess.run(["bash", str(script)], env=env, stdin=subprocess.DEVNULL, timeout=200)
    said, _ = process.communicate(timeout=200)
    assert other.returncode == 0
    assert roll_call.took_part() == {"rank-0": "0 of 2", "rank-1": "0 of 2"}, said


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [None, {"type": "torchrun", "nproc_per_node": 2}], ids=["local", "torchrun"])
def test_a_key_in_what_a_training_prints_reports_and_raises_stands_in_no_file_and_no_message(
    launcher: dict[str, Any] | None, roll_call: RollCall, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "sk-verysecret-0123456789"
    monkeypatch.setenv("PLANTED_KEY", key)
    judge = {"type": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "m", "api_key_env": "PLANTED_KEY"}
    process = roll_call.run(launcher, judges={"main": judge})
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 1
    files = {path: path.read_bytes() for path in (roll_call.folder / "runs").rglob("*") if path.is_file()}
    assert [path for path, content in files.items() if key.encode() in content] == []
    assert key not in said
    assert any(b"401 for ${PLANTED_KEY}" in content for content in files.values())
