"""Settings of the judge."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from lrf.http.settings import BaseUrl, ContextWindow, EndpointSettings, EnvName
from lrf.types import JSON

Temperature = Annotated[float, Field(ge=0, le=1)]


def _without_version(url: str) -> str:
    return url.removesuffix("/v1")


class AnthropicJudgeSettings(EndpointSettings):
    """Settings of the judge ``anthropic``."""

    not_fingerprinted: ClassVar[frozenset[str]] = frozenset({"prompt_cache"})
    not_identity: ClassVar[frozenset[str]] = frozenset({"context_window"})

    base_url: Annotated[BaseUrl, AfterValidator(_without_version)] = Field(
        default="https://api.anthropic.com",
        description="Address of the API, up to and without /v1/messages; a /v1 at its end is dropped.",
    )
    api_key_env: EnvName = Field(
        default="ANTHROPIC_API_KEY", description="Environment variable that holds the key. Unset: no key is sent."
    )
    max_concurrency: int = Field(default=16, ge=1, description="Most requests in flight; accounts have limits.")
    temperature: Temperature | Literal["omit"] | None = Field(
        default=None,
        description='Sent instead of lrf\'s own temperatures; "omit" sends none (models that only take their own).',
    )
    reasoning_tokens: int = Field(
        default=0,
        ge=0,
        description="Added to every request's limit, for models that think before they answer; `extra_body` turns "
        "thinking on.",
    )
    prompt_cache: bool = Field(
        default=True,
        description="Whether prefixes of prompts that come again (instructions, documents) use Anthropic's cache: "
        "written at 1.25 times the price, read at a tenth.",
    )
    context_window: ContextWindow = None
    extra_body: dict[str, JSON] = Field(default_factory=dict, description="More fields of every request.")
