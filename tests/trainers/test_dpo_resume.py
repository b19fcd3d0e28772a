"""A training that was killed goes on to the very weights it would have had; a failed save costs no earlier one."""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import transformers

from lrf.errors import RunInterruptedError, StageError
from lrf.protocols import TrainingJob
from lrf_dpo.settings import DPOSettings
from lrf_dpo.trainer import DPO
from lrf_training.arguments import training_fingerprint
from lrf_training.checkpoint import TrainingStates

TINY: dict[str, Any] = {
    "init": {"hidden": 16, "layers": 1, "heads": 2, "vocab": 320},
    "global_batch": 2,
    "learning_rate": 1e-3,
    "epochs": 2,
    "save_every": 2,
}


def weights(checkpoint: Path) -> bytes:
    return (checkpoint / "model.safetensors").read_bytes()


class StopError(Exception):
    pass


def stop_at(step: int) -> Any:
    """A report function that ends the training there, after that step's line of the log."""

    def report(progress: Any) -> None:
        if progress.get("step") == step and "loss" in progress:
            raise StopError

    return report


LORA = {"lora": {"rank": 2, "dropout": 0.2, "merge": True}}


@pytest.mark.parametrize("more", [{}, pytest.param(LORA, marks=pytest.mark.slow)], ids=["all weights", "adapters"])
def test_a_training_that_was_stopped_resumes_to_the_same_weights(job, row, more: Any) -> None:
    rows, settings = [row(n) for n in range(8)], DPOSettings.model_validate(TINY | more)
    whole = DPO(settings).train(job(rows, output="whole"))
    with pytest.raises(StopError):
        DPO(settings).train(job(rows, output="stopped", report=stop_at(5)))
    reports: list[Any] = []
    resumed = DPO(settings).train(job(rows, output="stopped", report=reports.append))
    assert {"note": "training resumes from step 4"} in reports
    assert [r["step"] for r in reports if "loss" in r] == [5, 6, 7, 8]
    assert weights(resumed.checkpoint) == weights(whole.checkpoint)
    logs = [result.checkpoint.parent / "training_log.jsonl" for result in (whole, resumed)]
    assert steps(logs[0]) == steps(logs[1])
    assert not (resumed.checkpoint.parent / "training").exists()


DATED = """{{- strftime_now('%d %B %Y') }}
{%- for m in messages %}{{- '<' + m['role'] + '>' + m['content'] + eos_token }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<assistant>' }}{%- endif %}"""


def test_a_training_whose_template_writes_the_date_resumes_on_another_day(
    job, row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dated.jinja").write_text(DATED)
    rows, settings = (
        [row(n) for n in range(8)],
        DPOSettings.model_validate(TINY | {"chat_template": tmp_path / "dated.jinja"}),
    )
    with pytest.raises(StopError):
        DPO(settings).train(job(rows, report=stop_at(3)))
    tokens = (job(rows).output / "tokens.arrow").read_bytes()

    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime(2031, 1, 2)

    monkeypatch.setattr(transformers.utils.chat_template_utils, "datetime", Tomorrow)
    reports: list[Any] = []
    with pytest.raises(StopError):
        DPO(settings).train(job(rows, report=lambda p: (reports.append(p), stop_at(4)(p))))
    assert {"note": "training resumes from step 2"} in reports
    assert (job(rows).output / "tokens.arrow").read_bytes() == tokens
    with pytest.raises(StopError):  # other rows are tokenised anew
        DPO(settings).train(job(rows[:6], report=stop_at(1)))
    assert (job(rows).output / "tokens.arrow").read_bytes() != tokens


def test_states_of_other_settings_are_kept_until_a_training_is_complete_and_said(job, row) -> None:
    rows, settings = [row(n) for n in range(8)], DPOSettings.model_validate(TINY)
    with pytest.raises(StopError):
        DPO(settings).train(job(rows, report=stop_at(3)))
    reports: list[Any] = []
    other = settings.model_copy(update={"beta": 0.3})
    with pytest.raises(StopError):
        DPO(other).train(job(rows, report=lambda p: (reports.append(p), stop_at(5)(p))))
    assert any("(step 2) don't fit this training; they are kept in" in str(r.get("note")) for r in reports)
    reports.clear()
    done = DPO(settings).train(job(rows, report=reports.append))
    assert {"note": "training resumes from step 2"} in reports
    assert not (done.checkpoint.parent / "training").exists()


def test_a_signal_lets_the_step_end_and_its_state_be_saved(job, row) -> None:
    rows, settings = [row(n) for n in range(8)], DPOSettings.model_validate(TINY | {"save_every": None})
    whole = DPO(settings).train(job(rows, output="whole"))

    def terminate(progress: Any) -> None:
        if progress.get("step") == 2 and "loss" in progress:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(RunInterruptedError, match="stopped after step 3 of 8; its state is saved"):
        DPO(settings).train(job(rows, output="stopped", report=terminate))
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    reports: list[Any] = []
    resumed = DPO(settings).train(job(rows, output="stopped", report=reports.append))
    assert {"note": "training resumes from step 3"} in reports
    assert weights(resumed.checkpoint) == weights(whole.checkpoint)


def test_what_cant_be_saved_at_the_end_stops_a_training_before_its_first_step(job, row) -> None:
    limits, reports = resource.getrlimit(resource.RLIMIT_FSIZE), list[Any]()

    def fill_the_disk(progress: Any) -> None:
        reports.append(progress)
        if progress.get("phase") == "training":
            resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))

    full = job([row(n) for n in range(8)], report=fill_the_disk)
    try:
        with pytest.raises(
            StageError, match=r"can't be saved and loaded, as was tried before its first step.*Make room"
        ):
            DPO(DPOSettings.model_validate(TINY)).train(full)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not any("loss" in report for report in reports)
    assert not (full.output / "checkpoint.trial").exists()


