"""How long a prompt DPO with LoRA takes on one GPU, stock TRL against lrf's prefix sharing. Random weights.

Stock TRL and lrf train on a pair, and lrf also on a list of ten answers (``loss: listwise``), which
``speedup_of_ten_answers`` compares with five pairs of stock's.

For each prompt length and each way, in a child process of its own: seconds a pair (the median of the steps after the
first), peak memory, and the share of the device's own bf16 matrix rate, measured first, that the step reaches. Frozen
weights are bfloat16 and adapters float32, under autocast, as the trainer ``dpo`` has them. A step's work is counted
as what is executed: with activation checkpointing and frozen weights, four passes over the weights (forward, again,
backward through activations, reference) of 2 operations a weight and token, and five units of causal attention. A way
that runs out of memory says so, and longer prompts are not tried with it.

Not yet run on a GPU. It is dry-run by:

    python benchmarks/dpo_long_prompts.py --tiny --device cpu --prompts 64 128 --json

On a GPU, in calls of ten minutes at most: the same command again goes on where the last one stopped, since each child's
figures are kept in a file; what doesn't fit into ``--budget`` seconds is left to the next call.

    python benchmarks/dpo_long_prompts.py --json --budget 540 --results long_prompts.jsonl
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WAYS = ("stock", "shared", "lists")
ANSWERS = {"stock": 2, "shared": 2, "lists": 10}
LENGTHS = (8_192, 16_384, 32_768, 65_536, 131_072)
LLAMA_3_1_8B = {
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128_256,
}
TINY = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 300,
}


def matmul_rate(device: str, size: int) -> float:
    """Operations a second of bf16 matrix products of ``size``³."""
    import torch

    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = []
    for _ in range(20):
        wait(device)
        start = time.perf_counter()
        a @ b
        wait(device)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(seconds[5:])


def wait(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def operations(shape: dict[str, int], sequences: list[int], answers: int) -> float:
    """What a step executes: ``sequences`` are the lengths of what is forwarded, ``answers`` the tokens of both answers.

    The LM head is counted for answers only (so does TRL on a GPU).
    """
    hidden, layers = shape["hidden_size"], shape["num_hidden_layers"]
    kv = hidden * shape["num_key_value_heads"] // shape["num_attention_heads"]
    weights = layers * (2 * hidden * hidden + 2 * hidden * kv + 3 * hidden * shape["intermediate_size"])
    head = hidden * shape["vocab_size"]
    attention = sum(2 * layers * hidden * length**2 for length in sequences)  # causal: half of the square
    return 4 * 2 * (weights * sum(sequences) + head * answers) + 5 * attention


def child(way: str, shape: dict[str, int], prompt: int, answer: int, device: str, steps: int, enough: float) -> None:
    """Print the seconds of each step, the first one's too, and then what was measured; a line of JSON each."""
    from lrf_training.preflight import is_out_of_memory, peak_bytes

    try:
        loss = train(way, shape, prompt, answer, device, steps, enough)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        say({"out_of_memory": True, "peak_gib": round(peak_bytes() / 2**30, 2)})
        return
    say({"loss": loss, "peak_gib": round(peak_bytes() / 2**30, 2)})


def say(figures: dict[str, Any]) -> None:
    print(json.dumps(figures), flush=True)


