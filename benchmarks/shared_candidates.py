"""What one forward pass for ten answers of a prompt brings over the best that can be done without sharing it.

Ten answers of 128 tokens at a prompt of 4,096, a Llama of hidden 256, intermediate 1,024, 4 layers, 4 heads, vocabulary
8,000, two threads, float32. A step is a forward and a backward pass of the listwise loss with cross-entropy on the best
answer; reference log-probabilities are stored.

* ``shared``: lrf's ``dpo`` trainer, ``loss: listwise``.
* ``unshared``: each answer is forwarded once, with the prompt each time, without padding or masks, and logits of answer
  tokens only; all in one batch, or one after another, whichever takes less CPU.

Times are medians over rounds that take the ways in turn: wall seconds, and CPU seconds of all threads (``…_cpu``),
which other programs of the machine hardly change. FLOPs are counted by torch's FlopCounterMode, which knows no
attention on a CPU, nor matrices that are added to in place. Attention is counted causal: a flash kernel counts
4·heads·size for each pair of a query and a key that it may attend to, and 2.5 times that in the backward pass, where
scores are made again. The formula is by hand: 6 for each weight of the layers and token, 14·hidden for each such pair
and layer, 6 for each weight of the LM head and answer token (TRL's takes 8, since it makes logits again rather than
keep them). ``limit`` is the formula's FLOPs without sharing over those with it: the most that any implementation can
gain.

``matmul_share`` is the step's FLOPs a CPU second over those of a large matrix multiplication; ``profile`` has the
step's CPU time by kind of operation.

    python benchmarks/shared_candidates.py --json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

HIDDEN, INTERMEDIATE, LAYERS, HEADS, VOCAB = 256, 1024, 4, 4, 8000
REWARDS = [9.0, 8.5, 8.0, 7.0, 6.0, 5.5, 5.0, 3.0, 2.0, 1.0]
KINDS = {
    "matrix": ("aten::mm", "aten::addmm", "aten::bmm", "aten::matmul"),
    "attention": ("flash_attention",),
    "elementwise": ("aten::mul", "aten::add", "aten::sub", "aten::div", "aten::neg", "aten::pow", "aten::rsqrt",
                    "aten::silu", "aten::exp", "aten::mean", "aten::sum", "aten::_log_softmax"),
    "copies": ("aten::copy_", "aten::cat", "aten::clone", "aten::index", "aten::_index_put", "aten::slice_backward",
               "aten::fill_", "aten::zero_", "aten::embedding"),
}  # fmt: skip


def model(prompt: int, answer: int) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCAB,
            hidden_size=HIDDEN,
            intermediate_size=INTERMEDIATE,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=HEADS,
            max_position_embeddings=prompt + answer,
            pad_token_id=0,
            eos_token_id=1,
        )
    )


def shared_step(policy: Any, row: dict[str, Any]) -> Callable[[], Any]:
    """The trainer's own loss."""
    from datasets import Dataset
    from trl import DPOConfig

    from lrf_dpo.batches import ListCollator
    from lrf_dpo.objective import DPOWithCETrainer
    from lrf_dpo.settings import CE
    from lrf_training.list_losses import plackett_luce
    from lrf_training.models import new_tokenizer
    from lrf_training.prefix_sharing import PrefixSharing, share_prompts
    from lrf_training.settings import Init

    trainer = DPOWithCETrainer(
        ce=CE(),
        preference=plackett_luce,
        args=DPOConfig(
            tempfile.mkdtemp(),
            beta=0.15,
            max_length=None,
            precompute_ref_log_probs=True,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to="none",
        ),
        model=policy,
        train_dataset=Dataset.from_list([row]),
        processing_class=new_tokenizer(["x"], Init()),
        data_collator=ListCollator(share_prompts, 0),
    )
    PrefixSharing(policy)
    policy.train()
    batch = trainer.data_collator([row])
    return lambda: trainer.compute_loss(policy, dict(batch))


