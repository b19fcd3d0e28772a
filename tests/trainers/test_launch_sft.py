"""The trainer sft in several processes: DeepSpeed, sequence parallelism, launchers, killed and resumed. Slow."""

from __future__ import annotations

import json
import os
import random
import re
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from launched import Launched, kill, with_children
from lrf.protocols import TrainingJob
from lrf_sft.settings import SFTSettings
from lrf_sft.trainer import SFT
from lrf_training.models import new_tokenizer
from lrf_training.settings import Init
from waiting import until

pytestmark = pytest.mark.slow

STEPS = 6
TRAIN = {
    "type": "sft",
    "sources": [{"path": "rows.jsonl"}],
    "init": {"hidden": 32, "layers": 2, "heads": 4, "vocab": 400},
    "max_steps": STEPS,
    "global_batch": 4,
    "learning_rate": 1e-3,
}
TWO = {"type": "torchrun", "nproc_per_node": 2}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Launched:
    """Rows of different lengths, fewer than the steps need: the second epoch is begun."""
    folder = tmp_path_factory.mktemp("launched")
    drawn = random.Random(1)

    def words(count: int) -> str:
        return " ".join("".join(drawn.choices("aeioubcd", k=drawn.randint(1, 5))) for _ in range(count))

    rows = [{"prompt": words(drawn.randint(5, 30)), "completion": words(drawn.randint(2, 12))} for _ in range(18)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Launched(folder, TRAIN)


@pytest.fixture(scope="module")
def alone(runs: Launched) -> list[float]:
    """The losses of one process without DeepSpeed."""
    return by_one_process(runs, "alone", TRAIN)


def by_one_process(runs: Launched, name: str, train: dict[str, Any], model: Path | None = None) -> list[float]:
    """The losses of a training in this process, whose output is where a run of this name would have it."""
    output = runs.output(name)
    output.mkdir(parents=True)
    settings = {key: value for key, value in train.items() if key != "type"}
    settings["sources"] = [{"path": runs.folder / "rows.jsonl"}]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as each of several processes has: sums of more differ in a bit
    try:
        job = TrainingJob(output / "none", output, None if model is None else str(model), 0, "")
        SFT(SFTSettings.model_validate(settings)).train(job)
    finally:
        torch.set_num_threads(threads)
    return runs.losses(name)


@pytest.fixture(scope="module")
def zero_2(runs: Launched) -> str:
    """A run in two processes with ZeRO-2, which was killed with everything that belongs to it, and run again."""
    process = runs.start("zero-2", TWO, zero=2, save_every=3)
    runs.until_saved("zero-2", 3)
    workers = runs.ranks("zero-2")
    assert len(workers) == 2
    process.kill()
    process.wait()
    until(lambda: not runs.ranks("zero-2"))  # no orphan
    code, said = runs.run("zero-2", {**TWO, "nproc_per_node": 1}, zero=2, save_every=3)
    assert code == 1
    assert "2 processes saved this training's state" in said
    code, said = runs.run("zero-2", TWO, zero=2, save_every=3)
    assert code == 0, said
    return said


def test_two_processes_with_zero_2_have_one_process_s_losses(runs: Launched, alone: list[float], zero_2: str) -> None:
    assert runs.losses("zero-2") == pytest.approx(alone, abs=1e-5)


def test_a_training_resumes_in_more_processes_than_it_began_in(runs: Launched, alone: list[float]) -> None:
    process = runs.start("moved", save_every=3)
    runs.until_saved("moved", 3)
    process.kill()
    process.wait()
    code, said = runs.run("moved", TWO, save_every=3)
    assert code == 0, said
    assert {"note": "training resumes from step 3"} in runs.told("moved")
    assert runs.losses("moved") == pytest.approx(alone, abs=1e-5)


def test_two_processes_with_zero_3_and_tiled_mlps_have_one_process_s_losses(runs: Launched, alone: list[float]) -> None:
    code, said = runs.run("zero-3", TWO, zero=3, mlp_tiles=3)
    assert code == 0, said
    assert runs.losses("zero-3") == pytest.approx(alone, abs=1e-5)


def test_two_processes_that_share_each_sequence_do_too_and_go_on_when_one_was_killed(
    runs: Launched, alone: list[float]
) -> None:
    shared: dict[str, Any] = {"zero": 3, "sequence_parallel": 2, "save_every": 3}
    process = runs.start("shared", TWO, **shared)
    runs.until_saved("shared", 3)
    kill(runs.ranks("shared")[1])
    said, _ = process.communicate(timeout=280)
    assert process.returncode == 1
    assert "rank 1 of 2 was ended by signal 9, and the training with it" in said
    code, said = runs.run("shared", TWO, **shared)
    assert code == 0, said
    assert {"note": "training resumes from step 3"} in runs.told("shared")
    assert runs.losses("shared") == pytest.approx(alone, abs=1e-5)
    norms = [[line["grad_norm"] for line in runs.log(name)] for name in ("alone", "shared")]
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)


def test_a_machine_that_stops_lets_two_processes_save_their_state(runs: Launched) -> None:
    """It sends SIGTERM to every process; torchrun and lrf pass it on besides."""
    process = runs.start("stopping", TWO, max_steps=4000)
    until((runs.output("stopping") / "training_log.jsonl").exists)
    for pid in with_children(process.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    said, _ = process.communicate(timeout=280)
    assert process.returncode == 130
    step = re.search(r"stopped after step (\d+) of 4000; its state is saved", said)
    assert step is not None, said
    assert (runs.output("stopping") / "training" / f"checkpoint-{step[1]}" / "complete.json").exists()


def test_packed_sequences_that_two_processes_share_have_the_losses_of_one_process(runs: Launched) -> None:
    packed: dict[str, Any] = {"packing": True, "max_tokens": 121, "global_batch": 2}
    code, said = runs.run("packed-2", TWO, zero=3, sequence_parallel=2, **packed)
    assert code == 0, said
    alone = by_one_process(runs, "packed", {**TRAIN, **packed})
    assert runs.losses("packed-2") == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize("kind", ["mistral", "mixtral"])
def test_other_architectures_share_sequences(runs: Launched, kind: str) -> None:
    tokenizer = new_tokenizer(["aeioubcd " * 9], Init(vocab=400))
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 400}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "sliding_window": None, "num_local_experts": 4}
    ends = {"pad_token_id": tokenizer.pad_token_id, "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id}
    folder = runs.folder / kind
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes, **ends)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    train = {**TRAIN, "init": None, "max_steps": 3}
    both = Launched(runs.folder, train, policy={"model": str(folder)})
    shared: dict[str, Any] = {"zero": 3, "sequence_parallel": 2}
    code, said = both.run(f"{kind}-shared", TWO, **shared)
    assert code == 0, said
    alone = by_one_process(both, f"{kind}-alone", train, folder)
    assert both.losses(f"{kind}-shared") == pytest.approx(alone, abs=1e-5)
