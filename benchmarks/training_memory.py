"""Foretold peaks of memory of a training, beside peaks that were measured on a CPU and that others published.

    python benchmarks/training_memory.py --json

Each case trains a random Llama for a few steps with a trainer of lrf, in a process of its own. What is measured is the
largest resident size of the process over that after its imports.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

GIB = 2**30
WORDS = "aeioubcdfg"
BASE: dict[str, Any] = {
    "init": {"hidden": 512, "layers": 6, "heads": 8, "vocab": 4000},
    **{"global_batch": 1, "max_steps": 2, "dtype": "float32", "preflight": False},
}
CASES: dict[str, dict[str, Any]] = {
    "sft": {"trainer": "sft", "tokens": 16384},
    "sft, tiled MLPs": {"trainer": "sft", "tokens": 16384, "mlp_tiles": 16},
    "sft, activations kept": {"trainer": "sft", "tokens": 4096, "gradient_checkpointing": False},
    "sft, LoRA": {"trainer": "sft", "tokens": 16384, "lora": {"rank": 16, "merge": True}},
    "sft, two micro-batches": {
        **{"trainer": "sft", "tokens": 2048, "global_batch": 2},
        "init": {"hidden": 1024, "layers": 8, "heads": 8, "vocab": 4000},
    },
    "dpo": {"trainer": "dpo", "tokens": 16384},
    "dpo, tiled MLPs, LoRA": {"trainer": "dpo", "tokens": 16384, "mlp_tiles": 16, "lora": {"rank": 16, "merge": True}},
}


def measured(case: dict[str, Any]) -> dict[str, float]:
    """Train the case in this process; returns measured and foretold bytes."""
    from lrf.protocols import TrainingJob
    from lrf_dpo.settings import DPOSettings
    from lrf_dpo.trainer import DPO
    from lrf_sft.settings import SFTSettings
    from lrf_sft.trainer import SFT
    from lrf_training.arguments import silence_libraries

    silence_libraries()
    import torch

    import lrf_dpo.objective
    import lrf_sft.objective  # noqa: F401  # all that is imported, before the first measurement
    from lrf_training import models
    from lrf_training.memory import foretell
    from lrf_training.shape import shape_of_model

    torch.set_num_threads(2)
    settings, seen = {**BASE, **case}, {}
    trainer, tokens, answer = settings.pop("trainer"), settings.pop("tokens"), 256
    make = models.new_model

    def new_model(*arguments: Any) -> Any:
        model = make(*arguments)
        seen["shape"], seen["longest"] = shape_of_model(model), arguments[2]
        return model

    models.new_model = new_model
    with tempfile.TemporaryDirectory() as folder:
        rows, output = Path(folder) / "rows.jsonl", Path(folder) / "out"
        prompt = [{"role": "user", "content": text(tokens - answer, 1)}]
        chosen, rejected = ([{"role": "assistant", "content": text(answer, seed)}] for seed in (2, 3))
        row: dict[str, Any] = {"sample_id": "s", "prompt": prompt, "chosen": chosen, "rejected": rejected}
        if trainer == "sft":
            row = {"messages": [*prompt, *chosen]}
        rows.write_text(2 * (json.dumps(row) + "\n"))
        job = TrainingJob(pairs=rows, output=output, model="", seed=1, prompt_template_sha256="")
        made: Any = DPOSettings.model_validate(settings)
        runs: Any = DPO(made)
        if trainer == "sft":
            made = SFTSettings.model_validate({**settings, "sources": [{"path": rows}]})
            runs = SFT(made)
        torch.ones(1, requires_grad=True).mul(2).sum().backward()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        runs.train(job)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    foretold = foretell(made, seen["shape"], 1, seen["longest"], answer)
    parts = {name: getattr(foretold, name) / GIB for name in foretold.__slots__}
    return {"measured": (peak - before) / GIB, "foretold": foretold.together / GIB, "longest": seen["longest"], **parts}


def text(words: int, seed: int) -> str:
    """So many words that are a token each: the tokenizer learns all of them."""
    import random

    drawn = random.Random(seed)
    return " ".join("".join(drawn.choices(WORDS, k=2)) for _ in range(words // 2))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--json", action="store_true", help="print one line of JSON")
    arguments.add_argument("--case", help="only this case, in this process")
    given = arguments.parse_args()
    if given.case:
        print(json.dumps(measured(CASES[given.case])))
        return
    found = {}
    for name in CASES:
        done = subprocess.run([sys.executable, __file__, "--case", name], capture_output=True, text=True, check=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
        if not given.json:
            print(f"{name:28} {found[name]}", flush=True)
    ratios = {name: round(one["foretold"] / one["measured"], 3) for name, one in found.items()}
    print(json.dumps({"foretold_over_measured": ratios, "worst": max(abs(r - 1) for r in ratios.values()), "cases": found}))


if __name__ == "__main__":
    main()
