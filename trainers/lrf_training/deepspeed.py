"""DeepSpeed: ZeRO (arXiv 1910.02054), offload to the CPU's memory, and Ulysses sequence parallelism (arXiv 2309.14509).

Settings and DeepSpeed's configuration need no torch: ``lrf run --dry-run`` renders them anywhere.
"""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from lrf.errors import ConfigError, StageError
from lrf.settings import Shares, TrainerSettings
from lrf.types import JSON
from lrf_training import processes


class ShardingSettings(TrainerSettings):
    """How several processes share a training. Nothing here changes the result beyond rounding."""

    not_fingerprinted: ClassVar[frozenset[str]] = frozenset({"zero", "offload", "sequence_parallel"})

    zero: Literal[0, 2, 3] = Field(
        0,
        description="DeepSpeed's ZeRO stage (extra: deepspeed): 0 is without DeepSpeed, every process holding "
        "everything; 2 shards gradients and optimizer state over the processes, 3 the weights, too",
    )
    offload: Literal["none", "optimizer", "all"] = Field(
        "none",
        description="what ZeRO keeps in the CPU's memory: nothing, the optimizer's state, or with zero: 3 the weights, "
        "too. Slower, and less GPU memory",
    )
    sequence_parallel: int = Field(
        1,
        ge=1,
        description="processes that share each sequence (DeepSpeed Ulysses); needs zero: 3, and must divide the number "
        "of processes and the model's attention heads",
    )

    @property
    def extras(self) -> tuple[str, ...]:
        return ("deepspeed",) if self.zero else ()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.sequence_parallel > 1 and self.zero != 3:
            raise ValueError("sequence_parallel needs zero: 3 (with zero: 2, DeepSpeed multiplies the gradients)")
        if self.offload != "none" and not self.zero:
            raise ValueError("offload needs zero: 2 or 3")
        if self.offload == "all" and self.zero != 3:
            raise ValueError("offload: all needs zero: 3; with zero: 2, `optimizer` can be offloaded")
        return self

    def shares(self, world: int) -> Shares:
        """How ``world`` processes share the training.

        Raises :class:`lrf.errors.ConfigError` with the nearest settings that work.
        """
        sp, batch, micro = self.sequence_parallel, getattr(self, "global_batch", 1), getattr(self, "micro_batch", 1)
        if world % sp:
            raise ConfigError(f"sequence_parallel ({sp}) must divide the number of processes ({world})")
        if batch * sp % (world * micro):
            raise ConfigError(
                f"global_batch × sequence_parallel / (processes × micro_batch) = {batch} × {sp} / ({world} × {micro}) "
                f"is not a whole number of micro-batches; {_what_fits(batch, sp, world, micro)}"
            )
        accumulation = batch * sp // (world * micro)
        deepspeed = self._config(accumulation, micro) if self.zero else None
        return Shares(accumulation, sp, deepspeed, batch, micro)

    @property
    def sequences_a_row(self) -> int:
        """Full-length sequences in memory for each row of a micro-batch."""
        return 1

    @property
    def answers_a_row(self) -> int:
        """Answers of a row of a micro-batch, which share its prompt."""
        return 1

    @property
    def has_lm_head(self) -> bool:
        """Whether log-probabilities of tokens are computed."""
        return True

    def memory(self, model: str | None, world: int) -> Mapping[str, JSON]:
        from lrf_training.forecast import forecast

        return forecast(self, model, world) if model else {}  # a tiny random model (``init``) needs no estimate

    def _config(self, accumulation: int, micro: int) -> dict[str, JSON]:
        """DeepSpeed's configuration. The trainer's process, which knows the device, fills in "auto"."""
        zero: dict[str, JSON] = {"stage": self.zero, "overlap_comm": True, "contiguous_gradients": True}
        if self.zero == 3:
            zero |= {"stage3_gather_16bit_weights_on_model_save": True}
        if self.offload != "none":
            zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
        if self.offload == "all":
            zero["offload_param"] = {"device": "cpu", "pin_memory": True}
        config: dict[str, JSON] = {
            "train_micro_batch_size_per_gpu": micro,
            "gradient_accumulation_steps": accumulation,
            "gradient_clipping": getattr(self, "max_grad_norm", 1.0),
            "bf16": {"enabled": "auto"},
            "zero_optimization": zero,
        }
        if self.offload != "none":  # DeepSpeed's CPU AdamW: torch's is far slower there
            parameters = {"lr": "auto", "betas": "auto", "eps": "auto", "weight_decay": "auto"}
            config["optimizer"] = {"type": "AdamW", "params": parameters}
        return config


def _what_fits(batch: int, sp: int, world: int, micro: int) -> str:
    """Changes of one setting that make the batch divisible."""
    step = world * micro // math.gcd(sp, world * micro)
    lower, upper = batch // step * step, (batch // step + 1) * step
    fits = [f"global_batch: {' or '.join(str(n) for n in (lower, upper) if n)}"]
    fits += [f"micro_batch: {m}" for m in range(micro - 1, 0, -1) if batch * sp % (world * m) == 0][:1]
    fits += [f"{w} processes" for w in range(world - 1, 0, -1) if w % sp == 0 and batch * sp % (w * micro) == 0][:1]
    fits += [
        f"sequence_parallel: {s} (zero: 3)"
        for s in range(sp + 1, world + 1)
        if world % s == 0 and batch * s % (world * micro) == 0
    ][:1]
    return f"what would fit: {', or '.join(fits)}"


def arguments(settings: ShardingSettings) -> dict[str, Any]:
    """Keyword arguments of ``TrainingArguments``: DeepSpeed's configuration, sequence parallelism, accumulation.

    Raises :class:`lrf.errors.StageError` without DeepSpeed.
    """
    try:
        shares = settings.shares(processes.world())
    except ConfigError as error:
        raise StageError(f"train: {error}") from None
    arguments: dict[str, Any] = {"gradient_accumulation_steps": shares.accumulation}
    if shares.deepspeed is None:
        return arguments
    _one_process_is_a_group()
    try:
        import deepspeed
    except ImportError as error:
        raise StageError(
            f"train.zero: {settings.zero} needs DeepSpeed: {error}; pip install 'lrf[deepspeed]'"
        ) from None
    import torch

    if not torch.cuda.is_available():
        # Its shared-memory collectives would be compiled first, a minute or more.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        deepspeed.init_distributed(dist_backend="gloo", auto_mpi_discovery=False)
    arguments["deepspeed"] = dict(shares.deepspeed)
    if shares.sequence_parallel > 1:
        from accelerate.utils import DeepSpeedSequenceParallelConfig, ParallelismConfig

        arguments["parallelism_config"] = ParallelismConfig(
            sp_backend="deepspeed",
            sp_size=shares.sequence_parallel,
            dp_shard_size=processes.world() // shares.sequence_parallel,
            sp_handler=DeepSpeedSequenceParallelConfig(
                # as models are loaded; on a GPU, torch picks flash kernels for it
                sp_seq_length_is_variable=True,
                sp_attn_implementation="sdpa",
            ),
        )
    return arguments


def _one_process_is_a_group() -> None:
    """Define a process group of one: DeepSpeed needs a group, and looks for MPI if no launcher has defined one."""
    if "RANK" in os.environ:
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ.update(
        RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), LOCAL_WORLD_SIZE="1"
    )
