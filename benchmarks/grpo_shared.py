"""A GRPO update with the prompt forwarded once for its group, over TRL's own update.

An update is the reference policy's pass, and the policy's forward and backward pass, on the same answers with the same
rewards. All sides are TRL's ``GRPOTrainer`` with TRL's loss:

* ``trl``: as it comes, but that only hidden states which predict answer tokens reach the LM head (without a GPU TRL
  scores every token, which would be a second gain);
* ``one_by_one``: the same with each answer in a micro-batch of its own, whose tensors are an eighth as large;
* ``shared``: lrf's ``grpo`` trainer.

They take turns in one process, so that a slow spell of the machine meets all. Ratios are of medians, in wall seconds
and, as ``…_cpu``, in CPU seconds of all threads (``time.process_time``), which other programs of the machine hardly
change. Idle OpenMP threads sleep (``OMP_WAIT_POLICY=PASSIVE``): spinning ones would count as work. Answers are equally
long, which suits TRL: it pads others. Log-probabilities of the policy that wrote the answers differ from the policy's,
and there is a KL term, so that the loss isn't 0 as in a first step. ``limit`` is the ratio of matrix FLOPs (attention
causal, the LM head on answer tokens): no faster machine gets beyond it.

    python benchmarks/grpo_shared.py --json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Case:
    """The model's shape, and the lengths in tokens of a prompt and of each of its answers."""

    prompt: int = 4096
    answer: int = 128
    group: int = 8
    hidden: int = 256
    intermediate: int = 1024
    layers: int = 4
    heads: int = 4
    vocab: int = 8000

    def flops(self, prompts: int) -> float:
        """Matrix FLOPs of a forward pass in which the prompt is forwarded so many times."""
        tokens = prompts * self.prompt + self.group * self.answer
        weights = 4 * self.hidden**2 + 3 * self.hidden * self.intermediate
        pairs = prompts * self.prompt**2 / 2 + self.group * self.answer * (self.prompt + self.answer / 2)
        head = self.group * self.answer * self.hidden * self.vocab
        return 2 * (self.layers * (tokens * weights + 2 * pairs * self.hidden) + head)


def trainers(case: Case) -> dict[str, Any]:
    """Both sides, with equal policies and equal reference policies."""
    import torch
    from datasets import Dataset
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import GRPOConfig, GRPOTrainer

    from lrf_grpo.asking import Weighing
    from lrf_grpo.objective import GroupTrainer
    from lrf_grpo.rollouts import Rollouts
    from lrf_grpo.settings import GRPOSettings
    from lrf_grpo.shared import SharedGroups
    from lrf_training.models import new_tokenizer
    from lrf_training.settings import Init

    def model(seed: int) -> Any:
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=case.vocab,
            hidden_size=case.hidden,
            intermediate_size=case.intermediate,
            num_hidden_layers=case.layers,
            num_attention_heads=case.heads,
            num_key_value_heads=case.heads,
            max_position_embeddings=case.prompt + case.answer,
            pad_token_id=0,
            eos_token_id=1,
        )
        return LlamaForCausalLM(config)

    class AnswerLogitsOnly(GRPOTrainer):  # type: ignore[misc]  # TRL has no types
        def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
            from lrf_training.tiling import _scored_tokens_only

            with _scored_tokens_only():
                return super()._get_per_token_logps_and_entropies(*args, **kwargs)

    folder, beta = tempfile.mkdtemp(), 0.04
    common: dict[str, Any] = {
        "train_dataset": Dataset.from_list([{"prompt": [2, 3], "place": [0]}]),
        "processing_class": new_tokenizer(["x"], Init()),
    }

    def arguments() -> Any:
        return GRPOConfig(
            folder,
            num_generations=case.group,
            per_device_train_batch_size=case.group,
            max_completion_length=case.answer,
            gradient_checkpointing=False,
            use_cpu=True,
            bf16=False,
            report_to="none",
        )

    stock = AnswerLogitsOnly(model=model(1), reward_funcs=[len], args=arguments(), **common)
    shared = GroupTrainer(
        model=model(1),
        args=arguments(),
        online=GRPOSettings(init=Init(), beta=beta),
        seed=0,
        asking=None,
        weighing=Weighing(()),
        rollouts=Rollouts(Path(folder), ""),
        **common,
    )
    shared.shared = SharedGroups(0)
    shared.shared.prepare(shared.model)
    shared.use_reference(model(2))
    _reference(stock, model(2), beta)
    for trainer in (stock, shared):
        trainer.current_gradient_accumulation_steps = 1
        trainer.model.train()
    return {"trl": stock, "shared": shared}


