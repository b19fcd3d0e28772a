"""Activations that wait in the CPU's memory, for trainers whose TRL class doesn't do it itself."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import Trainer as _Base
else:
    _Base = object


class OffloadingTrainer(_Base):  # type: ignore[misc]  # transformers is not followed by mypy
    """A mixin for a ``Trainer`` with the settings of a policy: heeds ``activation_offload``, on a GPU only."""

    settings: Any

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        with self.offload:
            return super().training_step(*args, **kwargs)

    @cached_property
    def offload(self) -> Any:
        """The context of a step; made once, since it leaves hooks in the model."""
        from trl.models import get_act_offloading_ctx_manager

        offloads = getattr(self.settings, "activation_offload", False) and not self.args.use_cpu
        return get_act_offloading_ctx_manager(model=self.model) if offloads else nullcontext()
