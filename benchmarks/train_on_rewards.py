"""Real TRL trainings on rewards of `lrf serve`, with a judge that fails for good on some questions; prints JSON.

    python benchmarks/train_on_rewards.py [--failing 0.05] [--steps 4]

A tiny random Llama is trained by GRPO (awaited rewards) and by OnlineDPO (synchronous ones), on a CPU, by the server of
tests/support/judge_server.py, which never gives a readable reply to some prompts (by a hash). Counted is what reaches
the trainer: rewards, missing ones, and zeros that no judge gave. OnlineDPO has no word for a missing reward, so -1
stands in for it there, and is counted as missing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "2")
sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))

from score_http import machine

import lrf_doors.trl
from judge_server import JudgeServer, default_reply
from lrf_doors.source import Source
from project import sample_row
from reward_server import serve_apart
from tiny_llama import write_tiny_llama

STAND_IN = -1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--failing", type=float, default=0.05, help="the share of prompts that is never answered")
    parser.add_argument("--steps", type=int, default=4)
    arguments = parser.parse_args()
    judge = JudgeServer()
    judge.reply = lambda prompt, temperature: reply(prompt, temperature, arguments.failing)
    judge.start()
    results: dict[str, Any] = {"machine": machine(), "failing": arguments.failing}
    with tempfile.TemporaryDirectory() as folder:
        pipeline = write_pipeline(Path(folder), judge.base_url)
        write_tiny_llama(Path(folder) / "policy", window=4096)
        with serve_apart(pipeline, Path(folder) / "runs") as server:
            for name, train in (("grpo", grpo), ("online_dpo", online_dpo)):
                results[name] = train(Path(folder), server.url, arguments.steps)
            results["judge_calls"] = judge.books.calls
    print(json.dumps(results, indent=2))
    judge.stop()


def reply(prompt: str, temperature: float, failing: float) -> str:
    """An unreadable reply to some prompts, at every attempt. No rating is 0, so that every 0 is a made-up one."""
    if hashlib.sha256(prompt.encode()).digest()[0] < 256 * failing:
        return "I'd rather not say."
    return default_reply(prompt, temperature).replace("[[0]]", "[[1]]")


def write_pipeline(folder: Path, base_url: str) -> Path:
    """Two dimensions, as JSON, which is YAML. Unreadable replies must not stop the run."""
    judge = {"type": "openai", "base_url": base_url, "model": "sim", "max_concurrency": 32}
    file = folder / "pipeline.yaml"
    file.write_text(
        json.dumps({"name": "rewards", "judges": {"main": judge}, "dimensions": ["helpfulness", "logicality"]})
    )
    return file


class Watched(lrf_doors.trl.RewardFunction):
    """Counts what the trainer is given."""

    given: list[Any] = []  # noqa: RUF012 (one for all)

    async def __call__(self, prompts: list[Any], completions: list[Any], **columns: Any) -> list[float | None]:
        values = await super().__call__(prompts, completions, **columns)
        self.given.extend(values)
        return values


class WatchedSync(lrf_doors.trl.SyncRewardFunction):
    """The same for synchronous code."""

    given: list[Any] = []  # noqa: RUF012 (one for all)

    def __call__(self, prompts: list[Any], completions: list[Any], **columns: Any) -> list[float | None]:  # type: ignore[override]
        values = super().__call__(prompts, completions, **columns)
        self.given.extend(values)
        return values


def rows(number: int) -> Any:
    from datasets import Dataset

    samples = [sample_row(i) for i in range(number)]
    return Dataset.from_list(
        [{"prompt": s["query"], "context": s["context"][:300], "query": s["query"]} for s in samples]
    )


def settings(folder: Path, name: str, steps: int) -> dict[str, Any]:
    return {
        "output_dir": str(folder / name), "max_steps": steps, "per_device_train_batch_size": 8, "use_cpu": True,
        "report_to": [], "logging_steps": 1, "save_strategy": "no", "seed": 1, "learning_rate": 1e-4, "bf16": False,
        "fp16": False, "disable_tqdm": True,
    }  # fmt: skip


def grpo(folder: Path, url: str, steps: int) -> dict[str, Any]:
    from trl import GRPOConfig, GRPOTrainer

    function = Watched(Source(url, on_missing="missing"))
    config = GRPOConfig(num_generations=8, max_completion_length=12, **settings(folder, "grpo", steps))
    trainer = GRPOTrainer(str(folder / "policy"), reward_funcs=function, args=config, train_dataset=rows(8))
    trainer.train()
    return figures(Watched.given, trainer)


def online_dpo(folder: Path, url: str, steps: int) -> dict[str, Any]:
    from transformers import AutoTokenizer
    from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

    function = WatchedSync(Source(url, on_missing=STAND_IN))
    tokenizer = AutoTokenizer.from_pretrained(folder / "policy", padding_side="left")
    tokenizer.pad_token = tokenizer.eos_token
    config = OnlineDPOConfig(max_new_tokens=12, max_length=512, **settings(folder, "dpo", steps))
    trainer = OnlineDPOTrainer(
        str(folder / "policy"), reward_funcs=function, args=config, train_dataset=rows(8), processing_class=tokenizer
    )
    trainer.train()
    return figures(WatchedSync.given, trainer)


def figures(given: list[Any], trainer: Any) -> dict[str, Any]:
    """What the trainer was given, and that it came to its end with finite losses."""
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return {
        "rewards": len(given),
        "missing": sum(value is None or value == STAND_IN for value in given),
        "zeros_made_up": sum(value == 0 for value in given),
        "steps": trainer.state.global_step,
        "losses_finite": bool(losses) and all(math.isfinite(loss) for loss in losses),
    }


if __name__ == "__main__":
    main()
