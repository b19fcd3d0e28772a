"""What all trainers add to a transformers ``Trainer``: atomic checkpoints, and checks for NaN."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrf.errors import RunInterruptedError, StageError
from lrf.protocols import TrainingJob
from lrf_training.adapters import save_merged, unwrap_peft
from lrf_training.checkpoint import TrainingStates, export
from lrf_training.evaluation import Sums, held_out_means
from lrf_training.export_trial import check_adapters, check_weights, try_export
from lrf_training.processes import rank, world
from lrf_training.settings import TrainingSettings
from lrf_training.stopping import StopSignals
from lrf_training.trackers import guard

if TYPE_CHECKING:
    from transformers import Trainer as _Base
else:
    _Base = object


class CheckedTrainer(_Base):  # type: ignore[misc]  # transformers is not followed by mypy
    """A mixin for a ``Trainer``: saves and resumes atomically, and stops at (or skips) a loss that isn't finite."""

    settings = TrainingSettings()
    skipped_steps = 0

    def configure(self, settings: TrainingSettings, job: TrainingJob, fingerprint: str) -> None:
        """Call it before :meth:`run`; for ``fingerprint`` see :func:`lrf_training.arguments.training_fingerprint`."""
        if settings.on_nan == "skip" and self.is_deepspeed_enabled:
            raise StageError(
                "train.on_nan: skip doesn't work with DeepSpeed, which steps the optimizer itself; set on_nan: stop"
            )
        if settings.zero == 3 and self._merges(settings):
            raise StageError(
                "train.lora.merge doesn't work with zero: 3, where no process has all weights; leave it out, and "
                "merge the adapters afterwards with peft"
            )
        self.settings, self.report, self.checkpoint = settings, job.report, job.output / "checkpoint"
        self.trust_remote_code = job.trust_remote_code
        self.states = TrainingStates(job.output / "training", fingerprint, world(), sharded=self.is_deepspeed_enabled)

    def run(self) -> None:
        """Train to the end, resuming from the last complete state; then export the model and remove the states.

        At a signal to stop (SIGTERM, SIGINT), the step at work is finished and its state saved. Raises
        :class:`lrf.errors.RunInterruptedError` then.
        """
        latest = self.states.latest()
        for note in self.states.notes():
            self.report({"note": note})
        if latest is not None:
            self.report({"note": f"training resumes from step {latest.name.split('-')[1]}"})
        guard(self.callback_handler.callbacks, list(self.settings.report_to), self.report)
        with StopSignals() as stop:
            self.add_callback(stop)
            self.train(resume_from_checkpoint=str(latest) if latest else None)
        if stop.stopped_at is not None:
            raise RunInterruptedError(
                f"the training was stopped after step {stop.stopped_at} of {self.state.max_steps}; its state is saved, "
                "and the same command continues from it"
            )
        self.save_export()
        if rank() == 0:
            shutil.rmtree(self.states.folder, ignore_errors=True)

    def try_export(self) -> None:
        """Save a checkpoint in its final form, load it and remove it. Raises :class:`lrf.errors.StageError`."""
        try_export(self.write_export, self.checkpoint, self._check_export)

    def _check_export(self, folder: Path) -> None:
        """Load what was exported, without memory for its weights: names and shapes must be the model's."""
        adapters = hasattr(self.model, "peft_config") and not self._merges(self.settings)
        if adapters:
            check_adapters(self.model, folder)
        else:
            check_weights(type(unwrap_peft(self.model)), folder, self.trust_remote_code)

    def save_export(self) -> None:
        self.report({"phase": "saving", "step": self.state.global_step})
        self.export_to(self.checkpoint)

    def export_to(self, folder: Path) -> None:
        """Replace the checkpoint ``folder`` atomically. Called in all processes."""
        export(self.write_export, folder)

    def write_export(self, folder: Path) -> None:
        """Save weights (safetensors), tokenizer and chat template. Called in all processes."""
        first = self.args.should_save
        if first:
            folder.mkdir(parents=True, exist_ok=True)
        if not self._merges(self.settings):
            self.save_model(str(folder), _internal_call=True)
        elif first:
            adapters = folder.with_name("adapters")  # kept until the merged weights are complete
            self.model.save_pretrained(adapters)
            save_merged(self.model, folder)
            shutil.rmtree(adapters)
            self.processing_class.save_pretrained(folder)
        if first:
            (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle, not needed
            shutil.rmtree(folder / "ref", ignore_errors=True)  # TRL's copy of adapters as they began

    @staticmethod
    def _merges(settings: TrainingSettings) -> bool:
        lora = getattr(settings, "lora", None)
        return lora is not None and lora.merge

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        path = self.states.folder / f"checkpoint-{self.state.global_step}"
        self.states.save(lambda: super(CheckedTrainer, self)._save_checkpoint(model, trial), path)
        if self.state.global_step < self.state.max_steps:
            self.save_export()

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Does nothing: TRL would write a model card into every state."""

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        self.stop_unless_finite("gradient", norm)
        if not _finite(norm):
            self.skipped_steps += 1
            model.zero_grad()  # AdamW leaves parameters without a gradient unchanged
        return norm

    def stop_unless_finite(self, what: str, value: Any) -> None:
        """Raise :class:`lrf.errors.StageError` if ``value``, a tensor or a number, isn't finite.

        Not with ``on_nan: skip``: the step's gradient isn't finite either then, and the step is skipped.
        """
        if self.settings.on_nan == "stop" and not _finite(value):
            raise StageError(
                f"the {what} became {float(value)} in step {self.state.global_step + 1}; the weights of that step are "
                "not saved. Lower learning_rate, use dtype: float32, or set on_nan: skip"
            )


def _finite(value: Any) -> bool:
    import torch

    return bool(torch.isfinite(torch.as_tensor(value)).all())


class HeldOutTrainer(CheckedTrainer, ABC):
    """A :class:`CheckedTrainer` that evaluates its loss on held-out rows.

    ``held_out_collator`` makes batches of them, whole sequences; None is the training's own.
    """

    held_out_collator: Any = None
    control: Any

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Means over the held-out rows, as ``eval_loss``. Called in all processes, which share the rows.

        (transformers' own would repeat rows where processes get unequal numbers of them.)
        """
        self.model.eval()
        figures = held_out_means(self.eval_dataset, self.args.per_device_eval_batch_size, self.held_out_sums)
        figures = {f"eval_{name}": value for name, value in figures.items()}
        self.log(dict(figures))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, figures)
        return figures

    def held_out_sums(self, rows: Sequence[Mapping[str, Any]]) -> Sums:
        """What :meth:`sums` gives for rows, without gradients, in the evaluation mode."""
        import torch

        batch = self._prepare_inputs((self.held_out_collator or self.data_collator)(rows))
        with torch.no_grad(), self.compute_loss_context_manager():
            return self.sums(self.model_wrapped, batch)

    @abstractmethod
    def sums(self, model: Any, batch: Any) -> Sums:
        """A batch's figures, "loss" among them, each as a sum and the number of what was summed."""
