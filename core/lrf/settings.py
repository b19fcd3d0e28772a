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

__all__ = [
    "FilePath",
    "Settings",
]


@dataclass(frozen=True, slots=True)
class ModelReference:
    """The model that a component asks or runs: prices are looked up by it, and reports show its name.

    Parameters
    ----------
    name: the model's name, as the server or the library that loads it knows it.
    host: the host of the server that is asked; None for a model on this machine.
    batch: whether replies come from a provider's batch API, which has its own price.
    """

    name: str
    host: str | None = None
    batch: bool = False


class Settings(BaseModel):
    """Settings of a component: frozen, and an undeclared key is an error.

    Give every field a ``description``: ``lrf schema`` and the reference are made from them.

    Two class variables name fields that are left out of what lrf compares between runs. Subclasses add to their bases'
    names; they never remove one.

    not_fingerprinted: fields that decide how something is done and not what the result is: addresses, keys, limits of
        time, memory and concurrency. They are neither part of a component's identity nor of a stage's fingerprint, so
        changing one repeats nothing.
    not_identity: fields whose effect every request states itself (its reply mode, its seed) or that only refuse
        requests. They are part of a stage's fingerprint but not of the identity, so changing one repeats the stage
        but pays only for requests that have changed.

    A third one, by_method, gives fields other defaults under a ``method:`` of the pipeline: {"paper": {field: value}}.
    A subclass states its own and its bases' together.
    """

    not_fingerprinted: ClassVar[frozenset[str]] = frozenset()
    not_identity: ClassVar[frozenset[str]] = frozenset()
    by_method: ClassVar[Mapping[str, Mapping[str, JSON]]] = {}

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @property
    def without(self) -> frozenset[str]:
        """The kinds of component named by the registration's ``needs`` that these settings do without."""
        return frozenset()

    @property
    def extras(self) -> tuple[str, ...]:
        """Extras of the component's distribution that these settings need besides the registration's ``extra``."""
        return ()

    @property
    def model_reference(self) -> ModelReference | None:
        """The model behind the component. None, the default: it has no price and no name to show."""
        return None

    @property
    def origin(self) -> str | None:
        """Of a source: the name of its file or data set, shown in cards. None, the default: a card names none."""
        return None

    def fingerprint_fields(self) -> dict[str, JSON]:
        """The fields that the result of a stage depends on, as JSON values."""
        return self.model_dump(mode="json", exclude=self._left_out("not_fingerprinted"))

    def identity_fields(self) -> dict[str, JSON]:
        """The fields that a reply depends on besides its request, as JSON values: the default of an identity."""
        left_out = self._left_out("not_fingerprinted") | self._left_out("not_identity")
        return self.model_dump(mode="json", exclude=left_out)

    @classmethod
    def _left_out(cls, variable: str) -> set[str]:
        """The names in this class variable, of the class and all its bases."""
        return {name for base in cls.__mro__ for name in vars(base).get(variable, ())}


@dataclass(frozen=True, slots=True)
class Shares:
    """How processes share a training.

    Parameters
    ----------
    accumulation: micro-batches that a process computes for one optimizer step.
    sequence_parallel: processes that share one sequence.
    deepspeed: DeepSpeed's configuration; None without DeepSpeed.
    global_batch, micro_batch: sequences of an optimizer step, and of one process at once; None for a trainer that
        doesn't say.
    """

    accumulation: int = 1
    sequence_parallel: int = 1
    deepspeed: Mapping[str, JSON] | None = None
    global_batch: int | None = None
    micro_batch: int | None = None


@dataclass(frozen=True, slots=True)
class Rollouts:
    """The answers that a trainer writes and asks rewards for.

    Parameters
    ----------
    prompts: how many it writes answers to, each visit counted.
    answers: written for each of them.
    answer_tokens: the longest answer.
    """

    prompts: int
    answers: int
    answer_tokens: int


class TrainerSettings(Settings):
    """Settings of a trainer."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Files of the run that the training reads: "pairs", "lists", "scored" (answers with ratings), "prompts"."""
        return ("pairs",)

    def shares(self, world: int) -> Shares:
        """How ``world`` processes share the training. Raises :class:`lrf.errors.ConfigError` with what would fit."""
        if world > 1:
            raise ConfigError("this trainer runs in one process; take the launcher local, or one process")
        return Shares()

    def rollouts(self, prompts: int) -> Rollouts | None:
        """The answers that it writes for data with this many prompts, for ``lrf plan``; None for one that writes none.

        A trainer whose registration says ``rewards`` must say.
        """
        return None

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
"""A path. Relative paths start at the pipeline file's folder."""
