"""The ``dpo`` trainer, from top to bottom: tokenise, load, reference log-probabilities, train, save."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from lrf.errors import StageError
from lrf.protocols import TrainingJob, TrainingResult
from lrf_dpo.rows import (
    EMPTY,
    PROMPT_ENDS_CHANGED,
    SAME,
    TOO_LONG,
    UNSCORED,
    PreferenceRow,
    encode,
    read_lists,
    read_pairs,
)
from lrf_dpo.settings import DPOSettings
from lrf_training.adapters import lora_config
from lrf_training.arguments import training_arguments, training_fingerprint
from lrf_training.chat_text import (
    ADDS_TEXT,
    ADDS_TEXT_NOTE,
    AS_THE_ROW_SAYS,
    AS_THE_ROW_SAYS_NOTE,
    CUT_OFF,
    CUT_OFF_NOTE,
    PROMPT_CHANGED,
    PROMPT_CHANGED_NOTE,
)
from lrf_training.checkpoint import files_named
from lrf_training.identity import identity_of
from lrf_training.mixture import Mixture
from lrf_training.models import prepare_model
from lrf_training.prepare import prepare
from lrf_training.processes import rank
from lrf_training.tokens import END_ADDED, END_ADDED_NOTE


class DPO:
    """DPO with a cross-entropy term on the chosen answer (LongReward, arXiv 2410.21252, section 3), through TRL.

    Trained weights are float32; the reference policy is the policy before its first step.
    """

    def __init__(self, settings: DPOSettings) -> None:
        self.settings = settings

    def train(self, job: TrainingJob) -> TrainingResult:
        """Train on ``job.pairs`` or ``job.lists``.

        Writes ``job.output / "checkpoint"``, ``training_log.jsonl`` and ``reference/``. The log has a line an optimizer
        step. A stopped training resumes from its last state (``save_every``). Raises
        :class:`lrf.errors.StageError`; an earlier checkpoint stays valid.
        """
        with files_named(job.output):
            return self._train(job)

    def _train(self, job: TrainingJob) -> TrainingResult:
        settings, started = self.settings, time.monotonic()

        # --- the tokenizer and the token ids
        own, read = (job.lists, read_lists) if settings.lists else (job.pairs, read_pairs)
        if own is None:
            raise StageError(f"train.loss: {settings.loss} needs the run's lists.jsonl; run the stage `pairs` first")
        read_own = partial(read, prompt_template_sha256=job.prompt_template_sha256)
        files: list[tuple[Path, float, Callable[[Path], Iterator[PreferenceRow]]]]
        files = [(own, settings.own_weight if settings.sources else 1.0, read_own)]
        files += [(source.path, source.weight, read) for source in settings.sources]
        rows, what = Mixture(files, job.seed), "lists" if settings.lists else "pairs"
        ready = prepare(
            job,
            settings,
            self._arguments,
            rows,
            partial(encode, margin=settings.margin),
            what=what,
            on_bad_row=settings.on_bad_pair,
            remarks=_REMARKS,
        )
        arguments, tokenization, counts = ready.arguments, ready.tokenization, ready.counts

        # --- policy
        policy = prepare_model(job, settings, tokenization.tokenizer, counts, arguments.bf16)
        from lrf_training.architecture import unsupported
        from lrf_training.prefix_sharing import PrefixSharing, share_prompts
        from lrf_training.tiling import tile_mlps

        tile_mlps(policy, settings.mlp_tiles)
        refusal = "prefix_sharing: off" if settings.prefix_sharing == "off" else unsupported(policy, counts.longest)

        from datasets import Dataset
        from transformers import PrinterCallback

        from lrf_dpo.alarms import alarms, step_metrics
        from lrf_dpo.batches import ListCollator, padded
        from lrf_dpo.objective import DPOWithCETrainer
        from lrf_dpo.reference import add_reference_logps
        from lrf_training.evaluation import BestCheckpoints, split
        from lrf_training.preflight import Preflight
        from lrf_training.progress import ProgressCallback

        progress = ProgressCallback(
            job.output / "training_log.jsonl",
            job.report,
            metrics=partial(step_metrics, beta=settings.beta),
            alarms=alarms(),
        )
        preflight, dataset = Preflight(_ADVICE), Dataset.from_file(str(ready.tokens))
        trainer = DPOWithCETrainer(
            ce=settings.ce,
            preference=self._preference(),
            margin=settings.margin,
            prompts_together=settings.prompts_together,
            args=arguments,
            model=policy,
            peft_config=lora_config(settings, policy),
            train_dataset=dataset,
            eval_dataset=dataset if settings.evaluation else None,  # split below, when the reference is known
            processing_class=tokenization.tokenizer,
            callbacks=[progress, *([preflight] if settings.preflight else [])],
            data_collator=ListCollator(padded if refusal else share_prompts, tokenization.tokenizer.pad_token_id),
        )
        trainer.remove_callback(PrinterCallback)
        preflight.trainer = trainer
        trainer.configure(settings, job, training_fingerprint(settings, job, ready.tokens))
        if not refusal:
            trainer.sharing = PrefixSharing(trainer.model)

        # --- reference policy
        if settings.stores_reference:
            trainer.train_dataset = add_reference_logps(
                trainer.train_dataset,
                job.output / "reference",
                f"{identity_of(job, settings)} {arguments.bf16} {policy.dtype}",
                trainer.reference_log_probs,
                lockstep=trainer.is_deepspeed_enabled,
                report=job.report,
            )

        # --- held-out rows
        best = None
        if settings.evaluation:
            trainer.train_dataset, trainer.eval_dataset = split(trainer.train_dataset, settings.evaluation, job.seed)
            best = BestCheckpoints(settings.evaluation, job.output)
            best.trainer = trainer
            for callback in best.callbacks():
                trainer.add_callback(callback)

        # --- train and save
        sharing = f"off: {refusal}" if refusal else "on"
        job.report({"phase": "training", "device": arguments.device.type, "prefix_sharing": sharing})
        trainer.run()
        evaluated = best.finish() if best else {}
        if rank() == 0:
            ready.tokens.unlink()
        return TrainingResult(
            checkpoint=job.output / "checkpoint",
            metrics={
                **{name: value for name, value in progress.last.items() if name not in ("step", "steps")},
                "steps": trainer.state.global_step,
                "skipped_steps": trainer.skipped_steps,
                **counts.metrics(what),
                **evaluated,
                PROMPT_ENDS_CHANGED: counts.extra[PROMPT_ENDS_CHANGED],
                **({name: counts.extra[name] for name in (UNSCORED, EMPTY, SAME, TOO_LONG)} if settings.lists else {}),
                **({"sources": rows.metrics()} if settings.sources else {}),
                "chat_template": tokenization.template,
                "prefix_sharing": sharing,
                "reference": "stored" if settings.stores_reference else "adapter_off",
                **preflight.metrics,
                "device": arguments.device.type,
                "dtype": "bfloat16" if arguments.bf16 else "float32",
                "notes": ready.notes,
                "alarms": progress.messages,
                "seconds": round(time.monotonic() - started, 2),
            },
        )

    def _preference(self) -> Any:
        from lrf_training.list_losses import all_pairs, plackett_luce

        settings = self.settings
        if settings.loss == "listwise":
            return partial(plackett_luce, margin=settings.margin)
        return partial(all_pairs, margin=settings.margin, weighted=settings.lists and settings.margin_weights)

    def _arguments(self, job: TrainingJob) -> Any:
        from trl import DPOConfig

        from lrf_training.prefix_sharing import NAME

        settings, common = self.settings, training_arguments(self.settings, job)
        if (parallel := common.get("parallelism_config")) is not None:
            parallel.sp_handler.sp_attn_implementation = NAME
        return DPOConfig(
            **common,
            beta=settings.beta,
            max_length=None,
            router_aux_loss_coef=0.0,  # of mixtures: no loss but the one that was asked for
            precompute_ref_log_probs=settings.stores_reference,
            activation_offloading=settings.activation_offload and not common["use_cpu"],
            disable_dropout=not (settings.lora and (settings.lora.dropout or settings.lora.continue_adapters)),
        )


_ADVICE = (
    "What helps: gradient_checkpointing: true, lora, activation_offload: true, prefix_sharing: auto, micro_batch: 1, "
    "more processes with DeepSpeed ZeRO-3 or sequence parallelism, or a smaller max_tokens"
)

_REMARKS = {
    END_ADDED: END_ADDED_NOTE,
    AS_THE_ROW_SAYS: AS_THE_ROW_SAYS_NOTE,
    ADDS_TEXT: ADDS_TEXT_NOTE,
    CUT_OFF: CUT_OFF_NOTE,
    PROMPT_CHANGED: PROMPT_CHANGED_NOTE,
    PROMPT_ENDS_CHANGED: "in {} rows the chat template ends the prompt differently if an answer follows; the answers "
    "are trained from the first token that differs",
    UNSCORED: "{} answers without a reward are left out of the lists",
    EMPTY: "{} empty answers are left out of the lists",
    SAME: "{} answers equal to a better one of their list are left out",
    TOO_LONG: "{} answers that are too long are left out of their lists (on_too_long: drop)",
}
