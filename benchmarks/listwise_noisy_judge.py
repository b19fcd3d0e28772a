"""All scored candidates against the best and the worst, with a judge of whose ratings 20% are off, at equal tokens.

Each of 32 symbols has a hidden worth, and an answer of five symbols is worth their mean, from 0 to 10. Ten random
answers at a prompt of 160 tokens are rated: the worth to a quarter, or, for 20% of them, any number from 0 to 10. A
tiny Llama learns from the ratings in three ways, all by lrf's trainer and with prompts shared:

* ``best_worst``: DPO on the pair of the highest and the lowest rating of a prompt (the paper's);
* ``all_pairs``: ``loss: all_pairs``, weighed by the margin;
* ``listwise``: ``loss: listwise``.

All see as many tokens: a pair is 170 of them and a list 210, so pairs get more prompts. Learning rates are chosen for
each way by two seeds that aren't among those that are reported. ``accuracy`` is the share of held-out answers (100
prompts, all pairs of ten) whose implicit rewards are in the order of their worth; ``over_best_worst`` is the mean
difference to ``best_worst`` with its 95% interval (Student's t over the seeds; data, worth, noise and weights differ).

    python benchmarks/listwise_noisy_judge.py --json
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import random
import statistics
import sys
import tempfile
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

SYMBOLS, FIRST = 32, 2
PROMPT, ANSWER, ANSWERS = 160, 5, 10
BETA, BATCH = 0.15, 8
RATES = (1e-3, 3e-3, 1e-2)
WAYS = ("best_worst", "all_pairs", "listwise")


@dataclass
class World:
    """Prompts, answers, what they are worth, and what the judge says; all by the seed."""

    seed: int
    off: float

    @cached_property
    def source(self) -> random.Random:
        return random.Random(self.seed)

    @cached_property
    def worth(self) -> list[float]:
        return [self.source.uniform(0, 10) for _ in range(SYMBOLS)]

    def sample(self) -> tuple[list[int], list[list[int]], list[float]]:
        """A prompt, its answers, and their worth."""
        symbols = range(SYMBOLS)
        prompt, *answers = (self.source.choices(symbols, k=n) for n in (PROMPT, *[ANSWER] * ANSWERS))
        worth = [statistics.fmean(self.worth[symbol] for symbol in answer) for answer in answers]
        return [FIRST + s for s in prompt], [[FIRST + s for s in answer] for answer in answers], worth

    def rated(self, worth: float) -> float:
        return self.source.uniform(0, 10) if self.source.random() < self.off else round(4 * worth) / 4


def rows(world: World, way: str, tokens: int) -> list[dict[str, Any]]:
    """Rows of up to so many tokens."""
    from lrf_dpo.rows import token_row

    made: list[dict[str, Any]] = []
    while tokens > 0:
        prompt, answers, worth = world.sample()
        ratings = list(map(world.rated, worth))
        if way == "best_worst":
            best, worst = ratings.index(max(ratings)), ratings.index(min(ratings))
            answers, ratings = [answers[best], answers[worst]], [1.0, 0.0]
        columns, numbers = token_row(prompt, answers, ratings)
        made.append({**columns, **numbers})
        tokens -= PROMPT + ANSWER * len(answers)
    return made


def train(way: str, seed: int, rate: float, options: argparse.Namespace) -> float:
    """The held-out accuracy after training."""
    import torch
    from datasets import Dataset
    from transformers import LlamaConfig, LlamaForCausalLM, PrinterCallback
    from trl import DPOConfig

    from lrf_dpo.batches import ListCollator
    from lrf_dpo.objective import DPOWithCETrainer
    from lrf_dpo.settings import CE
    from lrf_training.list_losses import all_pairs, plackett_luce
    from lrf_training.models import new_tokenizer
    from lrf_training.prefix_sharing import PrefixSharing, answer_log_probs, share_prompts
    from lrf_training.settings import Init

    torch.manual_seed(seed)
    policy: Any = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=FIRST + SYMBOLS,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=PROMPT + ANSWER,
            pad_token_id=0,
            eos_token_id=1,
        )
    )
    reference = copy.deepcopy(policy)
    world = World(seed, options.off)
    world.worth  # drawn first, so that it is the same for all ways
    data = rows(world, way, options.tokens)
    losses = {"best_worst": all_pairs, "all_pairs": partial(all_pairs, weighted=True), "listwise": plackett_luce}
    trainer = DPOWithCETrainer(
        ce=CE(weight=options.ce),
        preference=losses[way],
        args=DPOConfig(
            tempfile.mkdtemp(),
            beta=BETA,
            max_length=None,
            learning_rate=rate,
            lr_scheduler_type="linear",
            per_device_train_batch_size=BATCH,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            seed=seed,
        ),
        model=policy,
        ref_model=reference,
        train_dataset=Dataset.from_list(data),
        processing_class=new_tokenizer(["x"], Init()),
        data_collator=ListCollator(share_prompts, 0),
    )
    trainer.remove_callback(PrinterCallback)
    for model in (policy, reference):
        PrefixSharing(model)
    trainer.train()

    held_out, right, pairs = World(10_000 + seed, 0.0), 0, 0
    held_out.worth = world.worth
    policy.eval()
    for _ in range(options.held_out // BATCH):
        samples = [held_out.sample() for _ in range(BATCH)]
        batch = share_prompts([(prompt, answer) for prompt, answers, _ in samples for answer in answers], 0)
        with torch.no_grad():
            gained = (answer_log_probs(policy, batch) - answer_log_probs(reference, batch)).sum(1)
        for of_prompt, (_, _, worth) in zip(gained.split(ANSWERS), samples, strict=True):
            wanted = torch.tensor(worth)
            apart = wanted[:, None] > wanted[None]
            right += int(((of_prompt[:, None] > of_prompt[None]) & apart).sum())
            pairs += int(apart.sum())
    return right / pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=24_000, help="of each training")
    parser.add_argument("--off", type=float, default=0.2, help="share of the ratings that are off")
    parser.add_argument("--ce", type=float, default=0.1, help="weight of the cross-entropy term")
    parser.add_argument("--held-out", type=int, default=100, help="prompts")
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "2", "HF_HUB_DISABLE_TELEMETRY": "1", "TRANSFORMERS_VERBOSITY": "error"}
    with redirect_stdout(sys.stderr):  # libraries' warnings
        tuned = {way: tune(way, options) for way in WAYS}
        found = {way: [train(way, seed, tuned[way], options) for seed in range(options.seeds)] for way in WAYS}
    result = {
        "accuracy": {way: round(statistics.fmean(values), 4) for way, values in found.items()},
        "over_best_worst": {
            way: interval([a - b for a, b in zip(found[way], found["best_worst"], strict=True)]) for way in WAYS[1:]
        },
        "learning_rate": tuned,
        "seeds": options.seeds,
        "tokens": options.tokens,
        "ratings_off": options.off,
        "by_seed": {way: [round(value, 4) for value in values] for way, values in found.items()},
    }
    print(json.dumps(result) if options.json else json.dumps(result, indent=2))


def tune(way: str, options: argparse.Namespace) -> float:
    accuracy = {rate: statistics.fmean(train(way, seed, rate, options) for seed in (101, 102)) for rate in RATES}
    print(f"{way}: {accuracy}", file=sys.stderr)
    return max(accuracy, key=accuracy.__getitem__)


def interval(differences: list[float]) -> dict[str, float]:
    """Mean and 95% interval."""
    from scipy.stats import t

    mean, error = statistics.fmean(differences), statistics.stdev(differences) / len(differences) ** 0.5
    reach = float(t.ppf(0.975, len(differences) - 1)) * error
    return {"mean": round(mean, 4), "low": round(mean - reach, 4), "high": round(mean + reach, 4)}


if __name__ == "__main__":
    main()
