"""What sharing a prompt's pass brings over TRL's own DPO: time, memory, and that the gradients are the same.

Three ways to train on the same pairs, each in a child process of its own, with a policy and a reference policy:

* ``stock``: TRL's DPOTrainer as it comes;
* ``answer_logits``: the same, with hidden states cut to those that predict answer tokens before the LM head;
* ``shared``: lrf's prefix sharing.

Times are medians of optimizer steps' forward and backward passes, in rounds that go through the three ways in turn, so
that a slow spell of the machine meets all of them. Each ratio is given in wall seconds and, as ``…_cpu``, in CPU
seconds of all threads (``time.process_time``), which other programs of the machine hardly change. Idle OpenMP threads
sleep (``OMP_WAIT_POLICY=PASSIVE``): spinning ones would count as work. ``peak_memory_ratio`` compares how much a step
adds (``ru_maxrss``) to the process's memory before its first step (imports, both models);
``peak_memory_ratio_process`` compares the whole processes.

Gradient errors are |g − g'| / |g'| over all parameters. Stock TRL sums an answer's log-probabilities in float32, and
DPO takes small differences of these sums of some -1,000: their rounding alone moves stock's gradients by 1e-5. So
``grad_rel_error`` compares with stock TRL of which nothing is changed but that these sums are float64 (weights, passes
and all else float32). Beside it stand the distance from stock as it comes (``…_to_unmodified_stock``), and those of
prefix sharing and of unmodified stock from gradients computed by hand in float64 throughout.

    python benchmarks/dpo_prefix_sharing.py --json

On a GPU, with long prompts and LoRA: ``dpo_long_prompts.py``, or ``--gpu`` here.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

WAYS = ("stock", "answer_logits", "shared")
CHECKS = ("stock64", "exact")  # one step each, for its gradients: stock with float64 sums; float64 by hand


@dataclass(frozen=True)
class Case:
    """The model's shape and the lengths, in tokens."""

    prompt: int
    chosen: int
    rejected: int
    hidden: int = 256
    intermediate: int = 1024
    layers: int = 4
    heads: int = 4
    kv_heads: int = 4
    vocab: int = 8000


def cpu_cases() -> dict[str, Case]:
    return {"equal": Case(4096, 128, 128), "unequal": Case(4096, 128, 96)}


def child(way: str, case: Case) -> None:
    """Set up, say so, then do a step for each line read; on "end", tell the peak memory."""
    import torch
    from datasets import Dataset
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import DPOConfig, DPOTrainer

    from lrf_dpo.batches import ListCollator
    from lrf_dpo.objective import DPOWithCETrainer, sum_in_64_bits
    from lrf_dpo.rows import token_row
    from lrf_dpo.settings import CE
    from lrf_training.models import new_tokenizer
    from lrf_training.prefix_sharing import PrefixSharing, share_prompts
    from lrf_training.settings import Init

    def model(seed: int) -> Any:
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=case.vocab,
            hidden_size=case.hidden,
            intermediate_size=case.intermediate,
            num_hidden_layers=case.layers,
            num_attention_heads=case.heads,
            num_key_value_heads=case.kv_heads,
            max_position_embeddings=case.prompt + max(case.chosen, case.rejected),
            pad_token_id=0,
            eos_token_id=1,
        )
        return LlamaForCausalLM(config)

    generator = torch.Generator().manual_seed(0)
    lengths = {"prompt_ids": case.prompt, "chosen_ids": case.chosen, "rejected_ids": case.rejected}
    rows = [{k: torch.randint(2, case.vocab, (n,), generator=generator).tolist() for k, n in lengths.items()}]
    if way == "exact":
        print(json.dumps({"ready": True}), flush=True)
        sys.stdin.readline()
        print(json.dumps({"held": 0, "peak": 0, "gradients": exact_gradients(model(1), model(2), rows[0])}), flush=True)
        return
    policy, tokenizer = model(1), new_tokenizer(["x"], Init())
    tokenized: Any = {"prompt": ["x"], "chosen": ["y"], "rejected": ["z"]}  # stock insists on preparing text itself
    options: dict[str, Any] = {
        "args": DPOConfig(
            tempfile.mkdtemp(),
            beta=0.15,
            loss_type=["sigmoid", "sft"],
            loss_weights=[1.0, CE().weight],
            max_length=None,
            per_device_train_batch_size=1,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to="none",
        ),
        "model": policy,
        "ref_model": model(2),
        "processing_class": tokenizer,
    }
    if way == "shared":
        columns, numbers = token_row(rows[0]["prompt_ids"], [rows[0]["chosen_ids"], rows[0]["rejected_ids"]])
        rows = [columns | numbers]
        options["data_collator"] = ListCollator(share_prompts, 0)
        trainer = DPOWithCETrainer(ce=CE(), train_dataset=Dataset.from_list(rows), **options)
        PrefixSharing(policy)
        PrefixSharing(trainer.ref_model)
    else:
        trainer = DPOTrainer(train_dataset=Dataset.from_dict(tokenized), **options)
    if way == "stock64":
        for each in (policy, trainer.ref_model):
            each.register_forward_hook(sum_in_64_bits)
    if way == "answer_logits":
        for each in (policy, trainer.ref_model):
            answer_logits_only(each, case.prompt)
    policy.train()
    batch = trainer.data_collator(rows)

    print(json.dumps({"ready": True}), flush=True)
    held = memory()
    for line in sys.stdin:
        if line.strip() == "end":
            break
        policy.zero_grad()
        wall, cpu = time.perf_counter(), time.process_time()
        with trainer.compute_loss_context_manager():
            loss = trainer.compute_loss(policy, batch)
        loss.backward()
        seconds = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
        print(json.dumps({**seconds, "loss": float(loss.detach())}), flush=True)
    peak = memory()  # before the gradients are copied out
    print(json.dumps({"held": held, "peak": peak, "gradients": save_gradients(policy)}), flush=True)


