"""The ``grpo`` trainer, from top to bottom: tokenise, load, then write answers, have them rewarded, and learn."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from lrf.errors import StageError
from lrf.protocols import Rewards, TrainingJob, TrainingResult
from lrf.types import JSON
from lrf_grpo import prompts
from lrf_grpo.asking import PatientRewards, Weighing
from lrf_grpo.patience import Patience
from lrf_grpo.settings import VLLM, GRPOSettings
from lrf_training.adapters import lora_config
from lrf_training.arguments import training_arguments, training_fingerprint
from lrf_training.checkpoint import files_named
from lrf_training.mixture import Mixture
from lrf_training.models import prepare_model
from lrf_training.prepare import Prepared, prepare
from lrf_training.processes import on_first_process, rank


class GRPO:
    """Group relative policy optimization (arXiv 2402.03300) with the run's dimensions as the reward, through TRL.

    Answers are written in groups, rewarded by the run's engine, and learnt from at once. Trained weights are float32;
    the reference policy, if any, is the policy before its first step.
    """

    def __init__(self, settings: GRPOSettings) -> None:
        self.settings = settings

    def train(self, job: TrainingJob) -> TrainingResult:
        """Train on ``job.prompts``, and write ``job.output / "checkpoint"``, ``training_log.jsonl`` and
        ``rollouts.jsonl`` (every answer with its reward).

        A stopped training resumes from its last state (``save_every``), and asks for no reward twice. Raises
        :class:`lrf.errors.StageError`; an earlier checkpoint stays valid.
        """
        with files_named(job.output):
            return self._train(job)

    def _train(self, job: TrainingJob) -> TrainingResult:
        settings, started = self.settings, time.monotonic()
        if job.prompts is None:
            raise StageError("the job has no prompts: this trainer runs as the stage train of a pipeline, by lrf run")

        # --- the tokenizer and the token ids
        ready = prepare(
            job,
            settings,
            self._arguments,
            Mixture([(job.prompts, 1.0, prompts.read)], job.seed),
            partial(_encode, answer_tokens=settings.answer_tokens),
            what="prompts",
            on_bad_row="stop",
            remarks={},
        )
        arguments, tokenization, counts = ready.arguments, ready.tokenization, ready.counts
        self._fill_a_step(counts.rows)

        # --- policy, and reference policy
        policy = prepare_model(job, settings, tokenization.tokenizer, counts, arguments.bf16)
        from lrf_training.architecture import unsupported

        refusal = "prefix_sharing: off" if settings.prefix_sharing == "off" else unsupported(policy, counts.longest)
        best = None
        if settings.evaluation:
            from lrf_training.evaluation import BestCheckpoints

            best = BestCheckpoints(settings.evaluation, job.output, "reward")
        trainer, progress, preflight = self._trainer(job, ready, policy, refusal, best)
        if settings.beta and settings.lora is None:
            trainer.use_reference(prepare_model(job, settings, tokenization.tokenizer, counts, arguments.bf16))

        # --- train and save
        sharing = f"off: {refusal}" if refusal else "on"
        job.report({"phase": "training", "device": arguments.device.type, "prefix_sharing": sharing})
        trainer.run()
        evaluated = best.finish() if best else {}
        if rank() == 0:
            ready.tokens.unlink()
            shutil.rmtree(job.output / "answers", ignore_errors=True)
            trainer.remove_weights()
        return TrainingResult(
            checkpoint=job.output / "checkpoint",
            metrics={
                **{name: value for name, value in progress.last.items() if name not in ("step", "steps")},
                "steps": trainer.state.global_step,
                "skipped_steps": trainer.skipped_steps,
                **counts.metrics("prompts"),
                **evaluated,
                "chat_template": tokenization.template,
                "prefix_sharing": sharing,
                **preflight.metrics,
                "device": arguments.device.type,
                "dtype": "bfloat16" if arguments.bf16 else "float32",
                "notes": ready.notes,
                "seconds": round(time.monotonic() - started, 2),
            },
        )

    def _trainer(
        self, job: TrainingJob, ready: Prepared, policy: Any, refusal: str | None, best: Any
    ) -> tuple[Any, Any, Any]:
        """TRL's trainer with lrf's rewards, and the callbacks that report progress and try the longest prompt."""
        from datasets import Dataset
        from transformers import PrinterCallback

        from lrf_grpo.objective import GroupTrainer
        from lrf_grpo.preflight import ADVICE, GroupPreflight
        from lrf_grpo.rollouts import Rollouts
        from lrf_grpo.shared import SharedGroups
        from lrf_training.evaluation import split
        from lrf_training.progress import ProgressCallback
        from lrf_training.tiling import tile_mlps

        settings, tokenizer, rewards = self.settings, ready.tokenization.tokenizer, job.rewards
        tile_mlps(policy, settings.mlp_tiles)
        asking = (
            None if rewards is None else PatientRewards(rewards, Patience("the judge", settings.patience, job.report))
        )
        dimensions = on_first_process(lambda: rewards.dimensions if rewards else ())
        weighing = Weighing(tuple(dimensions), settings.weights)
        preflight = GroupPreflight(ADVICE)
        progress = ProgressCallback(
            job.output / "training_log.jsonl", job.report, metrics=partial(step_metrics, rewards=rewards)
        )
        fingerprint = training_fingerprint(settings, job, ready.tokens)
        policy.generation_config.eos_token_id = sorted(ready.tokenization.stop_ids)
        train_rows, held_out = Dataset.from_file(str(ready.tokens)), None
        if settings.evaluation:
            train_rows, held_out = split(train_rows, settings.evaluation, job.seed)
            self._fill_a_step(len(train_rows))
        trainer = GroupTrainer(
            online=settings,
            seed=job.seed,
            asking=asking,
            weighing=weighing,
            rollouts=Rollouts(job.output, fingerprint),
            args=self._weighted(ready.arguments, weighing),
            model=policy,
            peft_config=lora_config(settings, policy),
            train_dataset=train_rows,
            eval_dataset=held_out,
            processing_class=tokenizer,
            callbacks=[progress, *([preflight] if settings.preflight else []), *(best.callbacks() if best else [])],
        )
        if best is not None:
            best.trainer = trainer
        preflight.trainer = trainer
        trainer.remove_callback(PrinterCallback)
        trainer.configure(settings, job, fingerprint)
        if settings.vllm is not None:
            self._write_with_vllm(trainer, settings.vllm, job, ready)
        if not refusal:
            trainer.shared = SharedGroups(tokenizer.pad_token_id)
            trainer.shared.prepare(trainer.model)
        return trainer, progress, preflight

    def _fill_a_step(self, rows: int) -> None:
        if rows < self.settings.global_batch:
            raise StageError(
                f"train.global_batch: a step takes {self.settings.global_batch} prompts, and there are {rows}; "
                f"set it to {rows} or less"
            )

    def _write_with_vllm(self, trainer: Any, vllm: VLLM, job: TrainingJob, ready: Prepared) -> None:
        from lrf_grpo.vllm_server import VLLMServer, sampling

        settings, stop_ids = self.settings, sorted(ready.tokenization.stop_ids)
        drawing = sampling(settings.temperature, settings.top_p, settings.answer_tokens, stop_ids)
        server = VLLMServer(vllm, drawing, Patience("vLLM", settings.patience, job.report))
        on_first_process(lambda: server.check(ready.counts.longest))
        trainer.use_vllm_server(server, (vllm.weights or job.output / "vllm").absolute())

    @staticmethod
    def _weighted(arguments: Any, weighing: Weighing) -> Any:
        arguments.reward_weights = weighing.column_weights
        return arguments

    def _arguments(self, job: TrainingJob) -> Any:
        from trl import GRPOConfig

        settings, common = self.settings, training_arguments(self.settings, job)
        grpo, apart = settings.method == "grpo", settings.normalize == "dimension"
        # TRL counts tokens itself, and knows micro-batches of answers
        common |= {"include_num_input_tokens_seen": "no"}
        common |= {"per_device_train_batch_size": settings.micro_batch * settings.group}
        if settings.evaluation:
            common |= {"per_device_eval_batch_size": settings.micro_batch * settings.group}
            common |= {"metric_for_best_model": "eval_reward", "greater_is_better": True}
        return GRPOConfig(
            **common,
            num_generations=settings.group,
            router_aux_loss_coef=0.0,  # of mixtures: no loss but the one that was asked for
            num_iterations=settings.iterations,
            max_completion_length=settings.answer_tokens,
            temperature=settings.temperature,
            top_p=settings.top_p,
            top_k=0,
            mask_truncated_completions=settings.mask_cut_off,
            loss_type=settings.loss,
            scale_rewards=settings.scale if grpo else "none",
            multi_objective_aggregation="normalize_then_sum" if apart else "sum_then_normalize",
            epsilon=settings.clip,
            epsilon_high=settings.clip_high,
            beta=settings.beta if settings.lora else 0.0,  # TRL would load a reference by the policy's name
            disable_dropout=not (settings.lora and settings.lora.dropout),
            remove_unused_columns=False,
        )


def _encode(row: prompts.PromptRow, tokenizer: Any, stop_ids: frozenset[int], *, answer_tokens: int) -> Any:
    return prompts.encode(row, tokenizer, answer_tokens)


def step_metrics(logs: Mapping[str, float], rewards: Rewards | None = None) -> dict[str, JSON]:
    """A step's metrics from TRL's logs: the mean reward, its spread, each dimension's mean, lengths, KL, entropy.

    With ``rewards`` also what this sitting has paid so far.
    """
    values: dict[str, JSON] = {name: logs[key] for key, name in _NAMES.items() if logs.get(key) is not None}
    for key, value in logs.items():
        if key.startswith("rewards/") and key.endswith("/mean") and key != "rewards/reward/mean":
            values[key.split("/")[1]] = value
    usage = rewards.costs()["usage"] if rewards is not None else {}
    return values | {f"judge_{name}": usage[name] for name in ("calls", "reused") if name in usage}


_NAMES = {
    "reward": "reward",
    "reward_std": "reward_std",
    "unscored": "unscored",
    "frac_reward_zero_std": "groups_of_equal_rewards",
    "completions/mean_length": "answer_tokens",
    "completions/clipped_ratio": "cut_off",
    "kl": "kl",
    "entropy": "entropy",
    "clip_ratio/region_mean": "clipped",
    "sampling/sampling_logp_difference/mean": "vllm_difference",
}
