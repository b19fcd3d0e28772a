"""TRL's ``GRPOTrainer`` with lrf's rewards, one prompt for its group, and unscored answers outside of the loss."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from trl import GRPOTrainer
from trl.models.utils import unwrap_model_for_generation
from trl.trainer.utils import RepeatSampler, split_tensor_dict

from lrf.errors import StageError
from lrf.protocols import Answers
from lrf.types import Reward
from lrf_grpo.asking import PatientRewards, Weighing, outcome, stopping
from lrf_grpo.generation import seed_of, write_answers
from lrf_grpo.losses import leave_one_out, online_dpo, rloo
from lrf_grpo.rollouts import Rollouts
from lrf_grpo.settings import GRPOSettings
from lrf_grpo.shared import SharedGroups
from lrf_grpo.vllm_server import VLLMServer
from lrf_training.offloading import OffloadingTrainer
from lrf_training.processes import on_first_process
from lrf_training.stopping import StopSignals
from lrf_training.trainer import CheckedTrainer


class PromptSampler(RepeatSampler):  # type: ignore[misc]  # TRL has no types
    """TRL's order of prompts, shuffled by seed and epoch, so that a resumed training continues it."""

    epoch: Callable[[], int] = staticmethod(lambda: 0)

    def __iter__(self) -> Iterator[int]:
        self.generator.manual_seed(self.seed * 1_000_003 + self.epoch())
        yield from super().__iter__()