def save_gradients(model: Any) -> str:
    import torch

    with tempfile.NamedTemporaryFile(suffix=".pt", delete=False) as file:
        torch.save(torch.cat([p.grad.flatten().double().cpu() for p in model.parameters()]), file.name)
    return file.name


def exact_gradients(policy: Any, reference: Any, row: dict[str, list[int]]) -> str:
    """DPO + 0.1 · token-mean cross-entropy in float64, an answer at a time, without TRL."""
    import torch
    from torch.nn.functional import logsigmoid

    def log_probs(model: Any, answer: list[int]) -> torch.Tensor:
        ids = torch.tensor([row["prompt_ids"] + answer])
        states = model.model(ids).last_hidden_state[0, len(row["prompt_ids"]) - 1 : -1]
        return model.lm_head(states).log_softmax(-1).gather(1, torch.tensor(answer)[:, None])[:, 0]

    policy, reference = policy.double(), reference.double()
    chosen, rejected = (log_probs(policy, row[name]) for name in ("chosen_ids", "rejected_ids"))
    with torch.no_grad():
        ref_chosen, ref_rejected = (log_probs(reference, row[name]).sum() for name in ("chosen_ids", "rejected_ids"))
    ratio = (chosen.sum() - ref_chosen) - (rejected.sum() - ref_rejected)
    (-logsigmoid(0.15 * ratio) - 0.1 * chosen.mean()).backward()
    return save_gradients(policy)


