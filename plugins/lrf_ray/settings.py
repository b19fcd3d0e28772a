"""Settings of the Ray executor."""

from __future__ import annotations

from pydantic import Field

from lrf.settings import Settings


class RaySettings(Settings):
    """Where workers come from, and what each may use."""

    workers: int = Field(
        default=2, ge=1, le=10_000, description="Workers of each judge, and of the sampler; each has the whole model."
    )
    address: str | None = Field(
        default=None,
        description="A running cluster: auto, HOST:PORT, or ray://HOST:PORT. Null: workers on this machine, which end "
        "with the run.",
    )
    cpus: float = Field(default=1.0, ge=0, description="CPU cores of a worker.")
    gpus: float = Field(default=0.0, ge=0, description="GPUs of a worker; a part of one is allowed.")
    embedders: bool = Field(
        default=False, description="Whether embedders have workers too. Their vectors then travel to the run's machine."
    )
    start_timeout_s: float = Field(
        default=600.0, gt=0, description="Seconds that the first worker may take until its component is made."
    )
