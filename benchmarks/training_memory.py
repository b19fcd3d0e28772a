"""Estimated peaks of memory of a training, beside peaks that were measured on a CPU and that others published.

    python benchmarks/training_memory.py --json

Each case trains a random Llama for two steps with a trainer of lrf, in a process of its own (Linux only). What is
measured is the largest resident size of the process over that after a training of a few tokens, which has touched the
libraries' own memory.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

GIB = 2**30
ANSWER = 256
LETTERS = "aeioubcdfg"
TINY = {"hidden": 64, "layers": 1, "heads": 2, "vocab": 4000}
BASE: dict[str, Any] = {
    "init": {"hidden": 256, "layers": 4, "heads": 4, "vocab": 4000},
    **{"global_batch": 1, "max_steps": 2, "dtype": "float32", "preflight": False},
}
CASES: dict[str, dict[str, Any]] = {
    "sft": {"trainer": "sft", "tokens": 4096},
    "sft, tiled MLPs": {"trainer": "sft", "tokens": 4096, "mlp_tiles": 16},
    "sft, activations kept": {"trainer": "sft", "tokens": 2048, "gradient_checkpointing": False},
    "sft, LoRA": {"trainer": "sft", "tokens": 4096, "lora": {"rank": 16, "merge": True}},
    "sft, two micro-batches": {
        **{"trainer": "sft", "tokens": 1024, "global_batch": 2},
        "init": {"hidden": 512, "layers": 4, "heads": 8, "vocab": 4000},
    },
    "dpo": {"trainer": "dpo", "tokens": 4096},
    "dpo, tiled MLPs, LoRA": {"trainer": "dpo", "tokens": 4096, "mlp_tiles": 16, "lora": {"rank": 16, "merge": True}},
}


def measured(case: dict[str, Any]) -> dict[str, float]:
    """Train the case in this process; returns measured and estimated bytes."""
    from lrf.protocols import TrainingJob
    from lrf_dpo.settings import DPOSettings
    from lrf_dpo.trainer import DPO
    from lrf_sft.settings import SFTSettings
    from lrf_sft.trainer import SFT
    from lrf_training.arguments import silence_libraries

    silence_libraries()
    import torch

    import lrf_sft.objective  # noqa: F401  # all that is imported, before the first measurement
    from lrf_training import models
    from lrf_training.memory import estimate
    from lrf_training.shape import shape_of_model

    torch.set_num_threads(2)
    make, seen = models.random_model, dict[str, Any]()

    def random_model(config: Any, seed: int) -> Any:
        model = make(config, seed)
        seen.update(shape=shape_of_model(model), longest=config.max_position_embeddings)
        return model

    models.random_model = random_model
    settings = {**BASE, **case}
    trainer, tokens = settings.pop("trainer"), settings.pop("tokens")

    def train(tokens: int, **changed: Any) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.jsonl"
            prompt = [{"role": "user", "content": text(tokens - ANSWER, 1)}]
            chosen, rejected = ([{"role": "assistant", "content": text(ANSWER, seed)}] for seed in (2, 3))
            row: dict[str, Any] = {"sample_id": "s", "prompt": prompt, "chosen": chosen, "rejected": rejected}
            path.write_text(2 * (json.dumps({"messages": [*prompt, *chosen]} if trainer == "sft" else row) + "\n"))
            job = TrainingJob(pairs=path, output=Path(folder) / "out", model="", seed=1, prompt_template_sha256="")
            sources = {"sources": [{"path": path}]} if trainer == "sft" else {}
            made = (SFTSettings if trainer == "sft" else DPOSettings).model_validate({**settings, **changed, **sources})
            runner: Any = SFT(made) if isinstance(made, SFTSettings) else DPO(made)  # type: ignore[arg-type]
            runner.train(job)
            return made

    train(2 * ANSWER, init=TINY)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the largest resident size starts again
    before = resident("VmRSS")
    estimated = estimate(train(tokens), seen["shape"], 1, seen["longest"], ANSWER)
    parts = {name: getattr(estimated, name) / GIB for name in estimated.__slots__}
    measured = (resident("VmHWM") - before) / GIB
    return {"measured": measured, "estimated": estimated.together / GIB, "longest": seen["longest"], **parts}


def resident(which: str) -> int:
    """This process's resident bytes (VmRSS), or the most there have been (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(which))


def text(words: int, seed: int) -> str:
    """So many words that are a token each: the tokenizer learns all of them."""
    import random

    drawn = random.Random(seed)
    return " ".join("".join(drawn.choices(LETTERS, k=2)) for _ in range(words))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--json", action="store_true", help="print one line of JSON")
    arguments.add_argument("--case", help="only this case, in this process")
    given = arguments.parse_args()
    if given.case:
        print(json.dumps(measured(CASES[given.case])))
        return
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # memory that is freed is given back
    found = {}
    for name in CASES:
        done = subprocess.run([sys.executable, __file__, "--case", name], env=env, stdout=subprocess.PIPE, check=True)
        found[name] = json.loads(done.stdout.decode().splitlines()[-1])
        if not given.json:
            print(f"{name:28} {found[name]}", flush=True)
    ratios = {name: round(one["estimated"] / one["measured"], 3) for name, one in found.items()}
    print(
        json.dumps(
            {"estimated_over_measured": ratios, "worst": max(abs(r - 1) for r in ratios.values()), "cases": found}
        )
    )


if __name__ == "__main__":
    main()
