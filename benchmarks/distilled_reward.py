"""Distils recorded scores into a small reward model, and compares it with the judges on answers held out; prints JSON.

    python benchmarks/distilled_reward.py
    python benchmarks/distilled_reward.py --llmbar PATH/llmbar --model PATH/model

Without data: planted ratings, which a tiny random model can learn. With --llmbar: the ratings that GPT-4 and ChatGPT
gave the 200 answers of LLMBar Natural (the folder holds natural.*.Rating.result.json), one output for each judge.
--model is a folder with safetensors weights to start from; without it the model is tiny and random. For each output:
Pearson's and Spearman's correlation with the judge on held-out samples, and those of the answers' length alone.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lrf.protocols import TrainingJob
from lrf_reward.settings import RewardSettings
from lrf_reward.trainer import RewardTrainer

JUDGES = {"gpt4": "GPT-4", "chatgpt": "ChatGPT"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llmbar", type=Path, help="the folder of LLMBar's files")
    parser.add_argument("--model", help="a folder of weights to start from")
    parser.add_argument("--epochs", type=float, default=6)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--held-out", type=float, default=0.3)
    parser.add_argument("--max-tokens", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    settings: dict[str, Any] = {
        "epochs": options.epochs,
        "held_out": options.held_out,
        "global_batch": 8,
        "micro_batch": 1 if options.model else 8,
        "learning_rate": options.learning_rate or (2e-5 if options.model else 5e-3),
        "max_tokens": options.max_tokens,
        "on_too_long": "drop",
        "max_lost": 0.2,
    }
    if options.model is None:
        settings["init"] = {"hidden": 64, "layers": 2, "heads": 4, "vocab": 300}  # letters stay tokens
    with tempfile.TemporaryDirectory() as folder:
        scored = Path(folder) / "scored.jsonl"
        rows = llmbar(options.llmbar) if options.llmbar else planted(1000, options.seed)
        scored.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        job = TrainingJob(
            pairs=scored,
            scored=scored,
            output=Path(folder) / "out",
            model=options.model,
            seed=options.seed,
            prompt_template_sha256="",
        )
        began = time.monotonic()
        metrics = RewardTrainer(RewardSettings.model_validate(settings)).train(job).metrics
    names = ("held_out", "answers", "lost_answers", "steps", "longest")
    print(json.dumps({**{n: metrics[n] for n in names}, "seconds": round(time.monotonic() - began, 1)}, indent=2))


def llmbar(folder: Path) -> Iterator[dict[str, Any]]:
    """The answers of LLMBar Natural, with each judge's recorded rating (1 to 10)."""
    recorded = {
        name: json.loads((folder / f"natural.{judge}.Rating.result.json").read_text(encoding="utf-8"))
        for name, judge in JUDGES.items()
    }
    for number, item in enumerate(recorded["gpt4"]):
        for place in ("1", "2"):
            ratings = {
                name: number_in(rows[number]["results"][0][f"score_{place}"][0]) for name, rows in recorded.items()
            }
            yield row(f"{number}", place, item["input"], item[f"output_{place}"], ratings)


def planted(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Answers whose two ratings are the shares of one letter in their halves; their length says nothing."""
    source = random.Random(seed)
    for number in range(count):
        length = source.randint(6, 20)
        shares = [source.random() for _ in range(2)]
        halves = [
            "".join(source.choices(letters, (share, 1 - share), k=length))
            for letters, share in zip(("ax", "by"), shares, strict=True)
        ]
        ratings = {"first": 10 * halves[0].count("a") / length, "second": 10 * halves[1].count("b") / length}
        yield row(str(number), "0", "Which letters?", " ".join(halves), ratings)


def row(sample: str, candidate: str, question: str, answer: str, ratings: dict[str, float | None]) -> dict[str, Any]:
    return {
        "sample_id": sample,
        "candidate_id": candidate,
        "prompt": [{"role": "user", "content": question}],
        "answer": [{"role": "assistant", "content": answer}],
        "ratings": ratings,
    }


def number_in(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


if __name__ == "__main__":
    main()
