"""The ``dpo`` trainer, from top to bottom: check, tokenise, load, train, save."""

from __future__ import annotations

import copy
import time
from functools import partial
from typing import Any

from lrf.errors import StageError
from lrf.protocols import TrainingJob, TrainingResult
from lrf_dpo import pairs
from lrf_dpo.settings import DPOSettings
from lrf_training import checkpoint
from lrf_training.arguments import quiet, training_arguments
from lrf_training.models import settle_model, settle_text
from lrf_training.tokens import Rules, write_tokens


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
        quiet()
        job.output.mkdir(parents=True, exist_ok=True)
        checkpoint.recover(job.output / "checkpoint")

        # --- tokenizer, and the pairs as token ids
        job.report({"phase": "tokenising"})
        rows = pairs.read(job.pairs, job.prompt_template_sha256)
        text = settle_text(
            job, settings, (m["content"] for row in rows for m in (*row.prompt, *row.chosen, *row.rejected))
        )
        tokens = job.output / "tokens.arrow"
        counts = write_tokens(
            pairs.read(job.pairs, job.prompt_template_sha256),
            partial(pairs.encode, tokenizer=text.tokenizer),
            Rules.of(settings, text.window, settings.on_bad_pair),
            tokens,
            what="pairs",
            source=job.pairs,
        )
        notes = []
        if text.template == "plain" and settings.init is None:
            notes.append(f"{job.model} has no chat template: a plain one is used, and saved with the checkpoint")
        if changed := counts.extra["prompt_ends_changed"]:
            notes.append(
                f"in {changed} pairs the chat template ends the prompt otherwise when an answer follows; the answer is "
                "trained from where they part"
            )
        if counts.rows < settings.global_batch:
            notes.append(f"{counts.rows} pairs don't fill global_batch: {settings.global_batch}")
        for note in notes:
            job.report({"note": note})

        # --- policy and reference policy
        job.report({"phase": "loading", "pairs": counts.rows, "tokens": counts.tokens, "longest": counts.longest})
        policy = settle_model(job, settings, text.tokenizer, counts.longest, counts.largest_id)
        from lrf_dpo.prefix_sharing import SharedPromptCollator, share_prompts, why_not

        refusal = "prefix_sharing: off" if settings.prefix_sharing == "off" else why_not(policy)
        if settings.prefix_sharing == "on" and refusal:
            raise StageError(f"train.prefix_sharing: on, but {refusal}; set it to auto or off")
        reference = copy.deepcopy(policy)

        # --- train
        from datasets import Dataset
        from transformers import PrinterCallback

        from lrf_dpo.alarms import CollapseAlarm, figures
        from lrf_dpo.objective import DPOWithCE
        from lrf_training.watch import Watch

        def save(step: int) -> None:
            job.report({"phase": "saving", "step": step})
            checkpoint.save(policy, text.tokenizer, job.output / "checkpoint")

        watch = Watch(
            job.output / "training_log.jsonl",
            job.report,
            figures=partial(figures, beta=settings.beta),
            alarms=[CollapseAlarm()],
            save=save,
            save_every=settings.save_every,
        )
        trainer = DPOWithCE(
            ce=settings.ce,
            args=self._arguments(job),
            model=policy,
            ref_model=reference,
            train_dataset=Dataset.from_file(str(tokens)),
            processing_class=text.tokenizer,
            callbacks=[watch],
            data_collator=None if refusal else SharedPromptCollator(text.tokenizer.pad_token_id),
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
                **{name: value for name, value in watch.last.items() if name not in ("step", "steps")},
                "steps": steps,
                **counts.metrics("pairs"),
                "prompt_ends_changed": changed,
                "chat_template": text.template,
                "prefix_sharing": sharing,
                "device": trainer.args.device.type,
                "dtype": "bfloat16" if trainer.args.bf16 else "float32",
                "notes": notes,
                "alarms": watch.messages,
                "seconds": round(time.monotonic() - started, 2),
            },
        )

    def _arguments(self, job: TrainingJob) -> Any:
        from trl import DPOConfig

        from lrf_dpo.objective import loss_terms

        return DPOConfig(
            **training_arguments(self.settings, job),
            **loss_terms(self.settings.ce),
            beta=self.settings.beta,
            max_length=None,
        )
