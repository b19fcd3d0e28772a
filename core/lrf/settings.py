"""The base of every component's settings, and the kinds of field that need the pipeline file to be understood."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo

from lrf.errors import ConfigError
from lrf.types import JSON


class Settings(BaseModel):
    """Settings of a component: frozen, and a key that isn't declared is an error.

    Give every field a ``description``: ``lrf schema`` and the reference are made from them. ``provenance`` names fields
    that decide how something is done and not what comes out: changing one of them makes nothing be done again.
    """

    not_fingerprinted: ClassVar[frozenset[str]] = frozenset()

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @property
    def without(self) -> frozenset[str]:
        """Kinds of component that the registration says it needs, and that it does without under these settings."""
        return frozenset()


@dataclass(frozen=True, slots=True)
class Shares:
    """How processes share a training.

    ``accumulation``: micro-batches that a process goes through for one optimizer step. ``sequence_parallel``: processes
    that share one sequence. ``deepspeed``: DeepSpeed's configuration, None without it.
    """

    accumulation: int = 1
    sequence_parallel: int = 1
    deepspeed: Mapping[str, JSON] | None = None


class TrainerSettings(Settings):
    """Settings of a trainer."""

    @property
    def reads(self) -> tuple[str, ...]:
        """The run's files that the training is made of: "pairs", "scored" (answers with ratings), both or none."""
        return ("pairs",)

    def shares(self, world: int) -> Shares:
        """How ``world`` processes share the training. Raises :class:`lrf.errors.ConfigError` with what would fit."""
        if world > 1:
            raise ConfigError("this trainer runs in one process; take the launcher local, or one process")
        return Shares()

    def memory(self, model: str | None, world: int) -> Mapping[str, JSON] | None:
        """An estimate of the memory on each GPU, for ``lrf plan``; None without one. Imports nothing heavy.

        ``gib`` by what takes it, ``gib_together``, and ``longest``, the longest sample in tokens; or ``unknown``: why.
        """
        return None


def _beside_pipeline(path: Path, info: ValidationInfo) -> Path:
    folder = (info.context or {}).get("folder")
    path = path.expanduser()
    return path if folder is None or path.is_absolute() else Path(os.path.normpath(Path(folder) / path))


FilePath = Annotated[Path, AfterValidator(_beside_pipeline)]
"""A path that starts, where it is relative, at the pipeline file's folder."""
