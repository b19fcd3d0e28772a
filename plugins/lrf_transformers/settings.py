"""Settings of the judge ``transformers``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lrf.settings import FilePath, ModelReference, Settings


def default_cache_dir() -> Path:
    """``lrf`` in the user's cache folder (``XDG_CACHE_HOME``, else ``~/.cache``)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lrf"


class WeightsSettings(Settings):
    """Settings for loading a model."""

    not_fingerprinted: ClassVar[frozenset[str]] = frozenset(
        {
            *("device", "threads", "cache_dir", "max_batch", "batch_tokens", "linger_ms"),
            *("prefix_cache_tokens", "max_concurrency", "request_timeout_s"),
        }
    )

    model: str = Field(
        min_length=1,
        description="A folder, a .gguf file, a model id of the Hugging Face hub, or package:NAME for weights that an "
        "installed Python package carries. Weights are read from safetensors or GGUF only.",
    )
    revision: str | None = Field(None, description="Branch, tag or commit of a hub model.")
    trust_remote_code: bool = Field(False, description="Run Python code that comes with the model.")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto", description="Number format of the weights; auto takes the checkpoint's (bfloat16 for GGUF)."
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes a GPU where there is one.")
    threads: int | None = Field(None, ge=1, description="CPU threads of torch; null leaves torch's choice.")
    context_tokens: int | None = Field(
        None, ge=16, description="Longest prompt with its reply, in tokens; null takes the model's own limit."
    )
    cache_dir: FilePath = Field(
        default_factory=default_cache_dir,
        description="Where weights converted from GGUF are kept; by default lrf in the user's cache folder.",
    )

    @property
    def model_reference(self) -> ModelReference:
        return ModelReference(self.model)


class TransformersSettings(WeightsSettings):
    """A causal language model on this machine.

    A base model doesn't end its replies by itself, so by default they are limited in length.
    """

    not_identity: ClassVar[frozenset[str]] = frozenset({"decides"})

    decides: bool = Field(
        default=False,
        description="Questions on material (`read: document`) are answered by the probabilities of the next token, "
        "without an analysis, many in a request: the model computes the document once for all of them.",
    )
    max_batch: int = Field(32, ge=1, description="Largest number of requests in a batch.")
    batch_tokens: int = Field(
        32768, ge=16, description="Largest number of tokens in a batch, padding included; bounds its memory."
    )
    linger_ms: float = Field(20, ge=0, description="Time that a first request waits for others to share its batch, ms.")
    max_concurrency: int = Field(64, ge=1, description="Most requests in flight; more give fuller batches.")
    request_timeout_s: float = Field(
        600, gt=0, description="Seconds after which a request fails, loading the model included."
    )
    prefix_cache_tokens: int = Field(
        8192, ge=0, description="Tokens of prompt prefixes cached between batches; 0 caches none."
    )
    brief_tokens: Annotated[int, Field(ge=1)] | Literal["auto"] | None = Field(
        "auto",
        description="Largest number of tokens of an analysis, a note or a statement; a reply cut there counts as "
        "complete. null: the request's own limit; auto: 32 without a chat template, else null.",
    )
    analysis_tokens: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="Largest number of tokens of the analysis before a rating; null: brief_tokens; 0: no analysis.",
    )
    max_statements: Annotated[int, Field(ge=1)] | Literal["auto"] | None = Field(
        "auto",
        description="Statements after which the judge stops; the rest of the answer isn't judged. null: no limit; "
        "auto: 3 for a base model, else null.",
    )

    def brief(self, chat: bool) -> int | None:
        """``brief_tokens`` for a model with or without a chat template."""
        return (None if chat else 32) if self.brief_tokens == "auto" else self.brief_tokens

    def most_statements(self, chat: bool) -> int | None:
        """``max_statements`` for a model with or without a chat template."""
        return (None if chat else 3) if self.max_statements == "auto" else self.max_statements
