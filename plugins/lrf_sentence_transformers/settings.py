"""Settings of the embedder ``sentence-transformers``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from lrf.settings import ModelReference, Settings


class SentenceTransformersSettings(Settings):
    """A sentence-transformers model in this process, on the CPU or a GPU.

    Some models need a prompt before each text (E5: ``"query: "`` and ``"passage: "``).
    """

    not_fingerprinted: ClassVar[frozenset[str]] = frozenset({"device", "threads", "batch_size"})

    model: str = Field(min_length=1, description="A folder, or a model id of the Hugging Face hub.")
    revision: str | None = Field(None, description="Branch, tag or commit of a hub model.")
    trust_remote_code: bool = Field(False, description="Run Python code that comes with the model.")
    query_prompt: str | None = Field(None, description="Put before queries; null takes what the model itself names.")
    document_prompt: str | None = Field(None, description="Put before chunks; null takes what the model itself names.")
    normalise: bool = Field(True, description="Make every vector of length 1.")
    dimensions: int | None = Field(
        None, ge=1, description="Leading numbers of a vector that are kept, for models trained so; null keeps all."
    )
    max_tokens: int | None = Field(
        None, ge=8, description="Tokens of the model after which a text is cut off; null takes the model's own limit."
    )
    device: str | None = Field(None, description="Such as cpu, cuda or cuda:1; null takes a GPU where there is one.")
    threads: int | None = Field(None, ge=1, description="CPU threads of torch; null leaves torch's choice.")
    batch_size: int = Field(64, ge=1, description="Texts embedded in one call.")

    @property
    def model_reference(self) -> ModelReference:
        return ModelReference(self.model)