def train(way: str, shape: dict[str, int], prompt: int, answer: int, device: str, steps: int, enough: float) -> float:
    """One step and then ``steps``, or fewer once those have taken ``enough`` seconds; the last loss."""
    from lrf_training.arguments import silence_libraries

    silence_libraries()
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import DPOConfig, DPOTrainer

    from lrf_dpo.batches import ListCollator
    from lrf_dpo.objective import DPOWithCETrainer
    from lrf_dpo.rows import token_row
    from lrf_dpo.settings import CE
    from lrf_training.list_losses import all_pairs, plackett_luce
    from lrf_training.models import new_tokenizer
    from lrf_training.prefix_sharing import PrefixSharing, share_prompts
    from lrf_training.settings import Init

    gpu = device == "cuda"
    torch.manual_seed(0)
    torch.set_default_device(device)
    torch.set_default_dtype(torch.bfloat16)
    config = LlamaConfig(**shape, max_position_embeddings=prompt + answer, pad_token_id=0, eos_token_id=1)
    model = LlamaForCausalLM._from_config(config, attn_implementation="sdpa")
    torch.set_default_dtype(torch.float32)
    torch.set_default_device("cpu")
    lengths = {"prompt_ids": prompt, "chosen_ids": answer, "rejected_ids": answer}
    rows = [{name: torch.randint(2, shape["vocab_size"], (n,)).tolist() for name, n in lengths.items()}]
    checkpointing = {"use_reentrant": False}
    options: dict[str, Any] = {
        "args": DPOConfig(
            tempfile.mkdtemp(),
            beta=0.15,
            loss_type=["sigmoid", "sft"],
            loss_weights=[1.0, CE().weight],
            max_length=None,
            per_device_train_batch_size=1,
            use_cpu=not gpu,
            bf16=True,
            gradient_checkpointing=True,
            gradient_checkpointing_kwargs=checkpointing,
            report_to="none",
        ),
        "model": model,
        "peft_config": LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
        "processing_class": new_tokenizer(["x"], Init()),
    }
    if way != "stock":
        answers = torch.randint(2, shape["vocab_size"], (ANSWERS[way], answer)).tolist()
        columns, numbers = token_row(rows[0]["prompt_ids"], answers, [float(n) for n in range(ANSWERS[way], 0, -1)])
        rows, options["data_collator"] = [columns | numbers], ListCollator(share_prompts, 0)
        options["preference"] = plackett_luce if way == "lists" else all_pairs
        trainer = DPOWithCETrainer(ce=CE(), train_dataset=Dataset.from_list(rows), **options)
        PrefixSharing(trainer.model)
    else:  # stock insists on preparing text itself
        text: Any = {"prompt": ["x"], "chosen": ["y"], "rejected": ["z"]}
        trainer = DPOTrainer(train_dataset=Dataset.from_dict(text), **options)
    trainer.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=checkpointing)
    policy = trainer.accelerator.prepare_model(trainer.model)  # the device, and autocast
    policy.train()
    optimizer = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad], lr=1e-6, fused=gpu)
    measured = 0.0
    for step in range(steps + 1):
        batch = {k: v.to(device) if hasattr(v, "to") else v for k, v in trainer.data_collator(rows).items()}
        wait(device)
        start = time.perf_counter()
        loss = trainer.compute_loss(policy, batch)
        trainer.accelerator.backward(loss)
        if step == 0 and not any(p.grad is not None and bool(p.grad.any()) for p in policy.parameters()):
            raise AssertionError("no adapter has a gradient, so a step would be less than a step")
        optimizer.step()
        optimizer.zero_grad()
        wait(device)
        seconds = time.perf_counter() - start
        say({"step": step, "seconds": round(seconds, 4)})
        measured += seconds if step else 0
        if measured > enough:
            break
    return float(loss.detach())


def run(way: str, prompt: int, options: argparse.Namespace, limit: float | None) -> dict[str, Any]:
    """What a child measured. One that is stopped after ``limit`` seconds keeps the steps that it has done."""
    command = [sys.executable, __file__, "--child", way, "--prompts", str(prompt), "--answer", str(options.answer)]
    command += ["--device", options.device, "--steps", str(options.steps), "--enough", str(options.enough)]
    command += ["--tiny"] if options.tiny else []
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        try:
            subprocess.run(command, stdout=out, stderr=err, timeout=limit)
            ended: dict[str, Any] = {}
        except subprocess.TimeoutExpired:
            ended = {"timed_out": True}
        out.seek(0)
        err.seek(0)
        said = [json.loads(line) for line in out if line.startswith("{") and line.endswith("}\n")]
        complaint = err.read()[-800:]
    figures: dict[str, Any] = dict(ended)
    steps = [one["seconds"] for one in said if "step" in one]
    figures |= next((one for one in said if "step" not in one), {})
    if steps[1:] and "out_of_memory" not in figures:
        figures["seconds"] = round(statistics.median(steps[1:]), 4)
    elif not figures:
        figures["failed"] = complaint
    return figures | {"steps": steps, "wall_s": round(time.monotonic() - began, 1)}