def steps(log: Path) -> list[dict[str, Any]]:
    """The lines of a log, without what depends on the machine."""
    lines = [json.loads(line) for line in log.open()]
    return [{k: v for k, v in line.items() if k not in ("tokens_per_second", "memory_gib")} for line in lines]


def test_a_line_of_the_log_that_is_half_written_is_written_again(job, row) -> None:
    rows, settings = [row(n) for n in range(8)], DPOSettings.model_validate(TINY)
    with pytest.raises(StopError):
        DPO(settings).train(job(rows, report=stop_at(5)))
    log = job(rows).output / "training_log.jsonl"
    log.write_text(log.read_text()[:-20])
    DPO(settings).train(job(rows))
    assert [json.loads(line)["step"] for line in log.open()] == list(range(1, 9))


@pytest.mark.slow
def test_a_training_killed_by_sigkill_resumes_to_the_same_weights(job, row, tmp_path: Path) -> None:
    rows, settings = [row(n) for n in range(8)], DPOSettings.model_validate(TINY)
    whole = DPO(settings).train(job(rows, output="whole"))
    code = (
        "import os, pickle, signal, sys\n"
        "from lrf_dpo.trainer import DPO\n"
        "settings, job = pickle.load(open(sys.argv[1], 'rb'))\n"
        "def report(p):\n"
        "    if p.get('step') == 5 and 'loss' in p: os.kill(os.getpid(), signal.SIGKILL)\n"
        "object.__setattr__(job, 'report', report)\n"
        "DPO(settings).train(job)\n"
    )
    killed: TrainingJob = job(rows, output="killed")
    (tmp_path / "job").write_bytes(pickle.dumps((settings, _without_report(killed))))
    child = subprocess.run([sys.executable, "-c", code, str(tmp_path / "job")], capture_output=True, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert weights(DPO(settings).train(killed).checkpoint) == weights(whole.checkpoint)


def _without_report(job: TrainingJob) -> TrainingJob:
    object.__setattr__(job, "report", print)
    return job


def test_a_checkpoint_on_the_way_is_a_whole_model(job, row) -> None:
    with pytest.raises(StopError):
        DPO(DPOSettings.model_validate(TINY)).train(job([row(n) for n in range(8)], report=stop_at(5)))
    from transformers import AutoModelForCausalLM

    folder = job([row()]).output / "checkpoint"
    assert AutoModelForCausalLM.from_pretrained(folder).num_parameters() > 0
    assert not (folder / "training_args.bin").exists()


@pytest.mark.slow
def test_other_pairs_start_anew(job, row) -> None:
    settings = DPOSettings.model_validate(TINY)
    with pytest.raises(StopError):
        DPO(settings).train(job([row(n) for n in range(8)], report=stop_at(5)))
    reports: list[Any] = []
    DPO(settings).train(job([row(n) for n in range(1, 9)], report=reports.append))
    assert next(r["step"] for r in reports if "loss" in r) == 1


def test_another_model_seed_or_beta_is_another_training_but_not_another_way_to_run_it(job, row, tmp_path: Path) -> None:
    (tokens := tmp_path / "tokens").write_bytes(b"1")
    (folder := tmp_path / "model").mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    first, settings = job([row()], model=str(folder)), DPOSettings()
    same = DPOSettings.model_validate({"zero": 3, "sequence_parallel": 2, "save_every": 7, "preflight": False})
    assert training_fingerprint(same, first, tokens) == (made := training_fingerprint(settings, first, tokens))
    others = [
        training_fingerprint(DPOSettings(beta=0.2), first, tokens),
        training_fingerprint(settings, job([row()], model=str(folder), seed=8), tokens),
    ]
    (folder / "model.safetensors").write_bytes(b"others")
    others.append(training_fingerprint(settings, first, tokens))
    assert len({made, *others}) == 4


@pytest.mark.slow
def test_a_half_written_state_is_passed_over(job, row) -> None:
    rows, settings = [row(n) for n in range(8)], DPOSettings.model_validate(TINY)
    with pytest.raises(StopError):
        DPO(settings).train(job(rows, report=stop_at(5)))
    training = job(rows).output / "training"
    shutil.copytree(training / "checkpoint-4", training / "checkpoint-6")  # killed before it was marked whole
    (training / "checkpoint-6" / "complete.json").unlink()
    shutil.copytree(training / "checkpoint-4", training / "checkpoint-8")  # a file shorter than it was
    (training / "checkpoint-8" / "optimizer.pt").write_bytes(b"half")
    reports: list[Any] = []
    DPO(settings).train(job(rows, report=reports.append))
    assert {"note": "training resumes from step 4"} in reports


def test_a_full_disk_while_saving_leaves_state_and_checkpoint_from_before(job, row) -> None:
    rows, settings = [row(n) for n in range(8)], DPOSettings.model_validate(TINY)
    whole = weights(DPO(settings).train(job(rows, output="whole")).checkpoint)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_the_disk(progress: Any) -> None:
        if progress.get("step") == 3 and "loss" in progress:
            resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))

    full = job(rows, report=fill_the_disk)
    try:
        with pytest.raises(StageError, match=r"can't be saved.*the previous state is kept\. Make room"):
            DPO(settings).train(full)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in (full.output / "training").glob("checkpoint-*")] == ["checkpoint-2"]
    assert weights(full.output / "checkpoint")
    reports: list[Any] = []
    resumed = DPO(settings).train(job(rows, report=reports.append))
    assert {"note": "training resumes from step 2"} in reports
    assert weights(resumed.checkpoint) == whole