def unshared_step(policy: Any, row: dict[str, Any], *, together: bool) -> Callable[[], Any]:
    """The same loss, written out, on log-probabilities of each answer with a prompt of its own."""
    import torch
    from torch.nn.functional import cross_entropy

    from lrf_dpo.rows import answers_of
    from lrf_training.list_losses import plackett_luce

    answers = torch.tensor(answers_of(row))
    ids = torch.cat((torch.tensor(row["prompt_ids"]).expand(len(answers), -1), answers), dim=1)
    reference = torch.tensor(row["ref_logps"], dtype=torch.float64)
    rewards = torch.tensor(row["rewards"], dtype=torch.float64)
    prompt = len(row["prompt_ids"])

    def log_probs(ids: Any, answers: Any) -> Any:
        states = policy.model(ids, use_cache=False).last_hidden_state[:, prompt - 1 : -1]
        return -cross_entropy(policy.lm_head(states).flatten(0, 1), answers.flatten(), reduction="none")

    def loss() -> Any:
        parts = [(ids, answers)] if together else zip(ids.split(1), answers.split(1), strict=True)
        tokens = torch.cat([log_probs(*part) for part in parts]).view(answers.shape)
        implicit = 0.15 * (tokens.double().sum(1) - reference)
        return plackett_luce(implicit, rewards) - 0.1 * tokens[rewards.argmax()].mean()

    return loss


def formula(prompt: int, answer: int, answers: int, *, shared: bool) -> float:
    """FLOPs of a step; see the module's docstring."""
    prompts = 1 if shared else answers
    tokens = prompts * prompt + answers * answer
    weights = LAYERS * (4 * HIDDEN**2 + 3 * HIDDEN * INTERMEDIATE)
    pairs = prompts * prompt * (prompt + 1) / 2 + answers * (answer * prompt + answer * (answer + 1) / 2)
    return 6 * weights * tokens + 14 * HIDDEN * LAYERS * pairs + 6 * VOCAB * HIDDEN * answers * answer


def counted(step: Callable[[], Any]) -> float:
    """FLOPs of a step by torch's counter."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    def attention(query: Any, key: Any, causal: bool) -> int:
        batch, heads, queries, size = query
        keys = key[2]
        return 4 * batch * heads * size * (queries * (queries + 1) // 2 if causal else queries * keys)

    def forward(q: Any, k: Any, v: Any, dropout: float = 0.0, causal: bool = False, **_: Any) -> int:
        return attention(q, k, causal)

    def backward(g: Any, q: Any, k: Any, v: Any, out: Any, lse: Any, dropout: float, causal: bool, **_: Any) -> int:
        return attention(q, k, causal) * 5 // 2

    def in_place(_: Any, a: Any, b: Any, **__: Any) -> int:
        return 2 * a[0] * a[1] * b[1]

    aten = torch.ops.aten
    mapping = {
        aten.addmm_: in_place,
        aten._scaled_dot_product_flash_attention_for_cpu: forward,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: backward,
    }
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        step().backward()
    return float(counter.get_total_flops())


def timed(step: Callable[[], Any]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    step().backward()
    return time.perf_counter() - wall, time.process_time() - cpu


def matmul_rate() -> float:
    """FLOPs a CPU second of the fastest of some multiplications of 2,048² matrices."""
    import torch

    a, best = torch.randn(2048, 2048), 0.0
    for _ in range(8):
        cpu = time.process_time()
        a @ a
        best = max(best, 2 * 2048**3 / (time.process_time() - cpu))
    return best


def profile(step: Callable[[], Any]) -> dict[str, Any]:
    """Shares of a step's CPU time by kind of operation, and the largest operations of no kind."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as torch_profile

    with torch_profile(activities=[ProfilerActivity.CPU]) as profiled:
        step().backward()
    times: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for event in profiled.key_averages():
        kind = next((k for k, names in KINDS.items() if any(n in event.key for n in names)), "other")
        times[kind] += event.self_cpu_time_total
        others[event.key] += event.self_cpu_time_total * (kind not in ("matrix", "attention"))
    total = times.total()
    return {
        **{kind: round(value / total, 3) for kind, value in times.most_common()},
        "largest": {name: round(value / total, 3) for name, value in others.most_common(12)},
    }


