"""Settings of the judge ``vllm``."""

from __future__ import annotations

from pydantic import Field

from lrf.endpoint import BaseUrl, EndpointSettings, EnvName
from lrf.types import JSON


class VLLMSettings(EndpointSettings):
    """A chat model behind a vLLM server. A base model needs the server's ``--chat-template``."""

    base_url: BaseUrl = Field(default="http://localhost:8000/v1", description="Address of the server's API.")
    api_key_env: EnvName = Field(
        default="VLLM_API_KEY", description="Environment variable that holds the server's key. Unset: no key is sent."
    )
    max_concurrency: int = Field(
        default=256, ge=1, description="Requests in flight at most; about the server's --max-num-seqs."
    )
    expected: bool = Field(
        default=True,
        description="Read ratings and verdicts as expectations over the probabilities of the labels: an analysis "
        "first, then one token or a few; finer than the label the model happens to write.",
    )
    analysis: bool = Field(
        default=True, description="With expected: whether an analysis is written before the labels are weighed."
    )
    extra_body: dict[str, JSON] = Field(
        default_factory=dict,
        description="More fields of every request, such as chat_template_kwargs: {enable_thinking: false}.",
    )
