"""Settings of the sampler ``transformers``."""

from __future__ import annotations

from pydantic import Field, ValidationInfo, field_validator

from lrf_transformers.settings import WeightsSettings


class TransformersSamplerSettings(WeightsSettings):
    """The policy, run on this machine."""

    model: str = Field(
        "",
        validate_default=True,
        description="The policy: a folder, a .gguf file, a model id of the Hugging Face hub, or package:NAME, as the "
        "judge's. Left out: policy.model.",
    )
    max_batch: int = Field(16, ge=1, description="Largest number of candidates in a batch.")
    batch_tokens: int = Field(
        131072, ge=16, description="Largest number of tokens of prompts and candidates in a batch; bounds its memory."
    )
    max_concurrency: int = Field(8, ge=1, description="Most prompts in flight; more give fuller batches.")
    request_timeout_s: float = Field(
        3600, gt=0, description="Seconds after which a prompt's candidates fail, loading the model included."
    )

    @field_validator("model")
    @classmethod
    def _the_policy(cls, model: str, info: ValidationInfo) -> str:
        model = model or (info.context or {}).get("policy_model") or ""
        if not model:
            raise ValueError("there is no policy to sample from: give `policy.model`, or `model` here")
        return model
