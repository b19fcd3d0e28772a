"""Settings of the sampler ``transformers``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from lrf.settings import FilePath, Settings
from lrf_transformers.settings import TransformersSettings, default_cache_dir


class TransformersSamplerSettings(Settings):
    """The policy in this process."""

    model: str | None = Field(
        None,
        validate_default=True,
        description="The policy: a folder, a .gguf file, a model id of the Hugging Face hub, or package:NAME, as the "
        "judge's. Left out: policy.model.",
    )
    revision: str | None = Field(None, description="Branch, tag or commit of a hub model.")
    trust_remote_code: bool = Field(False, description="Run Python code that comes with the model.")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto", description="Number format of the weights; auto takes the checkpoint's (bfloat16 for GGUF)."
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes a GPU where there is one.")
    threads: int | None = Field(None, ge=1, description="CPU threads of torch; null leaves torch's choice.")
    context_tokens: int | None = Field(
        None, ge=16, description="The longest prompt with candidate, in tokens; null takes the model's own limit."
    )
    max_batch: int = Field(16, ge=1, description="Most candidates computed together.")
    batch_tokens: int = Field(
        131072, ge=16, description="Most tokens of prompts and candidates computed together; bounds the memory."
    )
    max_concurrency: int = Field(8, ge=1, description="Prompts in flight at most; more give fuller batches.")
    request_timeout_s: float = Field(
        3600, gt=0, description="Seconds after which the candidates of a prompt are given up, loading included."
    )
    cache_dir: FilePath = Field(
        default_factory=default_cache_dir,
        description="Where weights converted from GGUF are kept; by default lrf in the user's cache folder.",
    )

    @field_validator("model")
    @classmethod
    def _the_policy(cls, model: str | None, info: ValidationInfo) -> str:
        model = model or (info.context or {}).get("policy_model")
        if model is None:
            raise ValueError("there is no policy to sample from: give `policy.model`, or `model` here")
        return model

    @property
    def weights(self) -> TransformersSettings:
        """What to load, as the judge's settings say it."""
        assert self.model is not None
        names = ("model", "revision", "trust_remote_code", "dtype", "device", "threads", "context_tokens", "cache_dir")
        return TransformersSettings(**{name: getattr(self, name) for name in names})
