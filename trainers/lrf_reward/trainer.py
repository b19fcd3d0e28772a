"""The ``reward`` trainer, from top to bottom: tokenise, load, train, evaluate on held-out samples, save."""

from __future__ import annotations

import json
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
from lrf_training.chat_text import PROMPT_CHANGED, PROMPT_CHANGED_NOTE
from lrf_training.checkpoint import files_named
from lrf_training.mixture import Mixture
from lrf_training.prepare import prepare
from lrf_training.processes import on_first_process, rank
from lrf_training.tokens import write_tokens

PREFERENCE = "reward"


class RewardTrainer:
    """Distils a run's ratings, or its preference pairs, into a sequence classifier.

    LongReward (arXiv 2410.21252, section 7) names this as future work. The checkpoint's ``config.json`` has, under
    ``lrf_reward``, the outputs that correspond to ratings of 0 and 10, and the prompt template's hash, which the
    dimension ``classifier`` reads, and the agreement on held-out samples.
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

        # --- the rows, and their token ids
        dimensions, of_part = self._parts(job, source)
        what, encode = "answers" if of_ratings else "pairs", partial(rows.encode, dimensions=dimensions)
        ready = prepare(
            job,
            settings,
            self._arguments,
            of_part["training"],
            encode,
            what=what,
            on_bad_row=settings.on_bad_row,
            remarks={PROMPT_CHANGED: PROMPT_CHANGED_NOTE},
        )
        tokenizer, counts = ready.tokenization.tokenizer, ready.counts
        to_ids = partial(encode, tokenizer=tokenizer, _=ready.tokenization.stop_ids)
        apart: dict[str, Path] = {}  # token ids of rows that aren't trained on
        all_counts = [counts]
        for part in (name for name in of_part if name != "training"):
            apart[part] = job.output / f"{part}.arrow"
            tokenize = partial(write_tokens, of_part[part], to_ids, ready.rules, apart[part], what=what, source=source)
            all_counts.append(on_first_process(tokenize))
        evaluated = apart.get("held_out", ready.tokens)  # without held-out rows, the training rows

        # --- the model
        from datasets import Dataset
        from transformers import PrinterCallback

        from lrf_reward import held_out
        from lrf_reward.model import new_classifier, with_adapters
        from lrf_reward.objective import DistillationTrainer, RewardCollator
        from lrf_training.evaluation import BestCheckpoints
        from lrf_training.preflight import Preflight
        from lrf_training.progress import ProgressCallback
        from lrf_training.tiling import tile_mlps

        labels = dimensions or (PREFERENCE,)
        longest, largest_id = (max(getattr(c, n) for c in all_counts) for n in ("longest", "largest_id"))
        model = new_classifier(job, settings, tokenizer, labels, longest, largest_id)
        tile_mlps(model, settings.mlp_tiles)

        # --- train, evaluate and save
        collate = RewardCollator(tokenizer.pad_token_id)
        progress = ProgressCallback(job.output / "training_log.jsonl", job.report)
        preflight = Preflight(_ADVICE)
        best = BestCheckpoints(settings.evaluation, job.output) if settings.evaluation else None
        trainer = DistillationTrainer(
            model=with_adapters(model, settings),
            args=ready.arguments,
            train_dataset=Dataset.from_file(str(ready.tokens)),
            eval_dataset=Dataset.from_file(str(apart["evaluation"])) if best else None,
            processing_class=tokenizer,
            data_collator=collate,
            callbacks=[progress, *([preflight] if settings.preflight else []), *(best.callbacks() if best else [])],
        )
        trainer.remove_callback(PrinterCallback)
        preflight.trainer = trainer
        if best is not None:
            best.trainer = trainer
        trainer.configure(settings, job, training_fingerprint(settings, job, ready.tokens))

        def output_info() -> dict[str, JSON]:
            job.report({"phase": "evaluating"})
            some = _plain(Dataset.from_file(str(evaluated)))
            outputs = list(held_out.predictions(model, some, collate, settings.micro_batch))
            return {
                **held_out.described(outputs, dimensions),
                "prompt_template_sha256": job.prompt_template_sha256,
                "objective": settings.objective,
            }

        trainer.output_info = output_info
        job.report({"phase": "training", "device": trainer.args.device.type})
        trainer.run()
        evaluations = best.finish() if best else {}
        agreement = on_first_process(lambda: _agreement(job.output / "checkpoint"))  # the chosen checkpoint's own
        if rank() == 0:
            for tokens in (ready.tokens, *apart.values()):
                tokens.unlink()
        return TrainingResult(
            checkpoint=job.output / "checkpoint",
            metrics={
                **{name: value for name, value in progress.last.items() if name not in ("step", "steps")},
                "steps": trainer.state.global_step,
                "skipped_steps": trainer.skipped_steps,
                **counts.metrics(what),
                "unscored_answers": sum(not row.teaches for row in rows.scored(source)) if of_ratings else 0,
                "outputs": list(labels),
                ("on_training_rows" if evaluated == ready.tokens else "held_out"): agreement,
                **evaluations,
                "chat_template": ready.tokenization.template,
                **preflight.metrics,
                "device": trainer.args.device.type,
                "notes": ready.notes,
                "seconds": round(time.monotonic() - started, 2),
            },
        )

    def _parts(self, job: TrainingJob, source: Path) -> tuple[tuple[str, ...], dict[str, Mixture[rows.RewardRow]]]:
        """The dimensions that are learnt (of preferences none), and the rows of each part that has any."""
        settings, of_ratings = self.settings, self.settings.objective == "ratings"

        def read(path: Path) -> Iterator[rows.RewardRow]:
            return (row for row in (rows.scored(path) if of_ratings else rows.pairs(path)) if row.teaches)

        dimensions = tuple(dict.fromkeys(name for row in read(source) for name in row.ratings)) if of_ratings else ()
        if of_ratings and not dimensions:
            raise StageError(f"{source}: no answer has a rating, so there is nothing to distil")
        between = settings.evaluation.held_out if settings.evaluation else 0.0
        try:
            part_of = rows.parts([row.sample_id for row in read(source)], job.seed, settings.held_out, between)
        except ValueError as error:
            raise StageError(
                f"{source}: {error}; give {rows.FEWEST_SAMPLES} at least, or set `held_out: 0`, which evaluates on the "
                "rows that were trained on" + (", and leave `evaluation` out" if between else "")
            ) from None

        def read_part(path: Path, part: str) -> Iterator[rows.RewardRow]:
            return (row for row in read(path) if part_of(row.sample_id) == part)

        there = ["training"] + ["evaluation"] * bool(between) + ["held_out"] * bool(settings.held_out)
        return dimensions, {part: Mixture([(source, 1.0, partial(read_part, part=part))], job.seed) for part in there}

    def _arguments(self, job: TrainingJob) -> Any:
        from transformers import TrainingArguments

        return TrainingArguments(**training_arguments(self.settings, job), remove_unused_columns=False)


_ADVICE = (
    "What helps: gradient_checkpointing: true, lora, micro_batch: 1, mlp_tiles, activation_offload: true; with several "
    "processes zero: 3; or a smaller max_tokens"
)


def _agreement(checkpoint: Path) -> JSON:
    """The figures of :mod:`lrf_reward.held_out` that a checkpoint has of itself."""
    agreement: JSON = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))["lrf_reward"]["agreement"]
    return agreement


def _plain(dataset: Any) -> Iterator[dict[str, Any]]:
    yield from dataset
