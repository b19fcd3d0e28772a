"""Answers by a vLLM server: it gets the policy's weights before it writes, and may go away for a while."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from copying_model import write_copier
from lrf.errors import RunInterruptedError, StageError
from lrf.protocols import Answers, TrainingJob
from lrf.types import Reward
from lrf_grpo.patience import Patience
from lrf_grpo.settings import VLLM, GRPOSettings
from lrf_grpo.trainer import GRPO
from lrf_grpo.vllm_server import VLLMServer, sampling
from weights_server import WeightsServer

TINY: dict[str, Any] = {
    "init": {"hidden": 16, "layers": 1, "heads": 2, "vocab": 320},
    "group": 4,
    "global_batch": 2,
    "answer_tokens": 5,
    "learning_rate": 0.03,
    "beta": 1e-6,
    "scheduler": "constant",
    "max_steps": 3,
    "patience": 0,
    "preflight": False,
    "gradient_checkpointing": False,
}


class Letters:
    """Rewards by the letters of an answer."""

    dimensions = ("d",)

    def score(self, answers: Sequence[Answers]) -> list[tuple[Reward, ...]]:
        return [tuple(self._reward(float(sum(map(ord, text)) % 11)) for text in one.texts) for one in answers]

    def _reward(self, value: float) -> Reward:
        return Reward("s", "c", value, {"d": value})

    def costs(self) -> dict[str, Any]:
        return {"usage": {}}


@pytest.fixture
def server() -> Iterator[WeightsServer]:
    server = WeightsServer()
    yield server
    server.close()


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """Trains on four prompts; returns the lines of the log."""

    def run(base_url: str, model: str = "", **settings: Any) -> list[dict[str, Any]]:
        prompts, output = tmp_path / "prompts.jsonl", tmp_path / "out"
        rows = [{"sample_id": f"s{n}", "prompt": [{"role": "user", "content": "abcd"[n:] * 2}]} for n in range(4)]
        prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
        made = GRPOSettings.model_validate(TINY | {"vllm": {"base_url": base_url}} | settings)
        GRPO(made).train(TrainingJob(tmp_path / "none", output, model, 7, "", prompts=prompts, rewards=Letters()))
        assert not (output / "vllm").exists()
        return [json.loads(line) for line in (output / "training_log.jsonl").read_text().splitlines()]

    return run


@pytest.mark.parametrize("settings", [{}, {"lora": {"rank": 4, "alpha": 64}}], ids=["weights", "adapters"])
def test_the_server_writes_with_the_weights_of_each_step(
    train: Callable[..., Any], server: WeightsServer, settings: dict[str, Any], tmp_path: Path
) -> None:
    base = write_copier(tmp_path / "base", seed=0, steps=1, wrong=0.5) if settings else ""
    log = train(server.base_url, str(base), **(settings | {"init": None} if settings else {}))
    assert [Path(folder).name for folder in server.loaded] == [*["base"][: len(settings)], "step-0", "step-1", "step-2"]
    assert [line["vllm_difference"] for line in log] == pytest.approx([0] * 3, abs=1e-5)
    assert log[-1]["kl"] > 1e-3  # the policy has moved by more
    asked = server.requests[0]
    assert (asked["n"], asked["max_tokens"], asked["ignore_eos"]) == (4, 5, True)
    assert asked["model"] == ("lrf-policy" if settings else "policy")
    assert len({request["seed"] for request in server.requests}) == 6


@pytest.mark.parametrize(
    ("server_is", "said"),
    [
        ({"develops": False}, r"not in development mode\. Start the server .*VLLM_SERVER_DEV_MODE=1 vllm serve"),
        ({"config": {"logprobs_mode": "raw_logprobs"}}, "gives raw_logprobs, not what it drew tokens with"),
        ({"window": 10}, r"takes 10 tokens, and the longest prompt with its answer has 31; start it with --max-mo"),
        ({"away": 1}, r"status 503: starting\. Start the server with the model that is trained"),
    ],
)
def test_a_server_that_cannot_do_it_is_named_before_anything_is_paid(
    train: Callable[..., Any], server: WeightsServer, server_is: dict[str, Any], said: str
) -> None:
    vars(server).update(server_is)
    with pytest.raises(StageError, match=said):
        train(server.base_url)


def test_a_server_that_comes_back_gets_the_weights_again_and_one_that_does_not_ends_the_training(
    server: WeightsServer, tmp_path: Path
) -> None:
    weights = write_copier(tmp_path / "weights", seed=0, steps=1, wrong=0.5)
    notes: list[Any] = []
    now = [0.0]
    settings = VLLM(base_url=f"{server.base_url}/v1")
    patience = Patience(
        "vLLM", 600, notes.append, sleep=lambda seconds: now.__setitem__(0, now[0] + seconds), clock=lambda: now[0]
    )
    client = VLLMServer(settings, sampling(1.0, 1.0, 3, [2]), patience)
    client.check(20)
    asked = [([3, 4, 1], 5), ([5, 6, 1], 6)]
    first = client.answers(weights, asked, 2)
    assert [len(of_prompt) for of_prompt in first] == [2, 2]
    server.away = 3
    assert client.answers(weights, asked, 2) == first
    assert len(server.loaded) > 2
    assert "training waits for vLLM, for 600 s at most" in notes[0]["note"]
    server.away = 10**6
    patience.stopping = lambda: now[0] > 100
    with pytest.raises(RunInterruptedError, match="stopped while it waited for vLLM"):
        client.answers(weights, asked, 2)
    patience.stopping = lambda: False
    with pytest.raises(StageError, match=r"has waited 600 s for vLLM \(patience\): .*503"):
        client.answers(weights, asked, 2)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a real vLLM server, and the model that it was started with."""
    folder = tmp_path_factory.mktemp("vllm")
    base = write_copier(folder / "base", seed=0, steps=300, wrong=0.5, heads=2)  # its CPU kernels want heads of 32
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "VLLM_SERVER_DEV_MODE": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1", "OMP_WAIT_POLICY": "PASSIVE", "LRF_VLLM_ENDS_WITH_PARENT": "1",
    }  # fmt: skip
    command = [os.environ["LRF_VLLM_PYTHON"], "-m", "vllm.entrypoints.openai.api_server", "--model", str(base)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--enforce-eager"]
    command += ["--max-model-len", "64", "--max-num-seqs", "64", "--logprobs-mode", "processed_logprobs"]
    command += ["--enable-lora", "--max-lora-rank", "8"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        while not serves(port):
            assert process.poll() is None, (folder / "log").read_text()[-3000:]
            time.sleep(1)
        yield f"http://127.0.0.1:{port}", base
    finally:
        process.terminate()
        process.wait(60)


def serves(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif("LRF_VLLM_PYTHON" not in os.environ, reason="LRF_VLLM_PYTHON names no interpreter with vLLM")
@pytest.mark.parametrize("settings", [{}, {"lora": {"rank": 4, "alpha": 64}}], ids=["weights", "adapters"])
def test_a_real_vllm_writes_with_the_weights_of_each_step(
    train: Callable[..., Any], real: tuple[str, Path], settings: dict[str, Any]
) -> None:
    """Log-probabilities of vLLM and of the policy are the same after steps that change them much more.

    The second training finds the first one's weights in the server, and must not put its adapters on them.
    """
    base_url, base = real
    log = train(base_url, str(base), **{"init": None, "answer_tokens": 12, **settings})
    assert [line["vllm_difference"] for line in log] == pytest.approx([0] * 3, abs=1e-4)
    assert log[-1]["kl"] > 1e-3