def _reference(trainer: Any, reference: Any, beta: float) -> None:
    from trl.trainer.utils import add_fused_lm_head

    add_fused_lm_head(reference)
    trainer.ref_model, trainer.beta = reference.eval(), beta


def batch_of(case: Case) -> dict[str, Any]:
    """One prompt with a group of answers, their advantages, and the log-probabilities with which they were written."""
    import torch

    generator = torch.Generator().manual_seed(0)
    prompt = torch.randint(2, case.vocab, (1, case.prompt), generator=generator).expand(case.group, -1)
    answers = torch.randint(2, case.vocab, (case.group, case.answer), generator=generator)
    return {
        "prompt_ids": prompt,
        "prompt_mask": torch.ones_like(prompt),
        "completion_ids": answers,
        "completion_mask": torch.ones_like(answers),
        "advantages": torch.randn(case.group, generator=generator),
        "num_items_in_batch": torch.tensor(case.group * case.answer),
        "loss_scale": torch.tensor(1.0),
        "moved": 0.05 * torch.randn(answers.shape, generator=generator),
    }


def update(trainer: Any, batch: dict[str, Any], parts: int) -> tuple[float, float, float]:
    """The loss, wall seconds and CPU seconds of one update in so many parts. Its gradients stay in the model."""
    import torch
    from trl.trainer.utils import split_tensor_dict

    trainer.model.zero_grad()
    total, wall, cpu = 0.0, time.perf_counter(), time.process_time()
    for inputs in split_tensor_dict(batch, parts):
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
        masks = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
        with torch.no_grad():
            inputs["ref_per_token_logps"], _, _ = trainer._get_per_token_logps_and_entropies(
                trainer.ref_model, ids, masks, inputs["completion_ids"].shape[1]
            )
        loss = trainer._compute_loss(trainer.model, inputs)  # each part's share of the mean over all tokens
        loss.backward()
        total += loss.item()
    return total, time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompt", type=int, default=Case.prompt, help="tokens of the prompt")
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": str(options.threads), "OMP_WAIT_POLICY": "PASSIVE"}  # before torch is imported
    import torch

    case = Case(prompt=options.prompt)
    sides, batch = trainers(case), batch_of(case)
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    with torch.no_grad():
        now, _, _ = sides["shared"]._get_per_token_logps_and_entropies(
            sides["shared"].model, ids, torch.ones_like(ids), case.answer
        )
    batch["old_per_token_logps"] = now + batch.pop("moved")
    ways = {"trl": (sides["trl"], 1), "one_by_one": (sides["trl"], case.group), "shared": (sides["shared"], 1)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    cpu_seconds: dict[str, list[float]] = {name: [] for name in ways}
    losses: dict[str, float] = {}
    for number in range(options.rounds + 1):
        for name, (trainer, parts) in ways.items():
            losses[name], wall, cpu = update(trainer, batch, parts)
            if number:  # the first warms up
                seconds[name].append(wall)
                cpu_seconds[name].append(cpu)
    gradients = {
        name: torch.cat([p.grad.flatten().double() for p in trainer.model.parameters()])
        for name, trainer in sides.items()
    }
    difference = float((gradients["shared"] - gradients["trl"]).norm() / gradients["trl"].norm())
    median = {name: statistics.median(values) for name, values in seconds.items()}
    median_cpu = {name: statistics.median(values) for name, values in cpu_seconds.items()}
    result = {
        "speedup": round(median["trl"] / median["shared"], 3),
        "speedup_cpu": round(median_cpu["trl"] / median_cpu["shared"], 3),
        "speedup_over_one_by_one": round(median["one_by_one"] / median["shared"], 3),
        "speedup_over_one_by_one_cpu": round(median_cpu["one_by_one"] / median_cpu["shared"], 3),
        "limit": round(case.flops(case.group) / case.flops(1), 3),
        "loss_rel_error": abs(losses["shared"] - losses["trl"]) / abs(losses["trl"]),
        "grad_rel_error": difference,
        "seconds": median,
        "cpu_seconds": median_cpu,
        "loss": losses,
        "threads": options.threads,
        "device": "cpu",
    }
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:16} {value}")


if __name__ == "__main__":
    main()
