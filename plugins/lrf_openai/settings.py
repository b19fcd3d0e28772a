"""Settings of the judge, the sampler and the embedder ``openai``."""

from __future__ import annotations

from typing import ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from lrf.http.settings import KEY_VARIABLE, BaseUrl, ContextWindow, EndpointSettings, EnvName
from lrf.settings import ModelReference, Settings
from lrf.types import JSON

_OPENAI = "https://api.openai.com/v1"


class BatchSettings(Settings):
    """The provider's batch API: replies within a day, at about half the price. Needs the extra ``openai``."""

    max_requests: int = Field(
        default=10_000, ge=1, le=50_000, description="Most requests in a batch (OpenAI takes 50,000)."
    )
    max_bytes: int = Field(
        default=200_000_000,
        ge=1_000,
        le=200_000_000,
        description="Largest file of a batch, in bytes (OpenAI takes 200 MB, Zhipu AI 100 MB).",
    )
    max_waiting: int = Field(
        default=20_000,
        ge=1,
        description="Most requests that wait for a reply, in all batches; replaces max_concurrency. More of them make "
        "fuller batches and take more memory.",
    )
    quiet_s: float = Field(
        default=5, gt=0, description="Seconds without a new request after which a batch that isn't full is submitted."
    )
    poll_s: float = Field(default=60, gt=0, description="Seconds between two looks at a batch.")
    endpoint: str = Field(
        default="/v1/chat/completions",
        pattern="^/",
        description="Path of chat completions in a batch's lines (Zhipu AI: /v4/chat/completions).",
    )


class _ChatSettings(EndpointSettings):
    """Settings of the judge and the sampler for chat completions."""

    not_fingerprinted: ClassVar[frozenset[str]] = frozenset({"max_tokens_field"})
    not_identity: ClassVar[frozenset[str]] = frozenset({"context_window", "seed"})

    base_url: BaseUrl = Field(default=_OPENAI, description="Address of the API, up to and without /chat/completions.")
    api_key_env: EnvName | None = Field(default="OPENAI_API_KEY", description=KEY_VARIABLE)
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = Field(
        default="max_tokens",
        description="The server's name for a reply's limit (OpenAI's reasoning models take the second).",
    )
    reasoning_tokens: int = Field(
        default=0, ge=0, description="Added to every reply's limit, for models that think before they answer."
    )
    context_window: ContextWindow = None
    extra_body: dict[str, JSON] = Field(default_factory=dict, description="More fields of every request.")


class OpenAIJudgeSettings(_ChatSettings):
    """A judge behind OpenAI's API or a server compatible with it."""

    not_fingerprinted: ClassVar[frozenset[str]] = frozenset({"batch"})
    not_identity: ClassVar[frozenset[str]] = frozenset({"structured", "logprobs"})

    temperature: float | Literal["omit"] | None = Field(
        default=None,
        description='Sent instead of lrf\'s own temperatures; "omit" sends none (models that only take their own).',
    )
    structured: bool = Field(default=False, description="Whether the server makes replies follow a JSON schema.")
    logprobs: bool = Field(
        default=False,
        description="Whether the server gives log probabilities of likely tokens (reasoning models don't): ratings and "
        "verdicts are then expectations over the labels' probabilities where the label is written.",
    )
    seed: bool = Field(default=False, description="Whether the server takes a seed.")
    batch: BatchSettings | None = Field(
        default=None, description="Use the provider's batch API; {} for its defaults. null: send each request at once."
    )

    @property
    def model_reference(self) -> ModelReference:
        return ModelReference(self.model, urlsplit(self.base_url).hostname, self.batch is not None)


class OpenAISamplerSettings(_ChatSettings):
    """A policy behind OpenAI's API or a server compatible with it."""

    choices: int = Field(
        default=1,
        ge=1,
        le=128,
        description="Candidates of one request (its `n`), so that a long prompt is read and paid once; 1 for servers "
        "that don't take `n`.",
    )
    seed: bool = Field(
        default=False, description="Whether the server takes a seed; each candidate then has its own. Needs choices: 1."
    )

    @model_validator(mode="after")
    def _a_seed_each(self) -> Self:
        if self.seed and self.choices > 1:
            raise ValueError("a request has one seed, so `seed: true` needs `choices: 1`")
        return self


class OpenAIEmbedderSettings(EndpointSettings):
    """An embedder behind OpenAI's API or a server compatible with it."""

    not_fingerprinted: ClassVar[frozenset[str]] = frozenset({"batch_size", "encoding_format"})

    base_url: BaseUrl = Field(default=_OPENAI, description="Address of the API, up to and without /embeddings.")
    api_key_env: EnvName | None = Field(default="OPENAI_API_KEY", description=KEY_VARIABLE)
    max_concurrency: int = Field(default=4, ge=1, description="Most requests in flight.")
    batch_size: int = Field(default=64, ge=1, description="Most texts in a request.")
    dimensions: int | None = Field(default=None, ge=1, description="Length of the vectors, for models with a choice.")
    max_input_tokens: int | None = Field(
        default=None, ge=4, description="Tokens (o200k_base) to which longer texts are cut before they are sent."
    )
    encoding_format: Literal["float", "base64"] = Field(
        default="float", description="How vectors are sent; base64 is smaller and faster, if the server knows it."
    )
