"""Settings of the judge ``verifier``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from lrf.settings import ModelReference, Settings

NLI = {"entailment": "Fully supported", "neutral": "No support", "contradiction": "No support"}


class VerifierSettings(Settings):
    """A sequence classifier trained on pairs of evidence and statement."""

    not_fingerprinted: ClassVar[frozenset[str]] = frozenset(
        {"device", "max_batch", "max_concurrency", "request_timeout_s"}
    )

    model: str = Field(
        min_length=1,
        description="A folder, or a model id of the Hugging Face hub. Weights are read from safetensors only.",
    )
    revision: str | None = Field(None, description="Branch, tag or commit of a hub model.")
    trust_remote_code: bool = Field(False, description="Run Python code that comes with the model.")
    labels: Mapping[str, str] = Field(
        NLI,
        min_length=2,
        description="Which verdict each of the model's labels (`id2label` in its config.json, whatever their case) "
        "stands for; every label needs one.",
    )
    evidence_field: str = Field("context", description="The prompt's field that holds the evidence.")
    statement_field: str = Field("statement", description="The prompt's field that holds the statement.")
    window_tokens: int | None = Field(
        None,
        ge=16,
        description="Tokens of evidence and statement that the model reads together; longer evidence is read in "
        "several windows, and the one with most support counts. null takes the model's own limit.",
    )
    overlap_tokens: int = Field(64, ge=0, description="Tokens that a window repeats of the one before.")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto", description="Number format of the weights; auto takes the checkpoint's."
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes a GPU where there is one.")
    max_batch: int = Field(16, ge=1, description="Windows computed in one batch at most.")
    max_concurrency: int = Field(64, ge=1, description="Most requests in flight; more give fuller batches.")
    request_timeout_s: float = Field(
        600, gt=0, description="Seconds after which a request is given up, loading the model included."
    )

    @property
    def model_reference(self) -> ModelReference:
        return ModelReference(self.model)
