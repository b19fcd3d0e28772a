"""What every trainer adds to a transformers ``Trainer``."""

from __future__ import annotations

from typing import Any

from lrf.errors import StageError


class Guarded:
    """A mixin before a ``Trainer``: a gradient that is no number stops the training before the weights change."""

    state: Any

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)  # type: ignore[misc]  # the Trainer's
        self.stop_unless_finite("gradient", norm)
        return norm

    def stop_unless_finite(self, what: str, value: Any) -> None:
        """Raise :class:`lrf.errors.StageError` where ``value``, a tensor or a number, isn't finite throughout."""
        import torch

        if not torch.isfinite(torch.as_tensor(value)).all():
            raise StageError(
                f"the {what} became {float(value)} in step {self.state.global_step + 1}; the weights of that step are "
                "not kept. Lower learning_rate, or use dtype: float32"
            )
