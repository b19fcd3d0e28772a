"""Settings that every trainer has."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, model_validator

from lrf.settings import FilePath, Settings
from lrf_training.deepspeed import ShardingSettings


class Init(Settings):
    """A tiny random Llama, to try a pipeline without weights."""

    hidden: int = Field(64, ge=8, description="size of the hidden states; the MLP has four times as many")
    layers: int = Field(2, ge=1, description="number of layers")
    heads: int = Field(4, ge=1, description="attention heads; hidden must be a multiple of twice this")
    vocab: int = Field(
        2000, ge=300, description="largest vocabulary of the byte-level BPE tokenizer trained on the rows' own text"
    )

    @model_validator(mode="after")
    def _heads_divide_hidden(self) -> Self:
        if self.hidden % (2 * self.heads):
            raise ValueError(f"hidden ({self.hidden}) must be a multiple of twice the heads ({2 * self.heads})")
        return self


class LoRA(Settings):
    """Low-rank adapters (arXiv 2106.09685) in place of training all weights, through peft."""

    rank: int = Field(16, ge=1, description="rank of the adapters")
    alpha: int = Field(32, gt=0, description="the adapters' output is scaled by alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of the adapters' inputs dropped while training")
    target_modules: Literal["all-linear"] | list[str] = Field(
        "all-linear", description="names of the modules that get an adapter; all-linear is all but the LM head"
    )
    merge: bool = Field(
        False,
        description="save the model with the adapters added to its weights; else the checkpoint holds the adapters, "
        "and names the model they belong to",
    )
    continue_adapters: bool = Field(
        False,
        description="train the adapters of policy.model further, in place of new ones; rank, alpha, dropout and "
        "target_modules are theirs. The reference policy is the model with the adapters as they began",
    )

    @model_validator(mode="after")
    def _adapters_are_as_they_are(self) -> Self:
        own = sorted(self.model_fields_set & {"rank", "alpha", "dropout", "target_modules"})
        if self.continue_adapters and own:
            raise ValueError(f"continue_adapters: {', '.join(own)} can't change, since the adapters have theirs")
        return self


class GPU(Settings):
    """The GPUs that `lrf plan` assumes. Nothing else depends on it."""

    memory_gb: float = Field(80, gt=0, description="memory of each GPU, in GB of 10^9 bytes")
    tflops: float = Field(
        989, gt=0, description="its bfloat16 arithmetic, in 10^12 operations a second; 989 is an H100's"
    )
    use: float = Field(0.4, gt=0, le=1, description="share of that which a training gets out of it")


class Evaluation(Settings):
    """Rows that are held out and evaluated while training."""

    held_out: float = Field(0.05, gt=0, lt=1, description="share of the prompts, with all their rows; one at least")
    every: int = Field(50, ge=1, description="steps between evaluations")
    patience: int | None = Field(
        None,
        ge=1,
        description="stop when this many evaluations in a row haven't lowered the loss; null: never",
    )
    keep_best: int = Field(
        0,
        ge=0,
        description="number of checkpoints of the lowest held-out loss to keep in `best`; the best of them becomes the "
        "training's checkpoint. 0: the last one is",
    )


class TrainingSource(Settings):
    """A file of further rows to train on."""

    path: FilePath = Field(description="a JSONL file of rows like the run's own")
    weight: float = Field(
        1.0,
        gt=0,
        description="how many times each of its rows is taken: 0.5 is half of them, 2.5 is each twice and half",
    )


class TrainingSettings(ShardingSettings):
    """Optimizer, batches, lengths, precision and checkpoints: settings of all trainers."""

    not_fingerprinted: ClassVar[frozenset[str]] = ShardingSettings.not_fingerprinted | {
        "gradient_checkpointing",
        "mlp_tiles",
        "save_every",
        "report_to",
        "gpu",
    }

    learning_rate: float = Field(1e-6, gt=0, description="highest learning rate of AdamW")
    scheduler: Literal["constant", "linear", "cosine"] = Field("linear", description="learning rate after the warm-up")
    warmup: float = Field(0.0, ge=0, lt=1, description="share of the steps over which the learning rate rises from 0")
    weight_decay: float = Field(0.0, ge=0, description="weight decay of AdamW")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are scaled down to this norm")

    epochs: float = Field(1.0, gt=0, description="passes over the rows, if max_steps is null")
    max_steps: int | None = Field(None, ge=1, description="number of optimizer steps, in place of epochs")
    global_batch: int = Field(16, ge=1, description="rows an optimizer step, over all processes")
    micro_batch: int = Field(1, ge=1, description="rows in a process's memory at once; must divide global_batch")

    max_tokens: int | None = Field(
        None,
        ge=2,
        description="longest prompt with answer, in tokens; null leaves only the model's own window. Nothing is ever "
        "cut: a longer row is treated as on_too_long says",
    )
    window: int | None = Field(
        None,
        ge=2,
        description="the model's longest sequence, in tokens, in place of what its config says (which is its window as "
        "RoPE extends it); a larger one is taken with a warning",
    )
    on_too_long: Literal["stop", "drop"] = Field(
        "stop", description="what happens at a row that is too long: stop, or drop it"
    )
    max_lost: float = Field(0.0, ge=0, le=1, description="largest share of the rows that may be left out")

    chat_template: FilePath | None = Field(
        None,
        description="a file with a Jinja chat template, in place of the tokenizer's own; without either a plain one is "
        "used, and the report says so",
    )
    init: Init | None = Field(None, description="a tiny random policy in place of policy.model, for a trial")

    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="arithmetic of the passes: auto is bfloat16 on a GPU, else float32. Weights that are trained and "
        "optimizer state stay float32, since steps of 1e-6 vanish in bfloat16",
    )
    gradient_checkpointing: bool = Field(
        True, description="compute activations again in the backward pass rather than keep them"
    )
    mlp_tiles: int = Field(
        1,
        ge=1,
        description="parts in which a layer's MLP goes through a sequence, one after the other: more take less memory "
        "and a little longer. 16 is enough for 128k tokens",
    )
    optimizer: Literal["auto", "adamw", "adamw_fused"] = Field(
        "auto",
        description="AdamW, one kernel for each operation or one for all (fused); auto is fused on a GPU, where no "
        "DeepSpeed is used",
    )
    on_nan: Literal["stop", "skip"] = Field(
        "stop",
        description="what happens at a step whose loss or gradient isn't finite: stop the training, or skip the "
        "step and count it (not with DeepSpeed)",
    )
    save_every: int | None = Field(
        None,
        ge=1,
        description="steps between checkpoints, from which a stopped training resumes to the same weights; null saves "
        "at the end only. Each replaces the previous one",
    )

    report_to: list[Literal["tensorboard", "wandb", "trackio", "mlflow", "comet_ml", "swanlab"]] = Field(
        [],
        description="trackers that get each step's figures, through transformers (extra: trackers, or the package of "
        "one); each takes its key, project and address from the environment",
    )
    gpu: GPU = Field(GPU(), description="the GPUs that `lrf plan` assumes")

    @model_validator(mode="after")
    def _micro_batches_fill_the_batch(self) -> Self:
        if self.global_batch % self.micro_batch:
            raise ValueError(
                f"global_batch ({self.global_batch}) must be a multiple of micro_batch ({self.micro_batch})"
            )
        return self

    @model_validator(mode="after")
    def _there_is_a_policy(self, info: ValidationInfo) -> Self:
        known = info.context or {}
        if "policy_model" in known and known["policy_model"] is None and self.init is None:
            raise ValueError("there is no policy to train: give `policy.model`, or `init` for a tiny random one")
        return self


class BasePolicySettings(TrainingSettings):
    """Further settings of trainers of a policy, whatever it learns from."""

    not_fingerprinted: ClassVar[frozenset[str]] = TrainingSettings.not_fingerprinted | {
        "activation_offload",
        "preflight",
    }

    lora: LoRA | None = Field(None, description="train low-rank adapters in place of all weights (extra: lora)")
    activation_offload: bool = Field(
        False, description="keep activations in the CPU's memory between the passes (on a GPU; slower, and less memory)"
    )
    preflight: bool = Field(
        True,
        description="before the first step, one forward and backward pass on the longest row, to learn whether it fits",
    )

    @model_validator(mode="after")
    def _random_weights_have_no_adapters(self) -> Self:
        if self.init and self.lora and self.lora.continue_adapters:
            raise ValueError("lora.continue_adapters needs a policy.model that is a folder of adapters; leave init out")
        return self

    @property
    def extras(self) -> tuple[str, ...]:
        return (*super().extras, *(("lora",) if self.lora else ()))


class PolicySettings(BasePolicySettings):
    """Further settings of trainers of a policy that learns from rows in files."""

    sources: list[TrainingSource] = Field([], description="further files of rows, mixed with the run's own by the seed")
    own_weight: float = Field(
        1.0, ge=0, description="how many times each of the run's own rows is taken, where there are sources"
    )
    evaluation: Evaluation | None = Field(
        None, description="hold rows out and evaluate on them while training; null: none"
    )
