"""The ``reward`` trainer, from top to bottom: check, tokenise, load, train, try on what was held out, save."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from lrf.errors import StageError
from lrf.protocols import TrainingJob, TrainingResult
from lrf_reward import rows
from lrf_reward.settings import RewardSettings
from lrf_training import checkpoint
from lrf_training.arguments import quiet, training_arguments
from lrf_training.models import settle_text
from lrf_training.tokens import Rules, write_tokens

PREFERENCE = "reward"


class RewardTrainer:
    """Distils the ratings of a run, or its preference pairs, into a sequence classifier (the future work named in
    LongReward, arXiv 2410.21252, section 7).

    The checkpoint's ``config.json`` says under ``lrf_reward`` which outputs are ratings of 0 and of 10, and with which
    prompt template it was trained; the dimension ``classifier`` reads both.
    """

    def __init__(self, settings: RewardSettings) -> None:
        self.settings = settings

    def train(self, job: TrainingJob) -> TrainingResult:
        """Leave a checkpoint in ``job.output / "checkpoint"``. Raises :class:`lrf.errors.StageError`."""
        try:
            return self._train(job)
        except OSError as error:
            raise StageError(f"{error.filename or job.output}: {error.strerror or error}") from error

    def _train(self, job: TrainingJob) -> TrainingResult:
        settings, started = self.settings, time.monotonic()
        quiet()
        job.output.mkdir(parents=True, exist_ok=True)
        checkpoint.recover(job.output / "checkpoint")
        of_ratings = settings.objective == "ratings"
        source = job.scored if of_ratings else job.pairs
        assert source is not None

        def read(held_out: bool | None = None) -> Iterator[rows.Row]:
            found = rows.scored(source) if of_ratings else rows.pairs(source)
            for row in found:
                apart = rows.is_held_out(row.sample_id, job.seed, settings.held_out)
                if row.teaches and held_out in (None, apart):
                    yield row

        # --- what there is to learn, and its token ids
        job.report({"phase": "tokenising"})
        dimensions = tuple(dict.fromkeys(name for row in read() for name in row.ratings)) if of_ratings else ()
        if of_ratings and not dimensions:
            raise StageError(f"{source}: no answer has a rating, so there is nothing to distil")
        text = settle_text(job, settings, (m["content"] for row in read() for chat in row.chats for m in chat))
        encode = partial(rows.encode, tokenizer=text.tokenizer, dimensions=dimensions)
        rules = Rules.of(settings, text.window, on_bad_row="stop")
        what = "answers" if of_ratings else "pairs"
        tokens, apart = job.output / "tokens.arrow", job.output / "held_out.arrow"
        counts = write_tokens(read(held_out=False), encode, rules, tokens, what=what, source=source)
        held = any(read(held_out=True))
        tried = write_tokens(read(held_out=True), encode, rules, apart, what=what, source=source) if held else None
        longest = max(counts.longest, tried.longest if tried else 0)
        largest_id = max(counts.largest_id, tried.largest_id if tried else 0)

        # --- the model
        from datasets import Dataset
        from transformers import PrinterCallback, TrainingArguments

        from lrf_reward import held_out
        from lrf_reward.model import classifier
        from lrf_reward.objective import Collator, Distil
        from lrf_training.watch import Watch

        job.report({"phase": "loading", what: counts.rows, "tokens": counts.tokens, "longest": longest})
        labels = dimensions or (PREFERENCE,)
        model = classifier(job, settings, text.tokenizer, labels, longest, largest_id)

        # --- train
        collate = Collator(text.tokenizer.pad_token_id)
        watch = Watch(job.output / "training_log.jsonl", job.report)
        trainer = Distil(
            model=model,
            args=TrainingArguments(**training_arguments(settings, job), remove_unused_columns=False),
            train_dataset=Dataset.from_file(str(tokens)),
            processing_class=text.tokenizer,
            data_collator=collate,
            callbacks=[watch],
        )
        trainer.remove_callback(PrinterCallback)
        job.report({"phase": "training", "device": trainer.args.device.type})
        trainer.train()

        # --- try it on what was held out
        job.report({"phase": "trying"})
        trial = Dataset.from_file(str(apart if tried else tokens))
        found = list(held_out.outputs(model, _plain(trial), collate))
        figures = held_out.of_ratings(found, dimensions) if of_ratings else held_out.of_preferences(found)

        # --- save
        zero_at, ten_at = (-1.0, 1.0) if of_ratings else held_out.scale([o for _, both in found for o in both])
        model.config.lrf_reward = {
            "zero_at": zero_at,
            "ten_at": ten_at,
            "prompt_template_sha256": job.prompt_template_sha256,
            "objective": settings.objective,
        }
        checkpoint.save(model, text.tokenizer, job.output / "checkpoint")
        tokens.unlink()
        apart.unlink(missing_ok=True)
        return TrainingResult(
            checkpoint=job.output / "checkpoint",
            metrics={
                **{name: value for name, value in watch.last.items() if name not in ("step", "steps")},
                "steps": trainer.state.global_step,
                **counts.metrics(what),
                "unscored_answers": sum(not row.teaches for row in rows.scored(source)) if of_ratings else 0,
                "outputs": list(labels),
                ("held_out" if tried else "on_training_rows"): figures,
                "chat_template": text.template,
                "device": trainer.args.device.type,
                "seconds": round(time.monotonic() - started, 2),
            },
        )


def _plain(dataset: Any) -> Iterator[dict[str, Any]]:
    yield from dataset