def gradients(policy: Any) -> Any:
    import torch

    return torch.cat([p.grad.flatten().double() for p in policy.parameters()])


def measure(options: argparse.Namespace) -> dict[str, Any]:
    import torch

    from lrf_dpo.rows import token_row

    torch.set_num_threads(options.threads)
    prompt, answer, answers = options.prompt, options.answer, len(REWARDS)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(2, VOCAB, (prompt + answers * answer,), generator=generator).tolist()
    cut = [ids[prompt + n * answer : prompt + (n + 1) * answer] for n in range(answers)]
    columns, numbers = token_row(ids[:prompt], cut, REWARDS)
    row: dict[str, Any] = {**columns, **numbers, "ref_logps": [-1150.0 - 3 * n for n in range(answers)]}
    policies = {name: model(prompt, answer) for name in ("shared", "unshared")}
    ways = {
        "shared": shared_step(policies["shared"], row),
        "one_by_one": unshared_step(policies["unshared"], row, together=False),
        "together": unshared_step(policies["unshared"], row, together=True),
    }
    flops = {"shared": counted(ways["shared"]), "formula": formula(prompt, answer, answers, shared=True)}
    if options.profile:
        return {"prompt": prompt, **profile(ways["shared"])}
    of_shared = gradients(policies["shared"])
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, step in ways.items():
            for policy in policies.values():
                policy.zero_grad()
            times[name].append(timed(step))
            if name == "one_by_one":
                expected = gradients(policies["unshared"])
    wall, cpu = ({name: statistics.median(t[n] for t in of) for name, of in times.items()} for n in (0, 1))
    best = min(("one_by_one", "together"), key=cpu.__getitem__)
    rate = matmul_rate()
    return {
        "speedup_over_unshared": round(wall[best] / wall["shared"], 3),
        "speedup_over_unshared_cpu": round(cpu[best] / cpu["shared"], 3),
        "limit": round(formula(prompt, answer, answers, shared=False) / flops["formula"], 3),
        "flops_over_formula": round(flops["shared"] / flops["formula"], 4),
        "grad_rel_error": float((of_shared - expected).norm() / expected.norm()),
        "matmul_share": round(flops["shared"] / cpu["shared"] / rate, 3),
        "matmul_share_unshared": round(formula(prompt, answer, answers, shared=False) / cpu[best] / rate, 3),
        "gflops": {name: round(value / 1e9, 1) for name, value in flops.items()},
        "matmul_gflops_a_cpu_second": round(rate / 1e9, 1),
        "attention_counted": "causal: n(n+1)/2 pairs of query and key; 4 FLOPs a pair and channel, backward 10",
        "seconds": {name: round(value, 3) for name, value in wall.items()},
        "cpu_seconds": {name: round(value, 3) for name, value in cpu.items()},
        "prompt": prompt,
        "answers": [answer] * answers,
        "device": "cpu",
        "threads": options.threads,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--prompt", type=int, default=4096)
    parser.add_argument("--answer", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--profile", action="store_true", help="only the shared step's CPU time by kind of operation")
    options = parser.parse_args()
    wanted = {"OMP_NUM_THREADS": str(options.threads), "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_DISABLE_TELEMETRY": "1"}
    if any(os.environ.get(name) != value for name, value in wanted.items()):  # read when torch is first imported
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | wanted)
    with redirect_stdout(sys.stderr):  # libraries' warnings
        result = measure(options)
    print(json.dumps(result) if options.json else json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
