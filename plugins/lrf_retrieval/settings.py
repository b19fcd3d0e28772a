"""Settings of the retrievers ``memory`` and ``qdrant``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import ConfigDict, Field, model_validator

from lrf.http.settings import BaseUrl, EnvName
from lrf.settings import FilePath, Settings
from lrf.text.tokenizers import DEFAULT, Bundled
from lrf.types import JSON


class MemorySettings(Settings):
    """How documents are cut into chunks, and how chunks are found."""

    by_method: ClassVar[Mapping[str, Mapping[str, JSON]]] = {"paper": {"chunk_ends": "token"}}

    mode: Literal["dense", "lexical", "hybrid"] = Field(
        default="dense",
        description="dense: by embeddings. lexical: by words (BM25), without an embedder. hybrid: by both rankings.",
    )
    chunk_tokens: int = Field(default=128, ge=16, description="Tokens of a chunk at most.")
    chunk_overlap: int = Field(
        default=0, ge=0, description="Tokens that each chunk repeats of the one before, at most half of chunk_tokens."
    )
    chunk_ends: Literal["sentence", "token"] = Field(
        default="sentence",
        description="sentence: a chunk ends where a sentence does if it can. token: after chunk_tokens exactly.",
    )
    tokenizer: Bundled | FilePath = Field(
        default=DEFAULT,
        description="The tokenizer that counts tokens: a bundled one, or the path of the judge's or policy's own "
        "tokenizer.json (or of its folder).",
    )
    top_k: int = Field(default=5, ge=1, description="Chunks for a query.")

    @property
    def without(self) -> frozenset[str]:
        return frozenset({"embedder"} if self.mode == "lexical" else ())

    @model_validator(mode="after")
    def _possible_overlap(self) -> MemorySettings:
        if self.chunk_overlap > self.chunk_tokens // 2:
            raise ValueError(f"chunk_overlap must be at most half of chunk_tokens, {self.chunk_tokens // 2}")
        if self.chunk_overlap and self.chunk_ends == "token":
            raise ValueError("chunks with chunk_ends: token don't overlap; leave chunk_overlap out")
        return self


class QdrantSettings(MemorySettings):
    """Where Qdrant is, and how chunks are cut and found.

    Without ``path`` and ``url`` there is no Qdrant: chunks are kept and searched as by the retriever ``memory``.
    """

    not_fingerprinted: ClassVar[frozenset[str]] = frozenset(
        {"location", "path", "url", "api_key_env", "timeout_s", "collection"}
    )

    model_config = ConfigDict(hide_input_in_errors=True)

    location: Literal[":memory:"] | None = Field(
        default=None,
        description='The default, ":memory:", keeps chunks in this process without Qdrant, as the type memory does.',
    )
    path: FilePath | None = Field(
        default=None, description="Folder of a Qdrant within this process; one process can use it at a time."
    )
    url: BaseUrl | None = Field(default=None, description="Address of a Qdrant server, such as http://localhost:6333.")
    api_key_env: EnvName = Field(
        default="QDRANT_API_KEY", description="Environment variable with the server's key. Unset: no key is sent."
    )
    timeout_s: int = Field(default=30, ge=1, description="Seconds after which a request to the server is repeated.")
    collection: str = Field(
        default="lrf", pattern=r"^[A-Za-z0-9_.-]{1,100}$", description="The beginning of the collections' names."
    )

    @property
    def in_memory(self) -> bool:
        """Whether chunks are kept in this process's memory, without a Qdrant."""
        return self.path is None and self.url is None

    @model_validator(mode="after")
    def _one_place(self) -> QdrantSettings:
        if sum(place is not None for place in (self.location, self.path, self.url)) > 1:
            raise ValueError("give one of location, path and url, not several")
        return self