PART = """
import sys
from datetime import datetime
from pathlib import Path
import torch.distributed as dist
dist.init_process_group("gloo")
from lrf.errors import RunInterruptedError, StageError
from lrf_training.checkpoint import TrainingStates
from lrf_training.processes import rank
folder, states = Path(sys.argv[1]), TrainingStates(Path(sys.argv[1]), "x", world=2, sharded=True)
def write(step):
    path = folder / f"checkpoint-{step}"
    def write():
        path.mkdir(exist_ok=True)
        if step == 2 and rank() == 1:
            raise OSError(28, "No space left on device")
        (path / f"part-{rank()}").write_text("1")
    states.save(write, path)
write(1)
try:
    write(2)
except StageError as error:
    (folder / "said").write_text(str(error))
    sys.exit(1)
"""


@pytest.mark.slow
def test_a_disk_that_is_full_for_one_process_leaves_the_state_from_before(tmp_path: Path) -> None:
    (tmp_path / "child.py").write_text(PART)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run([*command, str(tmp_path / "child.py"), str(tmp_path)], capture_output=True, timeout=100)
    assert done.returncode
    assert "can't be saved: [Errno 28] No space left on device" in (tmp_path / "said").read_text()
    assert TrainingStates(tmp_path, "x", world=2, sharded=True)._latest() == tmp_path / "checkpoint-1"


def test_a_state_that_several_processes_sharded_is_refused_by_another_number(tmp_path: Path) -> None:
    (path := tmp_path / "checkpoint-3").mkdir()
    TrainingStates(tmp_path, "x", world=1, sharded=True).save(lambda: (path / "part").write_text("1") and None, path)
    with pytest.raises(StageError, match=r"1 processes saved this training's state.*run with 1 processes, or remove"):
        TrainingStates(tmp_path, "x", world=2, sharded=True).latest()


def test_a_state_held_by_every_process_is_read_by_any_number(tmp_path: Path) -> None:
    (path := tmp_path / "checkpoint-3").mkdir()
    TrainingStates(tmp_path, "x", world=1, sharded=False).save(lambda: (path / "part").write_text("1") and None, path)
    assert TrainingStates(tmp_path, "x", world=2, sharded=False).latest() == path
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-3"]
