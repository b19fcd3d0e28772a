"""Settings of the judges and the sampler on vLLM: behind a server, and in this process."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from lrf.http.settings import KEY_VARIABLE, BaseUrl, EndpointSettings, EnvName
from lrf.settings import FilePath, ModelReference, Settings
from lrf.types import JSON

_EXPECTED = (
    "Read ratings and verdicts as expectations over the labels' probabilities: an analysis first, then one or two "
    "tokens. Finer than the one label that the model writes."
)
_DECIDES = (
    "Questions on material (`read: document`) are answered by the probabilities of the next token, without an "
    "analysis; vLLM's prefix cache has the document that they are asked on."
)
_ANALYSIS = "With expected: whether the model writes an analysis before the labels are weighed."


class VLLMSettings(EndpointSettings):
    """A chat model behind a vLLM server. A base model needs the server's ``--chat-template``."""

    not_identity: ClassVar[frozenset[str]] = frozenset({"context_window", "expected", "decides"})

    base_url: BaseUrl = Field(default="http://localhost:8000/v1", description="Address of the server's API.")
    api_key_env: EnvName | None = Field(default="VLLM_API_KEY", description=KEY_VARIABLE)
    max_concurrency: int = Field(
        default=256, ge=1, description="Most requests in flight; about the server's --max-num-seqs."
    )
    context_window: int | None = Field(
        default=None,
        ge=1,
        description="Tokens that prompt and reply may have together. A longer request is refused before it is sent "
        "(context_too_small). null: the server's own limit.",
    )
    expected: bool = Field(default=True, description=_EXPECTED)
    analysis: bool = Field(default=True, description=_ANALYSIS)
    decides: bool = Field(default=False, description=_DECIDES)
    extra_body: dict[str, JSON] = Field(
        default_factory=dict,
        description="More fields of every request, such as chat_template_kwargs: {enable_thinking: false}.",
    )


class EngineSettings(Settings):
    """How vLLM runs a model on this machine."""

    not_fingerprinted: ClassVar[frozenset[str]] = frozenset(
        {
            *("gpu_memory_utilization", "tensor_parallel_size", "max_num_seqs", "max_concurrency"),
            *("enforce_eager", "request_timeout_s"),
        }
    )
    not_identity: ClassVar[frozenset[str]] = frozenset({"max_model_len", "expected", "decides"})

    model: str = Field(min_length=1, description="A folder, or a model id of the Hugging Face hub.")
    revision: str | None = Field(None, description="Branch, tag or commit of a hub model.")
    trust_remote_code: bool = Field(False, description="Run Python code that comes with the model.")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto", description="Number format of the weights; auto takes the checkpoint's."
    )
    max_model_len: int | None = Field(
        None, ge=16, description="The longest prompt with reply, in tokens; null takes the model's own limit."
    )
    gpu_memory_utilization: float = Field(
        0.9, gt=0, le=1, description="Share of the GPU's memory for weights and key/value cache."
    )
    tensor_parallel_size: int = Field(1, ge=1, description="GPUs that share the model.")
    max_num_seqs: int = Field(256, ge=1, description="Most requests computed together, and in flight.")
    enforce_eager: bool = Field(False, description="Start faster, without compiling; every token then takes longer.")
    chat_template: FilePath | None = Field(
        None,
        description="A Jinja file in place of the tokenizer's chat template. Without either, prompts are continued.",
    )
    chat_template_kwargs: dict[str, JSON] = Field(
        default_factory=dict, description="Variables of the chat template, such as {enable_thinking: false}."
    )
    sampling: dict[str, JSON] = Field(
        default_factory=dict, description="More of vLLM's sampling parameters, such as top_k or repetition_penalty."
    )
    engine_args: dict[str, JSON] = Field(
        default_factory=dict, description="More of vLLM's engine arguments, such as quantization or kv_cache_dtype."
    )
    request_timeout_s: float = Field(
        1800, gt=0, description="Seconds after which a request is given up, starting the engine included."
    )

    @property
    def model_reference(self) -> ModelReference:
        return ModelReference(self.model)

    @model_validator(mode="after")
    def _each_argument_once(self) -> Self:
        if twice := sorted({*type(self).model_fields} & {*self.engine_args}):
            raise ValueError(f"engine_args has {', '.join(twice)}, which is a setting beside engine_args")
        return self


class VLLMEngineSettings(EngineSettings):
    """A model that vLLM runs on this machine without a server. Its processes end with the stage that uses it."""

    expected: bool = Field(default=True, description=_EXPECTED)
    analysis: bool = Field(default=True, description=_ANALYSIS)
    decides: bool = Field(default=False, description=_DECIDES)


class VLLMSamplerSettings(EngineSettings):
    """The policy, run by vLLM on this machine without a server."""

    model: str = Field(
        "",
        validate_default=True,
        description="The policy: a folder, or a model id of the Hugging Face hub. Left out: policy.model.",
    )
    max_concurrency: int = Field(64, ge=1, description="Most prompts in flight, each with all of its candidates.")

    @field_validator("model")
    @classmethod
    def _the_policy(cls, model: str, info: ValidationInfo) -> str:
        model = model or (info.context or {}).get("policy_model") or ""
        if not model:
            raise ValueError("no policy to sample from: set `policy.model`, or `model` here")
        return model