class Records:
    """The children's figures, kept in a file (``--results``) so that the next call continues."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.file: Path | None = options.results
        shape = "tiny" if options.tiny else "Llama-3.1-8B"
        self.setup: dict[str, Any] = {"device": options.device, "shape": shape, "answer": options.answer}
        lines = self.file.read_text().splitlines() if self.file is not None and self.file.exists() else []
        rows = [json.loads(line) for line in lines]
        self.rows = [row for row in rows if self.setup.items() <= row.items()]

    def rate(self) -> float | None:
        """The device's bf16 rate, if an earlier call has measured it."""
        return next((row["rate"] for row in self.rows if "rate" in row), None)

    def by_way(self) -> dict[str, dict[int, dict[str, Any]]]:
        """Figures by way and prompt length."""
        figures: dict[str, dict[int, dict[str, Any]]] = {way: {} for way in WAYS}
        for row in self.rows:
            if "way" in row:
                own = {name: value for name, value in row.items() if name not in (*self.setup, "way", "prompt")}
                figures[row["way"]][row["prompt"]] = own
        return figures

    def add(self, figures: dict[str, Any], *, keep: bool = True) -> None:
        print(json.dumps(figures), file=sys.stderr, flush=True)
        if keep and self.file is not None:
            with self.file.open("a") as file:
                file.write(json.dumps(self.setup | figures) + "\n")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Every length both ways, as far as memory and ``--budget`` reach."""
    until, records = time.monotonic() + options.budget, Records(options)
    rate = records.rate()
    if rate is None:
        rate = measured_rate(options)
        records.add({"rate": rate})
    by_way = records.by_way()
    for prompt in options.prompts:
        for way in WAYS:
            figures = by_way[way]
            if prompt in figures or any("seconds" not in f for n, f in figures.items() if n < prompt):
                continue
            left = until - time.monotonic()
            if left < _needed(prompt, figures):
                figures[prompt] = {"left_out": f"{left:.0f} s left; run the command again"}
                continue
            figures[prompt] = run(way, prompt, options, left)
            if "seconds" in figures[prompt]:
                share = operations_of(way, prompt, options) / figures[prompt]["seconds"] / rate
                figures[prompt]["share_of_bf16_rate"] = round(share, 3)
            final = not {"seconds", "out_of_memory"}.isdisjoint(figures[prompt])
            records.add({"way": way, "prompt": prompt, **figures[prompt]}, keep=final)
    return records.setup | _summary(by_way, rate)


def measured_rate(options: argparse.Namespace) -> float:
    """The device's bf16 rate, by a process of its own, which leaves nothing on the GPU."""
    command = [sys.executable, __file__, "--child", "rate", "--device", options.device]
    command += ["--tiny"] if options.tiny else []
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return float(json.loads(output)["rate"])


def operations_of(way: str, prompt: int, options: argparse.Namespace) -> float:
    """Operations of one step: stock forwards the prompt twice, with one answer each."""
    answers = ANSWERS[way] * options.answer
    forwarded = [prompt + options.answer] * 2 if way == "stock" else [prompt + answers]
    return operations(TINY if options.tiny else LLAMA_3_1_8B, forwarded, answers)


def _needed(prompt: int, found: dict[int, dict[str, Any]]) -> float:
    """Seconds that two steps take, by the length before; attention makes them grow by the square at most."""
    before = {n: f for n, f in found.items() if n < prompt and "seconds" in f}
    if not before:
        return 0.0
    last = max(before)
    start = before[last]["wall_s"] - sum(before[last]["steps"])
    return float(start + 2 * before[last]["seconds"] * (prompt / last) ** 2)


def _summary(by_way: dict[str, dict[int, dict[str, Any]]], rate: float) -> dict[str, Any]:
    stock, shared, lists = ({n: f for n, f in sorted(by_way[way].items()) if "seconds" in f} for way in WAYS)
    speedups = {n: round(stock[n]["seconds"] / shared[n]["seconds"], 3) for n in stock if n in shared}
    of_ten = {n: round(5 * stock[n]["seconds"] / lists[n]["seconds"], 3) for n in stock if n in lists}
    return {
        "bf16_tflops": round(rate / 1e12, 2),
        "longest_prompt": {way: max(of, default=None) for way, of in zip(WAYS, (stock, shared, lists), strict=True)},
        "speedup_at_the_longest_of_stock": speedups[max(speedups)] if speedups else None,
        "speedup": speedups,
        "speedup_of_ten_answers": of_ten,
        "by_prompt": {
            n: {way: found[n] for way, found in by_way.items() if n in found}
            for n in sorted({n for found in by_way.values() for n in found})
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, to try the script itself")
    parser.add_argument("--prompts", type=int, nargs="+", default=LENGTHS, help="lengths in tokens")
    parser.add_argument("--answer", type=int, default=512, help="length of each answer in tokens")
    parser.add_argument("--steps", type=int, default=3, help="steps to measure, after one that isn't")
    parser.add_argument("--enough", type=float, default=45, help="seconds after which no further step is measured")
    parser.add_argument("--budget", type=float, default=540, help="seconds that all together may take")
    parser.add_argument("--results", type=Path, help="a file to keep each child's figures in, and to go on from")
    parser.add_argument("--child", choices=(*WAYS, "rate"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    shape = TINY if options.tiny else LLAMA_3_1_8B
    if options.child == "rate":
        say({"rate": matmul_rate(options.device, 256 if options.tiny else 8192)})
        return
    if options.child:
        few = (options.device, options.steps, options.enough)
        child(options.child, shape, options.prompts[0], options.answer, *few)
        return
    result = measure(options)
    print(json.dumps(result) if options.json else json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