def memory() -> int:
    """The most this process has held until now, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def answer_logits_only(model: Any, prompt: int) -> None:
    """Stock TRL, but only hidden states that predict answer tokens reach the LM head."""
    from torch.nn.functional import pad

    def shift_labels(_: Any, args: Any, kwargs: Any) -> Any:
        return args, kwargs | {"shift_labels": kwargs["labels"][:, prompt:], "labels": None}

    def cut(_: Any, args: Any, outputs: Any) -> Any:
        outputs.last_hidden_state = outputs.last_hidden_state[:, prompt - 1 : -1]
        return outputs

    def widen(_: Any, args: Any, outputs: Any) -> Any:  # back to a column for each token but the first, as TRL expects
        for name in ("log_probs", "entropy", "mean_logits", "is_top1"):
            if (values := getattr(outputs, name)) is not None:
                setattr(outputs, name, pad(values, (prompt - 1, 0)))
        return outputs

    model.register_forward_pre_hook(shift_labels, with_kwargs=True)
    model.base_model.register_forward_hook(cut)
    model.register_forward_hook(widen)


class Child:
    def __init__(self, way: str, case: Case, threads: int) -> None:
        environment = os.environ | {
            "OMP_NUM_THREADS": str(threads),
            "OMP_WAIT_POLICY": "PASSIVE",  # read when torch is first imported
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        command = [sys.executable, __file__, "--child", way, "--case", json.dumps(asdict(case))]
        self.way = way
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # lives as long as the child
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, env=environment
        )

    def ask(self, line: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.read()

    def read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
        raise SystemExit(f"{self.way} ended early:\n{self.said()}")

    def said(self) -> str:
        self.errors.seek(0)
        return self.errors.read()[-2000:]


def measure(case: Case, rounds: int, threads: int) -> dict[str, Any]:
    """Medians of wall and CPU seconds, memory in bytes, loss and gradients, by way."""
    children = [Child(way, case, threads) for way in WAYS]
    for each in children:  # which import at the same time
        each.read()
    clocks = ("seconds", "cpu_seconds")
    times: dict[str, dict[str, list[float]]] = {clock: {way: [] for way in WAYS} for clock in clocks}
    losses: dict[str, float] = {}
    for round_number in range(rounds + 1):
        for each in children:
            step = each.ask("step")
            losses[each.way] = step["loss"]
            if round_number:  # the first warms up
                for clock in clocks:
                    times[clock][each.way].append(step[clock])
    ends = {each.way: each.ask("end") for each in children}
    for each in children:
        each.process.communicate()
    gradients = {way: load_gradients(end["gradients"]) for way, end in ends.items()}
    checks = {way: Child(way, case, threads) for way in CHECKS}
    for way, check in checks.items():
        check.read()
        if way == "stock64":
            check.ask("step")
        gradients[way] = load_gradients(check.ask("end")["gradients"])
        check.process.communicate()
    return {
        **{clock: {way: statistics.median(of) for way, of in times[clock].items()} for clock in clocks},
        "spread": {way: [min(values), max(values)] for way, values in times["seconds"].items()},
        "grad_rel_error": {
            to: {way: float((g - gradients[to]).norm() / gradients[to].norm()) for way, g in gradients.items()}
            for to in ("stock", *CHECKS)
        },
        "loss": losses,
        "step_bytes": {way: end["peak"] - end["held"] for way, end in ends.items()},
        "process_bytes": {way: end["peak"] for way, end in ends.items()},
    }


def load_gradients(path: str) -> Any:
    import torch

    gradients = torch.load(path, weights_only=True)
    Path(path).unlink()
    return gradients


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--gpu", action="store_true", help="run dpo_long_prompts.py in place of this")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--child", choices=WAYS + CHECKS, help=argparse.SUPPRESS)
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, Case(**options.case))
        return

    if options.gpu:
        script = Path(__file__).with_name("dpo_long_prompts.py")
        os.execv(sys.executable, [sys.executable, str(script), *(["--json"] if options.json else [])])
    found = {name: measure(case, options.rounds, options.threads) for name, case in cpu_cases().items()}

    def ratio(name: str, what: str, over: str, under: str) -> float:
        return round(found[name][what][over] / found[name][what][under], 3)

    def worst_gradients(to: str, way: str) -> float:
        return max(each["grad_rel_error"][to][way] for each in found.values())

    result = {
        "speedup_equal": ratio("equal", "seconds", "stock", "shared"),
        "speedup_unequal": ratio("unequal", "seconds", "stock", "shared"),
        "speedup_equal_cpu": ratio("equal", "cpu_seconds", "stock", "shared"),
        "speedup_unequal_cpu": ratio("unequal", "cpu_seconds", "stock", "shared"),
        "grad_rel_error": worst_gradients("stock64", "shared"),
        "grad_rel_error_to_unmodified_stock": worst_gradients("stock", "shared"),
        "grad_rel_error_to_float64": worst_gradients("exact", "shared"),
        "grad_rel_error_of_stock_to_float64": worst_gradients("exact", "stock"),
        "peak_memory_ratio": max(ratio(name, "step_bytes", "shared", "stock") for name in found),
        "peak_memory_ratio_process": max(ratio(name, "process_bytes", "shared", "stock") for name in found),
        "speedup_equal_over_answer_logits": ratio("equal", "seconds", "answer_logits", "shared"),
        "speedup_unequal_over_answer_logits": ratio("unequal", "seconds", "answer_logits", "shared"),
        "device": "cpu",
        "threads": options.threads,
        "measured": found,
    }
    if options.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:36} {value if name != 'measured' else json.dumps(value, indent=2)}")


if __name__ == "__main__":
    main()
