"""The ``sft`` trainer, from top to bottom: tokenise, load, train, save."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

from lrf.protocols import TrainingJob, TrainingResult
from lrf_sft import rows
from lrf_sft.packing import pack, refuse_packing
from lrf_sft.settings import SFTSettings
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
from lrf_training.mixture import Mixture
from lrf_training.models import load_config, prepare_model
from lrf_training.prepare import prepare
from lrf_training.processes import on_first_process, rank
from lrf_training.tokens import END_ADDED, END_ADDED_NOTE, SEPARATE


class SFT:
    """Supervised fine-tuning (LongReward, arXiv 2410.21252, section 4), through TRL.

    Runs on a CPU, a GPU, or several GPUs under a launcher. Trained weights are float32.
    """

    def __init__(self, settings: SFTSettings) -> None:
        self.settings = settings

    def train(self, job: TrainingJob) -> TrainingResult:
        """Train, and write ``job.output / "checkpoint"`` and ``training_log.jsonl``, a line an optimizer step.

        A stopped training resumes from its last state (``save_every``). Raises :class:`lrf.errors.StageError`; an
        earlier checkpoint stays valid.
        """
        with files_named(job.output):
            return self._train(job)

    def _train(self, job: TrainingJob) -> TrainingResult:
        settings, started = self.settings, time.monotonic()

        # --- the tokenizer and the token ids
        mixture = self._mixture(job)
        ready = prepare(
            job,
            settings,
            self._arguments,
            mixture,
            partial(rows.encode, separate=settings.rewritten_answers == "separate"),
            what="rows",
            on_bad_row=settings.on_bad_row,
            remarks=_REMARKS,
        )
        arguments, tokenization, counts = ready.arguments, ready.tokenization, ready.counts
        if counts.extra[SEPARATE] > counts.tokens / 2:  # they grow with the square of a conversation's turns
            whole = counts.tokens - counts.extra[SEPARATE]
            ready.notes.append(
                f"with sequences of their own, conversations of {whole} tokens make {counts.tokens}, "
                f"{counts.tokens / max(whole, 1):.1f} times as many (rewritten_answers: leave_out doesn't train them)"
            )
            job.report({"note": ready.notes[-1]})

        # --- policy
        if settings.packing and settings.init is None:
            refuse_packing(load_config(job), counts.longest, trust_remote_code=job.trust_remote_code)
        policy = prepare_model(job, settings, tokenization.tokenizer, counts, arguments.bf16)

        # --- packed sequences
        data = ready.tokens
        if settings.packing:
            from lrf_training.prefix_sharing import NAME

            policy.set_attn_implementation(NAME)
            data = job.output / "packed.arrow"
            limit = max(ready.rules.limit or 0, counts.longest)
            sequences = on_first_process(lambda: pack(ready.tokens, data, limit))
            counts.extra["packed_sequences"] = sequences
            job.report(
                {"phase": "packing", "sequences": sequences, "fill": round(counts.tokens / sequences / limit, 3)}
            )

        # --- train
        from datasets import Dataset
        from transformers import PrinterCallback

        from lrf_sft.objective import SFTCollator, TokenMeanTrainer
        from lrf_training.evaluation import BestCheckpoints, split
        from lrf_training.preflight import Preflight
        from lrf_training.progress import ProgressCallback
        from lrf_training.sequence_parallel import use_group_batches
        from lrf_training.tiling import tile_mlps

        tile_mlps(policy, settings.mlp_tiles)
        train_rows, held_out, best = Dataset.from_file(str(data)), None, None
        if settings.evaluation:
            train_rows, held_out = split(train_rows, settings.evaluation, job.seed)
            best = BestCheckpoints(settings.evaluation, job.output)
        progress = ProgressCallback(job.output / "training_log.jsonl", job.report)
        preflight, pad = Preflight(_ADVICE), tokenization.tokenizer.pad_token_id
        trainer = TokenMeanTrainer(
            args=arguments,
            model=policy,
            peft_config=lora_config(settings, policy),
            train_dataset=train_rows,
            eval_dataset=held_out,
            processing_class=tokenization.tokenizer,
            callbacks=[progress, *([preflight] if settings.preflight else []), *(best.callbacks() if best else [])],
            data_collator=SFTCollator(pad, settings.sequence_parallel, packed=settings.packing),
        )
        trainer.held_out_collator = SFTCollator(pad, packed=settings.packing)
        trainer.remove_callback(PrinterCallback)
        preflight.trainer = trainer
        if best is not None:
            best.trainer = trainer
        if settings.sequence_parallel > 1:
            use_group_batches(trainer, settings.sequence_parallel)
        trainer.configure(settings, job, training_fingerprint(settings, job, ready.tokens))
        job.report({"phase": "training", "device": arguments.device.type})
        trainer.run()
        evaluated = best.finish() if best else {}
        answer_tokens = 0
        if rank() == 0:
            answer_tokens = _answer_tokens(ready.tokens)
            ready.tokens.unlink()
            data.unlink(missing_ok=True)
        return TrainingResult(
            checkpoint=job.output / "checkpoint",
            metrics={
                **{name: value for name, value in progress.last.items() if name not in ("step", "steps")},
                "steps": trainer.state.global_step,
                "skipped_steps": trainer.skipped_steps,
                **counts.metrics("rows"),
                "answer_tokens": answer_tokens,
                **evaluated,
                "sources": mixture.metrics(),
                "chat_template": tokenization.template,
                **preflight.metrics,
                "device": arguments.device.type,
                "dtype": "bfloat16" if arguments.bf16 else "float32",
                "notes": ready.notes,
                "seconds": round(time.monotonic() - started, 2),
            },
        )

    def _arguments(self, job: TrainingJob) -> Any:
        from trl import SFTConfig

        common = training_arguments(self.settings, job)
        if self.settings.packing and (parallel := common.get("parallelism_config")) is not None:
            from lrf_training.prefix_sharing import NAME

            parallel.sp_handler.sp_attn_implementation = NAME
        return SFTConfig(
            **common,
            max_length=None,
            dataset_kwargs={"skip_prepare_dataset": True},
            remove_unused_columns=False,
            activation_offloading=self.settings.activation_offload and not common["use_cpu"],
        )

    def _mixture(self, job: TrainingJob) -> Mixture[rows.Conversation]:
        settings = self.settings
        read_own = partial(rows.read_pairs, prompt_template_sha256=job.prompt_template_sha256)
        own = [(job.pairs, settings.own_weight, read_own)] if settings.own_weight else []
        return Mixture([*own, *((source.path, source.weight, rows.read) for source in settings.sources)], job.seed)


_ADVICE = (
    "What helps: gradient_checkpointing: true, lora, activation_offload: true, micro_batch: 1; with several processes "
    "zero: 3, sequence_parallel, offload; or a smaller max_tokens"
)

_REMARKS = {
    END_ADDED: END_ADDED_NOTE,
    "answers_with_weight_0": "{} answers of weight 0 are not trained",
    "answers_empty": "{} turns of the assistant say nothing and are not trained",
    "answers_rewritten_by_template": "{} earlier answers are trained in sequences of their own, since the chat "
    "template writes them differently once more turns follow (rewritten_answers: leave_out doesn't train them)",
    "answers_left_out": "{} earlier answers are not trained: the chat template writes them differently once more turns "
    "follow",
    AS_THE_ROW_SAYS: AS_THE_ROW_SAYS_NOTE,
    ADDS_TEXT: ADDS_TEXT_NOTE,
    CUT_OFF: CUT_OFF_NOTE,
    PROMPT_CHANGED: PROMPT_CHANGED_NOTE,
}


def _answer_tokens(tokens: Path) -> int:
    """Number of tokens trained in an epoch."""
    import pyarrow as pa
    import pyarrow.compute as pc

    with pa.memory_map(str(tokens)) as file:
        spans = pc.list_flatten(pa.ipc.open_stream(file).read_all().column("spans")).to_numpy()
    return int(spans[1::2].sum() - spans[::2].sum())
