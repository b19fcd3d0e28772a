"""Reference log-probabilities: made once, stored with checksums, the same for any number of processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from lrf.errors import StageError
from lrf_dpo.reference import FILE, REFERENCE, add_reference_logps
from lrf_dpo.settings import DPOSettings
from lrf_dpo.trainer import DPO

ROWS = [{"prompt_ids": [1, 2, n], "answer_ids": [3, n, 4, 5], "answer_lengths": [2.0, 1.0, 1.0]} for n in range(7)]


class Model:
    """Log-probabilities that say which row they are of, and what was asked."""

    def __init__(self, fail_after: int = 1000) -> None:
        self.asked: list[int] = []
        self.fail_after = fail_after

    def __call__(self, row: Any, *_: Any) -> tuple[float, ...]:
        if len(self.asked) == self.fail_after:
            raise KeyboardInterrupt
        self.asked.append(row["prompt_ids"][2])
        return -0.1 * row["prompt_ids"][2], -float(len(row["prompt_ids"])), -1 / 3


def values(dataset: Any) -> list[list[float]]:
    return list(dataset[REFERENCE])


VALUES = [[-0.1 * n, -3.0, -1 / 3] for n in range(7)]


def run(folder: Path, model: Model, rows: Any = ROWS, identity: str = "m") -> Any:
    return add_reference_logps(Dataset.from_list(rows), folder, identity, model)


def test_every_row_gets_a_value_for_each_answer(tmp_path: Path) -> None:
    found = run(tmp_path, Model())
    assert values(found) == VALUES
    assert found.column_names == ["prompt_ids", "answer_ids", "answer_lengths", REFERENCE]


def test_they_are_made_once(tmp_path: Path) -> None:
    first = values(run(tmp_path, Model()))
    again = Model()
    assert values(run(tmp_path, again)) == first
    assert again.asked == []


def test_computing_reference_log_probabilities_resumes_after_a_kill(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Model(fail_after=4))
    with next(tmp_path.glob("rank-*.jsonl")).open("a") as torn:
        torn.write('{"row": 4, "tok')
    rest = Model()
    assert values(run(tmp_path, rest)) == VALUES
    assert rest.asked == [4, 5, 6]


def test_a_step_that_was_killed_after_its_last_row_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as killed:
        killed.setattr("lrf_dpo.reference.pq.write_table", Model(fail_after=0))
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, Model())
    again = Model()
    assert values(run(tmp_path, again)) == VALUES
    assert again.asked == []
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_another_model_makes_them_anew(tmp_path: Path) -> None:
    run(tmp_path, Model())
    other = Model()
    run(tmp_path, other, identity="another")
    assert len(other.asked) == 7


def test_a_row_with_other_tokens_is_made_anew(tmp_path: Path) -> None:
    run(tmp_path, Model())
    changed = [*ROWS[:2], {**ROWS[2], "answer_ids": [9, 9, 4, 5]}, *ROWS[3:]]
    other = Model()
    run(tmp_path, other, changed)
    assert other.asked == [2]


def test_a_value_that_was_tampered_with_is_made_anew(tmp_path: Path) -> None:
    first = values(run(tmp_path, Model()))
    rows = pq.read_table(tmp_path / FILE).to_pylist()
    rows[5][REFERENCE][0] -= 1e-9
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / FILE)
    again = Model()
    assert values(run(tmp_path, again)) == first
    assert again.asked == [5]


def test_a_damaged_file_is_made_anew(tmp_path: Path) -> None:
    first = values(run(tmp_path, Model()))
    (tmp_path / FILE).write_bytes(b"PAR1 nothing of use")
    assert values(run(tmp_path, Model())) == first


def test_a_value_that_is_no_number_stops_and_names_the_row(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="the answers of row 1 have the log-probabilities nan"):
        add_reference_logps(Dataset.from_list(ROWS), tmp_path, "m", lambda _: (float("nan"), 0.0))


CHILD = """
import sys
from pathlib import Path
import torch.distributed as dist
dist.init_process_group("gloo")
from datasets import Dataset
from lrf_dpo.reference import add_reference_logps
from lrf_training.processes import rank
rows = [{"prompt_ids": [1, 2, n], "answer_ids": [3, n, 4, 5], "answer_lengths": [2.0, 1.0, 1.0]} for n in range(7)]
asked = []
def model(row):
    asked.append(row["prompt_ids"][2])
    return -0.1 * row["prompt_ids"][2], -3.0, -1 / 3
found = add_reference_logps(Dataset.from_list(rows), Path(sys.argv[1]), "m", model, lockstep=True)
Path(sys.argv[1], f"asked-{rank()}").write_text(f"{asked} {list(found['ref_logps'])}")
"""


@pytest.mark.slow
def test_several_processes_share_the_rows_and_all_get_the_values(tmp_path: Path) -> None:
    (tmp_path / "child.py").write_text(CHILD)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    subprocess.run([*command, str(tmp_path / "child.py"), str(tmp_path)], check=True, capture_output=True, timeout=100)
    assert (tmp_path / "asked-0").read_text() == f"[0, 2, 4, 6] {VALUES}"
    assert (tmp_path / "asked-1").read_text() == f"[1, 3, 5, 0] {VALUES}"  # the last one keeps step with the other
    alone = run(tmp_path / "alone", Model())
    assert values(alone) == VALUES
    assert (tmp_path / "alone" / FILE).read_bytes() == (tmp_path / FILE).read_bytes()


def test_in_bfloat16_the_policy_begins_as_its_own_reference(job, row) -> None:
    reports: list[Any] = []
    settings = DPOSettings.model_validate(
        {"init": {"hidden": 16, "layers": 1, "heads": 2, "vocab": 320}, "global_batch": 2, "max_steps": 1}
        | {"dtype": "bfloat16", "prefix_sharing": "on", "ce": {"weight": 0}}
    )
    metrics = DPO(settings).train(job([row(0), row(1)], report=reports.append)).metrics
    assert metrics["dtype"] == "bfloat16"
    assert next(r for r in reports if "loss" in r)["loss"] == pytest.approx(0.693147, abs=1e-6)


def test_training_with_stored_log_probabilities_is_training_with_a_second_model(job, row) -> None:
    """At the first step the policy is the reference: the loss is log 2 and the margin nought."""
    reports: list[Any] = []
    settings = DPOSettings.model_validate(
        {"init": {"hidden": 16, "layers": 1, "heads": 2, "vocab": 320}, "global_batch": 2, "max_steps": 2}
        | {"learning_rate": 1e-3, "ce": {"weight": 0}}
    )
    DPO(settings).train(job([row(0), row(1)], report=reports.append))
    first, second = (r for r in reports if "loss" in r)
    assert first["loss"] == pytest.approx(0.693147, abs=1e-6)
    assert abs(first["margin"]) < 1e-6
    assert second["margin"] > 1e-4
    table = pq.read_table(job([row(0)]).output / "reference" / FILE)
    assert table.column_names == ["row", "tokens", REFERENCE, "checksum"]
