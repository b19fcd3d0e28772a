"""The ``dpo`` trainer, from top to bottom: check, tokenise, load, train, save."""

from __future__ import annotations

import copy
import os
import time
import warnings
from collections.abc import Mapping
from typing import Any

from lrf.errors import StageError
from lrf.protocols import TrainingJob, TrainingResult
from lrf.types import JSON
from lrf_dpo import checkpoint, model, pairs
from lrf_dpo.settings import DPOSettings


class DPO:
    """DPO with a cross-entropy term on the chosen answer (LongReward, arXiv 2410.21252, section 3), through TRL.

    Runs on the CPU or on one GPU. Weights are kept in float32; the reference policy is the policy before its first
    step.
    """

    def __init__(self, settings: DPOSettings) -> None:
        self.settings = settings

    def train(self, job: TrainingJob) -> TrainingResult:
        """Train on ``job.pairs`` and leave a checkpoint in ``job.output / "checkpoint"``.

        Beside it: ``training_log.jsonl``, a line an optimizer step. Raises :class:`lrf.errors.StageError` with what
        to change; a checkpoint that was saved before stays valid.
        """
        try:
            return self._train(job)
        except OSError as error:
            raise StageError(f"{error.filename or job.output}: {error.strerror or error}") from error

    def _train(self, job: TrainingJob) -> TrainingResult:
        settings, started = self.settings, time.monotonic()
        if not job.model and settings.init is None:
            raise StageError("no policy to train: set policy.model, or train.init for a tiny random one")
        if job.model and settings.init is not None:
            raise StageError(f"policy.model ({job.model}) and train.init are both set; leave one of them out")
        _quiet_and_on_one_gpu()
        job.output.mkdir(parents=True, exist_ok=True)
        checkpoint.recover(job.output / "checkpoint")

        # --- tokenizer, and the pairs as token ids
        job.report({"phase": "tokenising"})
        window: int | None = None
        if settings.init is not None:
            rows = pairs.read(job.pairs, job.prompt_template_sha256)
            texts = (m["content"] for row in rows for m in (*row.prompt, *row.chosen, *row.rejected))
            tokenizer = model.new_tokenizer(texts, settings.init)
        else:
            tokenizer = model.load_tokenizer(job)
            window = model.window_of(job)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token  # answers of a micro-batch are padded, and never scored there
        template = model.settle_chat_template(tokenizer, settings.chat_template)
        notes = []
        if template == "plain" and settings.init is None:
            notes.append(f"{job.model} has no chat template: a plain one is used, and saved with the checkpoint")
        tokens = job.output / "tokens.arrow"
        counts = pairs.tokenise(job.pairs, job.prompt_template_sha256, tokenizer, self._rules(window), tokens)

        if counts.prompt_ends_changed:
            notes.append(
                f"in {counts.prompt_ends_changed} pairs the chat template ends the prompt otherwise when an answer "
                "follows; the answer is trained from where they part"
            )
        if counts.pairs < settings.global_batch:
            notes.append(f"{counts.pairs} pairs don't fill global_batch: {settings.global_batch}")
        for note in notes:
            job.report({"note": note})

        # --- policy and reference policy
        job.report({"phase": "loading", "pairs": counts.pairs, "tokens": counts.tokens, "longest": counts.longest})
        if settings.init is not None:
            policy = model.new_model(tokenizer, settings.init, counts.longest, job.seed)
        else:
            policy = model.load_model(job)
        if counts.largest_id >= (size := policy.get_input_embeddings().num_embeddings):
            raise StageError(
                f"policy.model {job.model!r}: its tokenizer makes tokens up to {counts.largest_id}, but the model "
                f"knows only {size}; tokenizer and weights are of different models"
            )
        from lrf_dpo.prefix_sharing import SharedPromptCollator, share_prompts, why_not

        refusal = "prefix_sharing: off" if settings.prefix_sharing == "off" else why_not(policy)
        if settings.prefix_sharing == "on" and refusal:
            raise StageError(f"train.prefix_sharing: on, but {refusal}; set it to auto or off")
        reference = copy.deepcopy(policy)

        # --- train
        from datasets import Dataset
        from transformers import PrinterCallback

        from lrf_dpo.objective import DPOWithCE
        from lrf_dpo.watch import Watch

        def save(step: int) -> None:
            job.report({"phase": "saving", "step": step})
            checkpoint.save(policy, tokenizer, job.output / "checkpoint")

        watch = Watch(
            beta=settings.beta,
            log=job.output / "training_log.jsonl",
            report=job.report,
            save=save,
            save_every=settings.save_every,
        )
        trainer = DPOWithCE(
            ce=settings.ce,
            args=self._arguments(job),
            model=policy,
            ref_model=reference,
            train_dataset=Dataset.from_file(str(tokens)),
            processing_class=tokenizer,
            callbacks=[watch],
            data_collator=None if refusal else SharedPromptCollator(tokenizer.pad_token_id),
        )
        if not refusal:
            share_prompts(policy)
            share_prompts(reference)
        trainer.remove_callback(PrinterCallback)
        sharing = f"off: {refusal}" if refusal else "on"
        job.report({"phase": "training", "device": trainer.args.device.type, "prefix_sharing": sharing})
        trainer.train()
        steps = trainer.state.global_step

        # --- save
        if not settings.save_every or steps % settings.save_every:
            save(steps)
        tokens.unlink()
        return TrainingResult(
            checkpoint=job.output / "checkpoint",
            metrics={
                **_figures(watch.last),
                "steps": steps,
                "pairs": counts.pairs,
                "tokens": counts.tokens,
                "longest": counts.longest,
                "lost_pairs": counts.lost_pairs,
                "lost_tokens": counts.lost_tokens,
                "lost_by_reason": dict(counts.lost_by_reason),
                "prompt_ends_changed": counts.prompt_ends_changed,
                "chat_template": template,
                "prefix_sharing": sharing,
                "device": trainer.args.device.type,
                "dtype": "bfloat16" if trainer.args.bf16 else "float32",
                "notes": notes,
                "alarms": [watch.alarm.message] if watch.alarm.message else [],
                "seconds": round(time.monotonic() - started, 2),
            },
        )

    def _rules(self, window: int | None) -> pairs.Rules:
        limits = {"max_tokens": self.settings.max_tokens, "the model's window": window}
        known = {name: limit for name, limit in limits.items() if limit is not None}
        name = min(known, key=known.__getitem__, default="")
        return pairs.Rules(
            on_bad_pair=self.settings.on_bad_pair,
            on_too_long=self.settings.on_too_long,
            max_lost=self.settings.max_lost,
            limit=known.get(name),
            limit_name=name,
        )

    def _arguments(self, job: TrainingJob) -> Any:
        import torch
        from trl import DPOConfig

        from lrf_dpo.objective import loss_terms

        settings, gpu = self.settings, torch.cuda.is_available()
        return DPOConfig(
            output_dir=str(job.output),
            use_cpu=not gpu,
            bf16=settings.dtype == "bfloat16" or (settings.dtype == "auto" and gpu),
            seed=job.seed,
            data_seed=job.seed,
            beta=settings.beta,
            **loss_terms(settings.ce),
            max_length=None,
            learning_rate=settings.learning_rate,
            lr_scheduler_type=settings.scheduler if settings.scheduler != "constant" else "constant_with_warmup",
            warmup_steps=settings.warmup,
            weight_decay=settings.weight_decay,
            max_grad_norm=settings.max_grad_norm,
            num_train_epochs=settings.epochs,
            max_steps=settings.max_steps or -1,
            per_device_train_batch_size=settings.micro_batch,
            gradient_accumulation_steps=settings.accumulation,
            gradient_checkpointing=settings.gradient_checkpointing,
            dataloader_pin_memory=gpu,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )


def _quiet_and_on_one_gpu() -> None:
    """Before torch and the hub's client are imported: no telemetry, no second GPU (TRL refuses it here)."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # TRL uses names of before v6
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")


def _figures(last: Mapping[str, JSON]) -> dict[str, JSON]:
    names = ("loss", "ce", "margin", "accuracy", "chosen_logp", "chosen_logp_delta")
    return {name: last[name] for name in names if name in last}
