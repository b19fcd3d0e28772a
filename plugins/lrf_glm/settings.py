"""Settings of the judge and the embedder ``glm``."""

from __future__ import annotations

import re
from typing import ClassVar, Literal

from pydantic import Field

from lrf.http.settings import BaseUrl, ContextWindow, EndpointSettings, EnvName
from lrf.types import JSON

_BIGMODEL = "https://open.bigmodel.cn/api/paas/v4"
_ADDRESS = "https://open.bigmodel.cn/api/paas/v4 (Zhipu AI) or https://api.z.ai/api/paas/v4 (Z.ai); keys differ."
_KEY = "Environment variable that holds the key."

THINKING_TOKENS = 4096


class GLMJudgeSettings(EndpointSettings):
    """A GLM model as judge."""

    not_identity: ClassVar[frozenset[str]] = frozenset({"context_window", "structured"})

    base_url: BaseUrl = Field(default=_BIGMODEL, description=_ADDRESS)
    api_key_env: EnvName = Field(default="ZHIPUAI_API_KEY", description=_KEY)
    max_concurrency: int = Field(default=16, ge=1, description="Most requests in flight; accounts have low limits.")
    thinking: Literal["enabled", "disabled"] | None = Field(
        default=None,
        description="Whether the model thinks before it answers (GLM-4.5 to 5.2); unset: the model decides.",
    )
    reasoning_effort: Literal["low", "high", "max"] | None = Field(
        default=None, description="How long a model thinks whose thinking can't be turned off (GLM-5.3)."
    )
    reasoning_tokens: int | None = Field(
        default=None,
        ge=0,
        description=f"Added to every request's limit for the thoughts; unset: {THINKING_TOKENS} for a model that "
        "thinks (GLM-4.5 and later, unless thinking is disabled; GLM-5.3 always does), else 0.",
    )
    structured: bool = Field(
        default=False,
        description="Ask for a JSON object, with the schema written into the prompt: the JSON is valid, but its schema "
        "is not enforced.",
    )
    context_window: ContextWindow = None
    extra_body: dict[str, JSON] = Field(default_factory=dict, description="More fields of every request.")

    @property
    def tokens_for_thoughts(self) -> int:
        """The value of ``reasoning_tokens``, or its default for the model."""
        if self.reasoning_tokens is not None:
            return self.reasoning_tokens
        return THINKING_TOKENS if self.reasoning_effort or _thinks(self.model, self.thinking) else 0


def _thinks(model: str, thinking: str | None) -> bool:
    """Whether a model thinks: 4.5 to 5.2 unless disabled, later ones always, earlier ones if enabled."""
    match = re.match(r"glm-(\d+)(?:\.(\d+))?", model.lower())
    version = (int(match[1]), int(match[2] or 0)) if match else (0, 0)
    return version >= (5, 3) or (thinking != "disabled" if version >= (4, 5) else thinking == "enabled")


class GLMEmbedderSettings(EndpointSettings):
    """An embedding model of Zhipu AI or Z.ai."""

    not_fingerprinted: ClassVar[frozenset[str]] = frozenset({"batch_size"})

    base_url: BaseUrl = Field(default=_BIGMODEL, description=_ADDRESS)
    model: str = Field(default="embedding-3", min_length=1, description="embedding-3 or embedding-2.")
    api_key_env: EnvName = Field(default="ZHIPUAI_API_KEY", description=_KEY)
    max_concurrency: int = Field(default=4, ge=1, description="Most requests in flight.")
    batch_size: int = Field(default=64, ge=1, le=64, description="Most texts in a request.")
    dimensions: int | None = Field(
        default=None, ge=256, le=2048, description="Length of the vectors (embedding-3; embedding-2 has 1,024)."
    )
    max_input_tokens: int | None = Field(
        default=None,
        ge=4,
        description="Tokens (o200k_base) to which longer texts are cut before they are sent; unset: a little below the "
        "model's limit (3,072 for embedding-3, 512 for embedding-2).",
    )

    @property
    def input_limit(self) -> int:
        """The value of ``max_input_tokens``, or its default for the model."""
        return self.max_input_tokens or (460 if self.model == "embedding-2" else 2760)