class GroupTrainer(OffloadingTrainer, CheckedTrainer, GRPOTrainer):  # type: ignore[misc]  # TRL has no types
    """TRL's GRPO trainer for rows of ``prompt`` (token ids) and ``place`` (of the prompt in the run's file).

    Parameters
    ----------
    online: the trainer's settings.
    seed: decides, with the step, the answers that are written.
    asking: gives rewards; None in all processes but the first.
    weighing: how rewards become numbers.
    rollouts: keeps answers until their step is done, and logs them with their rewards.
    reference: the reference policy, with ``online.beta`` and without LoRA.
    """

    shared: SharedGroups | None = None
    vllm: VLLMServer | None = None
    _weights = Path()

    def __init__(
        self,
        *,
        online: GRPOSettings,
        seed: int,
        asking: PatientRewards | None,
        weighing: Weighing,
        rollouts: Rollouts,
        **kwargs: Any,
    ) -> None:
        self.online, self.seed, self.asking = online, seed, asking
        self.weighing, self.rollouts = weighing, rollouts
        self._scored = torch.empty(0)
        self._buffered_inputs: Any = None
        if asking is not None:
            asking.patience.stopping = self._stop_asked
        kwargs["reward_funcs"] = [_named(name) for name in weighing.columns]
        super().__init__(**kwargs)

    def use_reference(self, reference: Any) -> None:
        """Take this model as the reference policy. (TRL itself would load one by the policy's name.)"""
        from trl.models import prepare_deepspeed
        from trl.trainer.utils import add_fused_lm_head, disable_dropout_in_model

        disable_dropout_in_model(reference)
        add_fused_lm_head(reference, temperature=self.temperature)
        if self.shared is not None:
            self.shared.prepare(reference)
        if self.is_deepspeed_enabled:
            self.ref_model = prepare_deepspeed(reference, self.accelerator)
        else:
            self.ref_model = self.accelerator.prepare_model(reference, evaluation_mode=True)
        self.beta = self.online.beta

    # --- the order of prompts ----------------------------------------------------------------------------------

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        sampler = PromptSampler(
            data_source=self.train_dataset if dataset is None else dataset,
            mini_repeat_count=self.num_generations,
            batch_size=self.args.generation_batch_size // self.num_generations,
            repeat_count=self.num_iterations * self.args.steps_per_generation,
            seed=self.args.seed,
        )
        sampler.epoch = lambda: int((self.state.epoch or 0) + 1e-6)
        return sampler

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """As TRL's, but that groups stay together: it would spread a group's answers over several micro-batches."""
        if not self.model.training:
            return super()._prepare_inputs(generation_batch)
        steps = self.args.steps_per_generation
        if self._buffered_inputs is None:  # of a resumed training, too
            self._step = self.state.global_step * self.args.gradient_accumulation_steps
            if self.accelerator.is_main_process:
                self.rollouts.begin(self.state.global_step)
        if self._buffered_inputs is None or self._step % (steps * self.num_iterations) == 0:
            answers = self._generate_and_score_completions(generation_batch)
            self._buffered_inputs = split_tensor_dict(answers, steps)
        return self._buffered_inputs[self._step % steps]

    # --- answers and their rewards -----------------------------------------------------------------------------

    def _tokenize_prompts(self, prompts: Any) -> Any:
        return prompts, None, {}  # token ids already

    def _generate_single_turn(self, prompt_ids: Any, *args: Any, **kwargs: Any) -> Any:
        batch = self.state.global_step // self.num_iterations
        if (kept := self.rollouts.kept(batch, prompt_ids)) is not None:
            return kept
        first = self.accelerator.process_index * len(prompt_ids) // self.num_generations
        answers, log_probs = self._write(
            prompt_ids, self.num_generations, lambda group: (self.seed, batch, first + group)
        )
        self.rollouts.keep(batch, prompt_ids, answers, log_probs)
        return answers, log_probs

    def _write(self, prompts: Any, group: int, seeds: Callable[[int], tuple[int, ...]]) -> Any:
        """Token ids of an answer to each prompt, which come in groups of equal ones; and their log-probabilities, if
        vLLM wrote them. Called in all processes. ``seeds`` decides a group's answers."""
        if self.vllm is None:
            with self._generating() as model:
                answers = write_answers(model, prompts, group, self.generation_config, self.eos_token_ids, seeds=seeds)
            return answers, None
        weights = self._weights / f"step-{self.state.global_step}"
        if not weights.exists():
            on_first_process(self.remove_weights)
            self.write_export(weights)
        asked = gather_object([(prompts[n], seed_of(seeds(n // group))) for n in range(0, len(prompts), group)])
        server = self.vllm
        written, sentence, exit_code = on_first_process(lambda: outcome(lambda: server.answers(weights, asked, group)))
        if sentence is not None:
            self._stop(sentence, exit_code)
        each = [answer for of_prompt in written for answer in of_prompt]
        start = self.accelerator.process_index * len(prompts)
        ids, log_probs = zip(*each[start : start + len(prompts)], strict=True)
        return list(ids), list(log_probs)

    def use_vllm_server(self, server: VLLMServer, weights: Path) -> None:
        """Have this server write answers; the policy is put into the folder ``weights`` for it."""
        server.patience.stopping = self._stop_asked
        self.vllm, self._weights = server, weights
        self.use_vllm = True  # TRL weighs answers by how probable the trained policy finds what vLLM drew

    def remove_weights(self) -> None:
        if self.vllm is not None:
            shutil.rmtree(self._weights, ignore_errors=True)

    @contextmanager
    def _generating(self) -> Iterator[Any]:
        with (
            unwrap_model_for_generation(
                self.model_wrapped,
                self.accelerator,
                gather_deepspeed3_params=self.args.ds3_gather_for_generation,
                generation_kwargs=self.generation_kwargs,
                gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs,
            ) as model,
            torch.no_grad(),
            self.accelerator.autocast(),
        ):
            if self.shared is None:
                yield model
            else:
                with self.shared.off(model):
                    yield model

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Any:
        """(answers of all processes, columns of the weighing), NaN throughout for an unscored answer."""
        mine = [(int(row["place"][0]), text) for row, text in zip(inputs, completions, strict=True)]
        step = self.state.global_step + 1
        answers = _grouped(gather_object(mine), self.num_generations, f"step-{step}")
        numbers, rewards = self._rewarded(answers)
        if self.accelerator.is_main_process:
            self.rollouts.log(step, answers, rewards)
        self._scored = ~numbers.isnan().all(1)
        self._log_metric("unscored", 1 - float(self._scored.float().mean()))
        return numbers

    def _rewarded(self, answers: list[Answers]) -> tuple[torch.Tensor, list[list[Reward]]]:
        """Numbers (answers, columns of the weighing), and the rewards in the first process. Called in all of them."""
        rewards, sentence, exit_code = on_first_process(lambda: outcome(lambda: self._asking.score(answers)))
        if sentence is not None:
            self._stop(sentence, exit_code)
        each = [reward for of_prompt in rewards for reward in of_prompt]
        numbers = torch.tensor([self.weighing.row(reward) for reward in each], device=self.accelerator.device)
        if numbers.isnan().all():
            step = answers[0].name.replace("-", " ")
            self._stop(f"none of the {len(each)} answers of {step} could be scored ({_why(each)})", 3)
        return numbers, rewards

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """The mean reward of an answer to each held-out prompt; each evaluation draws with the same numbers."""
        self._random = _random_states()
        rows, share = self.eval_dataset, -(-len(self.eval_dataset) // self.accelerator.num_processes)
        first = self.accelerator.process_index * share
        mine = [rows[n % len(rows)] for n in range(first, first + share)]  # each process writes as many
        self.model.eval()
        ids, _log_probs = self._write([row["prompt"] for row in mine], 1, lambda n: (self.seed, -1, first + n))
        self.model.train()
        texts = self.processing_class.batch_decode(ids, skip_special_tokens=True)
        written = gather_object([(int(row["place"][0]), text) for row, text in zip(mine, texts, strict=True)])
        step = self.state.global_step
        numbers, _rewards = self._rewarded(_grouped(written[: len(rows)], 1, f"evaluation-{step}"))
        scored = numbers[~numbers.isnan().all(1)]
        weights = torch.tensor(self.weighing.column_weights, device=scored.device)
        metrics = {
            "eval_reward": float((scored.nan_to_num() @ weights).mean()),
            "eval_unscored": 1 - len(scored) / len(numbers),
            **{f"eval_rewards/{name}": float(scored[:, n].nanmean()) for n, name in enumerate(self.weighing.columns)},
        }
        self.log(metrics)
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def held_out_sums(self, rows: Any) -> dict[str, Any]:
        """Nothing to be tried before training: writing an answer takes less memory than learning from it."""
        return {}

    def _stop_asked(self) -> bool:
        return any(callback.asked for callback in self.callback_handler.callbacks if isinstance(callback, StopSignals))

    @property
    def _asking(self) -> PatientRewards:
        if self.asking is None:
            raise StageError("the job has no rewards: this trainer runs as the stage train of a pipeline, by lrf run")
        return self.asking

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.rollouts.drop_before(self.state.global_step // self.num_iterations)

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        """TRL's batch, with unscored answers out of the loss as they are out of the group's statistics."""
        self._random = _random_states()
        batch = super()._generate_and_score_completions(inputs)
        groups = self._scored.view(-1, self.num_generations)
        mine = slice(self.accelerator.process_index * len(inputs), (self.accelerator.process_index + 1) * len(inputs))
        if self.online.method == "rloo":  # less the mean of the others = less the mean, times n / (n - 1)
            count = groups.sum(1, keepdim=True)
            factor = (count / (count - 1).clamp(min=1)).expand_as(groups).flatten()
            batch["advantages"] = batch["advantages"] * factor[mine]
        scored = self._scored[mine]
        batch["completion_mask"] = batch["completion_mask"] * scored[:, None]
        batch["num_items_in_batch"] = self.accelerator.gather(batch["completion_mask"].sum()).sum()
        batch["loss_scale"] = self._scored.numel() / self._scored.sum()
        return batch

    def _stop(self, sentence: str, exit_code: int) -> None:
        """Save the state as it was before this step, and raise. Called in all processes."""
        step = self.state.global_step
        saved = "Nothing is lost: the same command begins again, and replies in the journal cost nothing"
        if step:
            _set_random_states(self._random)
            self.model_wrapped.train()
            self._save_checkpoint(self.model, trial=None)
            saved = f"Training is saved at step {step}: the same command goes on from there"
        raise stopping(sentence, exit_code, saved)

    # --- the loss ----------------------------------------------------------------------------------------------

    def _get_per_token_logps_and_entropies(self, model: Any, input_ids: Any, attention_mask: Any, logits_to_keep: int,
                                           batch_size: int | None = None, compute_entropy: bool = False,
                                           compute_aux_loss: bool = False, **other: Any) -> Any:  # fmt: skip
        if self.shared is None:
            return super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, batch_size, compute_entropy, compute_aux_loss, **other
            )
        log_probs, entropies, aux_losses = [], [], []
        size = batch_size or len(input_ids)
        for start in range(0, len(input_ids), size):
            part = slice(start, start + size)
            with self.accelerator.autocast():
                outputs = self.shared(model, input_ids[part], attention_mask[part], logits_to_keep, compute_aux_loss)
            log_probs.append(outputs.log_probs)
            entropies.append(outputs.entropy)
            aux_losses.append(outputs.aux_loss)
        aux = torch.stack(aux_losses).mean() if compute_aux_loss else None
        return torch.cat(log_probs), torch.cat(entropies) if compute_entropy else None, aux

    def _compute_loss(self, model: Any, inputs: Any) -> Any:
        if self.online.method == "grpo":
            loss = super()._compute_loss(model, inputs)
            if self.loss_type != "dapo":  # which divides by the tokens of scored answers; the others by all answers
                loss = loss * inputs["loss_scale"]
        else:
            loss = self._loss_of_whole_answers(model, inputs) / self.current_gradient_accumulation_steps
        self.stop_unless_finite("loss", loss.detach())
        return loss

    def _loss_of_whole_answers(self, model: Any, inputs: Any) -> Any:
        """RLOO's or online DPO's."""
        mask = inputs["completion_mask"]  # (answers, tokens), 0 throughout where an answer isn't scored
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
        known = torch.cat([inputs["prompt_mask"], mask], dim=1)
        log_probs, entropies, _ = self._get_per_token_logps_and_entropies(
            model, ids, known, mask.shape[1], compute_entropy=True
        )

        def of_groups(numbers: Any) -> Any:  # (answers, tokens) -> (groups, answers of a group)
            return (numbers * mask).double().sum(1).view(-1, self.num_generations)

        old = inputs.get("old_per_token_logps", log_probs.detach())
        scored = mask.any(1).view(-1, self.num_generations)
        advantages = inputs["advantages"].view_as(scored).double()
        self._record("entropy", (entropies * mask).sum() / mask.sum().clamp(min=1))
        if self.beta:
            reference = inputs["ref_per_token_logps"]
            self._record("kl", of_groups(log_probs - reference).sum() / mask.sum().clamp(min=1))
        if self.online.method == "online_dpo":
            return online_dpo(self.beta * of_groups(log_probs - reference), advantages, scored)
        if self.beta:
            advantages = advantages - self.beta * leave_one_out(of_groups(old - reference), scored)
        if (drawn := inputs.get("importance_sampling_ratio")) is not None:  # of vLLM's probabilities
            advantages = advantages * drawn.view_as(scored)
        log_ratios = of_groups(log_probs - old)
        moved = log_ratios.detach().exp() - 1
        clipped = torch.where(advantages < 0, -moved > self.epsilon_low, moved > self.epsilon_high)
        self._record("clip_ratio/region_mean", (clipped & (advantages != 0)).double().mean())
        return rloo(log_ratios, advantages, scored, self.epsilon_low, self.epsilon_high) * inputs["loss_scale"]

    def _record(self, name: str, value: torch.Tensor) -> None:
        """Log a figure of a micro-batch: the mean over the processes."""
        self._metrics["train"][name].append(self.accelerator.gather(value.detach().float()[None]).mean().item())


def _named(name: str) -> Callable[..., Any]:
    """What TRL knows a reward by: its name. It is never called, since the rewards are those of lrf's engine."""

    def reward(**_: Any) -> Any:
        raise AssertionError(f"TRL asked for {name} by itself; its rewards come of _calculate_rewards")

    reward.__name__ = name
    return reward


def _grouped(rows: Sequence[tuple[int, str]], group: int, name: str) -> list[Answers]:
    """Rows of (place, text) in groups. Two groups of one prompt are apart."""
    parts = [rows[start : start + group] for start in range(0, len(rows), group)]
    assert all(len({place for place, _ in part}) == 1 for part in parts), "a group has answers to several prompts"
    return [Answers(part[0][0], [text for _, text in part], name) for part in parts]


def _why(rewards: Sequence[Reward]) -> str:
    reasons = sorted(r.unscored.reason for r in rewards if r.unscored is not None)
    return ", ".join(f"{reason}: {len(list(of))}" for reason, of in groupby(reasons)) or "a weighed rating is missing"


def _random_states() -> Mapping[str, Any]:
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "gpus": gpus}


def _set_random_states(states: Mapping[str, Any]) -> None:
    torch.set_rng_state(states["cpu"])
    torch.cuda.set_rng_state_all(states["gpus"])
