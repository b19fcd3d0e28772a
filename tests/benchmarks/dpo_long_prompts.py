"""How long a prompt DPO with LoRA takes on one GPU, stock TRL against lrf's prefix sharing. Random weights.

For each prompt length and both ways, in a child process of its own: seconds a pair (the median of the steps after the
first), peak memory, and the share of the device's own bf16 matrix rate, measured first, that the step reaches. The work
of a step is counted as what is executed: with activation checkpointing and frozen weights, four passes over the weights
(forward, again, backward through activations, reference) of 2 operations a weight and token, and five units of causal
attention. A way that runs out of memory says so, and longer prompts are not tried with it.

Not yet run on a GPU. It is dry-run by:

    python tests/benchmarks/dpo_long_prompts.py --tiny --device cpu --prompts 64 128 --json

On a GPU:

    python tests/benchmarks/dpo_long_prompts.py --json
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

WAYS = ("stock", "shared")
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


def child(way: str, shape: dict[str, int], prompt: int, answer: int, device: str, steps: int) -> dict[str, Any]:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import DPOConfig, DPOTrainer

    from lrf_dpo.objective import DPOWithCE, loss_terms
    from lrf_dpo.prefix_sharing import SharedPromptCollator, Sharing
    from lrf_dpo.settings import CE
    from lrf_training.models import new_tokenizer
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
    options: dict[str, Any] = {
        "args": DPOConfig(
            tempfile.mkdtemp(),
            beta=0.15,
            **loss_terms(CE()),
            max_length=None,
            per_device_train_batch_size=1,
            use_cpu=not gpu,
            bf16=True,
            gradient_checkpointing=True,
            report_to="none",
        ),
        "model": model,
        "peft_config": LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
        "processing_class": new_tokenizer(["x"], Init()),
    }
    if way == "shared":
        collator = SharedPromptCollator(0)
        trainer = DPOWithCE(ce=CE(), train_dataset=Dataset.from_list(rows), data_collator=collator, **options)
        Sharing(trainer.model)
    else:  # stock insists on preparing text itself
        text: Any = {"prompt": ["x"], "chosen": ["y"], "rejected": ["z"]}
        trainer = DPOTrainer(train_dataset=Dataset.from_dict(text), **options)
    policy = trainer.model
    policy.train()
    policy.gradient_checkpointing_enable()
    optimizer = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad], lr=1e-6, fused=gpu)
    seconds = []
    try:
        for _ in range(steps + 1):
            batch = {k: v.to(device) if hasattr(v, "to") else v for k, v in trainer.data_collator(rows).items()}
            wait(device)
            start = time.perf_counter()
            with trainer.compute_loss_context_manager():
                loss = trainer.compute_loss(policy, batch)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            wait(device)
            seconds.append(time.perf_counter() - start)
    except torch.OutOfMemoryError:
        return {"out_of_memory": True}
    peak = torch.cuda.max_memory_allocated() if gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": statistics.median(seconds[1:]), "peak_gib": round(peak / 2**30, 2), "loss": float(loss.detach())}


def run(way: str, prompt: int, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", way, "--prompts", str(prompt), "--answer", str(options.answer)]
    command += ["--device", options.device, "--steps", str(options.steps), *(["--tiny"] if options.tiny else [])]
    done = subprocess.run(command, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        return {"failed": done.stderr[-800:]}
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def measure(options: argparse.Namespace) -> dict[str, Any]:
    shape = TINY if options.tiny else LLAMA_3_1_8B
    rate = matmul_rate(options.device, 256 if options.tiny else 8192)
    given_up: set[str] = set()
    lengths: dict[int, dict[str, Any]] = {}
    for prompt in options.prompts:
        found = lengths[prompt] = {way: run(way, prompt, options) for way in WAYS if way not in given_up}
        given_up |= {way for way, figures in found.items() if "seconds" not in figures}
        forwarded = {"stock": [prompt + options.answer] * 2, "shared": [prompt + 2 * options.answer]}
        for way, figures in found.items():
            if "seconds" in figures:
                work = operations(shape, forwarded[way], 2 * options.answer)
                figures["share_of_bf16_rate"] = round(work / figures["seconds"] / rate, 3)
        if all("seconds" in found.get(way, {}) for way in WAYS):
            found["speedup"] = round(found["stock"]["seconds"] / found["shared"]["seconds"], 3)
    longest = {way: max((n for n, f in lengths.items() if "seconds" in f.get(way, {})), default=None) for way in WAYS}
    both = [n for n, f in lengths.items() if "speedup" in f]
    return {
        "device": options.device,
        "shape": "tiny" if options.tiny else "Llama-3.1-8B",
        "answer": options.answer,
        "bf16_tflops": round(rate / 1e12, 2),
        "longest_prompt": longest,
        "speedup_at_the_longest_of_stock": lengths[max(both)]["speedup"] if both else None,
        "by_prompt": lengths,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, to try the script itself")
    parser.add_argument("--prompts", type=int, nargs="+", default=LENGTHS, help="lengths in tokens")
    parser.add_argument("--answer", type=int, default=512, help="length of each answer in tokens")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--child", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        shape = TINY if options.tiny else LLAMA_3_1_8B
        found = child(options.child, shape, options.prompts[0], options.answer, options.device, options.steps)
        print(json.dumps(found), flush=True)
        return
    result = measure(options)
    print(json.dumps(result) if options.json else json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
