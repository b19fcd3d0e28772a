"""The ``reward`` trainer, from top to bottom: tokenise, load, train, evaluate on held-out samples, save."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from lrf.errors import StageError
from lrf.protocols import TrainingJob, TrainingResult
from lrf.types import JSON
from lrf_reward import rows
from lrf_reward.settings import RewardSettings
from lrf_training.arguments import training_arguments, training_fingerprint
from lrf_training.checkpoint import files_named
from lrf_training.mixture import Mixture
from lrf_training.prepare import prepare
from lrf_training.processes import on_first_process, rank
from lrf_training.tokens import write_tokens

PREFERENCE = "reward"


class RewardTrainer:
    """Distils a run's ratings, or its preference pairs, into a sequence classifier.

    LongReward (arXiv 2410.21252, section 7) names this as future work. The checkpoint's ``config.json`` has, under
    ``lrf_reward``, the outputs that correspond to ratings of 0 and 10, and the prompt template's hash; the dimension
    ``classifier`` reads both.
    """

    def __init__(self, settings: RewardSettings) -> None:
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
        of_ratings = settings.objective == "ratings"
        source = job.scored if of_ratings else job.pairs
        assert source is not None

        def read(path: Path, held_out: bool | None = None) -> Iterator[rows.RewardRow]:
            for row in rows.scored(path) if of_ratings else rows.pairs(path):
                if row.teaches and held_out in (None, rows.is_held_out(row.sample_id, job.seed, below)):
                    yield row

        # --- the rows, and their token ids
        below = 0
        dimensions = tuple(dict.fromkeys(name for row in read(source) for name in row.ratings)) if of_ratings else ()
        if of_ratings and not dimensions:
            raise StageError(f"{source}: no answer has a rating, so there is nothing to distil")
        try:
            below = rows.held_out_below((row.sample_id for row in read(source)), job.seed, settings.held_out)
        except ValueError as error:
            raise StageError(
                f"{source}: {error}; give {rows.FEWEST_SAMPLES} at least, or set `held_out: 0`, which evaluates on the "
                "rows that were trained on"
            ) from None
        train_rows, held_out_rows = (
            Mixture([(source, 1.0, partial(read, held_out=apart))], job.seed) for apart in (False, True)
        )
        what, encode = "answers" if of_ratings else "pairs", partial(rows.encode, dimensions=dimensions)
        ready = prepare(
            job, settings, self._arguments, train_rows, encode, what=what, on_bad_row=settings.on_bad_row, remarks={}
        )
        tokenizer, counts = ready.tokenization.tokenizer, ready.counts
        evaluated, evaluated_counts = ready.tokens, counts  # without held-out rows, the training rows
        if any(True for _ in held_out_rows):
            evaluated = job.output / "held_out.arrow"
            to_ids = partial(encode, tokenizer=tokenizer, _=ready.tokenization.stop_ids)
            into = evaluated
            evaluated_counts = on_first_process(
                lambda: write_tokens(held_out_rows, to_ids, ready.rules, into, what=what, source=source)
            )

        # --- the model
        from datasets import Dataset
        from transformers import PrinterCallback

        from lrf_reward import held_out
        from lrf_reward.model import new_classifier, with_adapters
        from lrf_reward.objective import DistillationTrainer, RewardCollator
        from lrf_training.preflight import Preflight
        from lrf_training.progress import ProgressCallback
        from lrf_training.tiling import tile_mlps

        labels = dimensions or (PREFERENCE,)
        longest, largest_id = (
            max(getattr(c, n) for c in (counts, evaluated_counts)) for n in ("longest", "largest_id")
        )
        model = new_classifier(job, settings, tokenizer, labels, longest, largest_id)
        tile_mlps(model, settings.mlp_tiles)

        # --- train, evaluate and save
        collate = RewardCollator(tokenizer.pad_token_id)
        progress = ProgressCallback(job.output / "training_log.jsonl", job.report)
        preflight = Preflight(_ADVICE)
        trainer = DistillationTrainer(
            model=with_adapters(model, settings),
            args=ready.arguments,
            train_dataset=Dataset.from_file(str(ready.tokens)),
            processing_class=tokenizer,
            data_collator=collate,
            callbacks=[progress, *([preflight] if settings.preflight else [])],
        )
        trainer.remove_callback(PrinterCallback)
        preflight.trainer = trainer
        trainer.configure(settings, job, training_fingerprint(settings, job, ready.tokens))
        outputs: list[tuple[Any, list[float]]] = []

        def output_info() -> dict[str, JSON]:
            job.report({"phase": "evaluating"})
            evaluated_rows = _plain(Dataset.from_file(str(evaluated)))
            outputs[:] = held_out.predictions(model, evaluated_rows, collate, settings.micro_batch)
            zero_at, ten_at = (
                (-1.0, 1.0) if of_ratings else held_out.output_scale([o for _, both in outputs for o in both])
            )
            return {
                "zero_at": zero_at,
                "ten_at": ten_at,
                "prompt_template_sha256": job.prompt_template_sha256,
                "objective": settings.objective,
            }

        trainer.output_info = output_info
        job.report({"phase": "training", "device": trainer.args.device.type})
        trainer.run()
        metrics = held_out.rating_metrics(outputs, dimensions) if of_ratings else held_out.preference_metrics(outputs)
        if rank() == 0:
            evaluated.unlink()
            ready.tokens.unlink(missing_ok=True)
        return TrainingResult(
            checkpoint=job.output / "checkpoint",
            metrics={
                **{name: value for name, value in progress.last.items() if name not in ("step", "steps")},
                "steps": trainer.state.global_step,
                "skipped_steps": trainer.skipped_steps,
                **counts.metrics(what),
                "unscored_answers": sum(not row.teaches for row in rows.scored(source)) if of_ratings else 0,
                "outputs": list(labels),
                ("on_training_rows" if evaluated == ready.tokens else "held_out"): metrics,
                "chat_template": ready.tokenization.template,
                **preflight.metrics,
                "device": trainer.args.device.type,
                "notes": ready.notes,
                "seconds": round(time.monotonic() - started, 2),
            },
        )

    def _arguments(self, job: TrainingJob) -> Any:
        from transformers import TrainingArguments

        return TrainingArguments(**training_arguments(self.settings, job), remove_unused_columns=False)


_ADVICE = (
    "What helps: gradient_checkpointing: true, lora, micro_batch: 1, mlp_tiles, activation_offload: true; with several "
    "processes zero: 3; or a smaller max_tokens"
)


def _plain(dataset: Any) -> Iterator[dict[str, Any]]:
    yield from dataset
