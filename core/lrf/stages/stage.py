"""What a stage of a run is. Each stage lives in a folder or file of its own; ``lrf.stages.order`` lists them.

A new stage is a subclass of :class:`Stage` (or of :class:`BlockingStage`, for work that has no use for the event loop),
a subclass of :class:`StageResult` with its figures, and its place in ``lrf.stages.order.STAGES``::

    @dataclass(frozen=True, kw_only=True)
    class LengthsResult(StageResult):
        longest: int

    class LengthsStage(BlockingStage[LengthsResult]):
        name, result = "lengths", LengthsResult

        @classmethod
        def of(cls, pipeline: Pipeline) -> LengthsStage | None:
            return cls() if pipeline.pairs else None

        def fingerprint(self, context: StageContext) -> str:
            return fingerprint("lengths", sha256_of(context.run_dir.pairs))

        def work(self, context: StageContext) -> LengthsResult:
            ...
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

from pydantic import TypeAdapter, ValidationError

from lrf.engine.budget import Line
from lrf.errors import LrfError, StageError

if TYPE_CHECKING:
    from lrf.config import ComponentBlock, Pipeline
    from lrf.stages.context import StageContext
    from lrf.stages.run_dir import RunDir, StageRecord
    from lrf.types import JSON

R = TypeVar("R", bound="StageResult")

FINISHED_BEFORE = "finished by an earlier run, with the same data, settings and files"


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """Something that looks wrong with a judge. The figures are those of the kind of alarm; the others are None.

    Parameters
    ----------
    alarm: "same_rating", "length", "asked_again", "drift", "prompt_cut" or "unknown_finish".
    share: of the ratings or replies, 0 to 1.
    correlation: Spearman's, -1 to 1.
    drift: mean absolute change of the calibration set's ratings.
    of: how many ratings, replies, answers or candidates the figure was computed of.
    """

    alarm: str
    message: str
    dimension: str | None = None
    share: float | None = None
    correlation: float | None = None
    drift: float | None = None
    of: int | None = None


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """The figures of a stage, as ``summary.json`` and the stage's record have them. Each stage has a subclass.

    A stage that an earlier run had finished is ``skipped``, and ``skipped_because`` says why. A field whose metadata is
    :data:`FLAT` has its keys among the others in JSON. Fields that are None are left out of JSON.
    """

    skipped: bool = False
    skipped_because: str | None = None

    @property
    def retry(self) -> bool:
        """Whether a later run should do the stage again, since something failed that may succeed then."""
        return False

    @property
    def raised(self) -> Sequence[Alarm]:
        """The alarms of the stage."""
        return ()

    def as_skipped(self, reason: str = FINISHED_BEFORE) -> Self:
        """This result in a run that skipped the stage, and so paid nothing for it."""
        return replace(self, skipped=True, skipped_because=reason)

    def as_json(self) -> dict[str, JSON]:
        row: dict[str, JSON] = {}
        for part in fields(self):
            value = plain(getattr(self, part.name))
            if part.metadata.get("flat"):
                row |= value
            elif value is not None:
                row[part.name] = value
        return row

    @classmethod
    def from_json(cls, values: Mapping[str, JSON]) -> Self | None:
        """The result whose :meth:`as_json` this is; None for a mapping that is not one."""
        result_type: Any = cls
        flat = [part.name for part in fields(cls) if part.metadata.get("flat")]
        own = {part.name for part in fields(cls)}
        rest = {name: value for name, value in values.items() if name not in own}
        try:
            made: Self = _adapter(result_type).validate_python(
                {**{name: v for name, v in values.items() if name in own}, **dict.fromkeys(flat, rest)}
            )
        except ValidationError:
            return None
        return made


@cache  # making one takes milliseconds
def _adapter(result: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(result)


FLAT: Mapping[str, bool] = {"flat": True}


@dataclass(frozen=True, kw_only=True)
class Money:
    """What was paid over all sittings of the run, at the prices of ``prices``; amounts are by currency."""

    spent: Mapping[str, float]
    by_dimension: Mapping[str, Mapping[str, float]]
    unpriced_calls: Mapping[str, int]
    prices: str


@dataclass(frozen=True, kw_only=True)
class AllSittings:
    """Paid calls and their tokens over all sittings of the run, as its journal has them."""

    calls: int
    tokens: int


@dataclass(frozen=True, kw_only=True)
class PaidResult(StageResult):
    """The result of a stage that pays for calls.

    Parameters
    ----------
    transient: rows that failed for a reason that may pass.
    usage, embedding_calls, embedded_texts, by_dimension: of this run alone; zeros where the stage was skipped.
    all_sittings, money: of all runs in this directory.
    """

    transient: int
    usage: Line = field(metadata=FLAT)
    embedding_calls: int
    embedded_texts: int
    by_dimension: Mapping[str, Line]
    all_sittings: AllSittings
    money: Money

    @property
    def retry(self) -> bool:
        return self.transient > 0

    def as_skipped(self, reason: str = FINISHED_BEFORE) -> Self:
        skipped = super().as_skipped(reason)
        return replace(skipped, usage=Line(), embedding_calls=0, embedded_texts=0, by_dimension={})


class StageStoppedError(Exception):
    """Carries the reason of a stop past the stage, together with the figures of what was finished."""

    def __init__(self, reason: LrfError, result: StageResult) -> None:
        super().__init__(str(reason))
        self.reason = reason
        self.result = result


class Stage(ABC, Generic[R]):
    """One step of a run, made for a pipeline that has it."""

    name: ClassVar[str]
    """Names the stage in commands, progress, files and the summary."""

    result: type[R]

    needs: tuple[str, ...] = ("data",)
    """Stages that are done before this one in the same run, even when the run begins with this one."""

    @classmethod
    @abstractmethod
    def of(cls, pipeline: Pipeline) -> Self | None:
        """The stage of this pipeline, or None where the pipeline doesn't have it."""

    @abstractmethod
    def fingerprint(self, context: StageContext) -> str:
        """A hash of all that the outcome depends on; the stage is done again when it changes.

        Raises :class:`lrf.errors.StageError` when what the stage works on isn't there.
        """

    @abstractmethod
    async def run(self, context: StageContext) -> R:
        """Do the stage, write its files and its record.

        Raises :class:`lrf.errors.LrfError`, or :class:`StageStoppedError` when ``context.stop`` came in between.
        """

    def blocks(self, pipeline: Pipeline) -> Sequence[ComponentBlock]:
        """The blocks of the components that the stage makes."""
        return ()

    def check(self, pipeline: Pipeline, run: RunDir) -> None:
        """Raise :class:`lrf.errors.ConfigError` for what can't work, before anything is paid for."""

    def vain(self, context: StageContext, *, outdated: bool) -> str | None:
        """Why paying would be in vain as far as this stage is concerned, and what to do; None if it isn't.

        Asked before a stage that pays and isn't finished. ``outdated``: what that stage made before is of other data or
        settings, so what this one made of it is going to be made anew.
        """
        return None

    def outdated(self, context: StageContext) -> bool:
        """Whether the stage was finished with other data or settings."""
        try:
            return self.record(context.run_dir).fingerprint not in (None, self.fingerprint(context))
        except StageError:  # what it works on isn't there yet
            return False

    def own_process(self, pipeline: Pipeline) -> bool:
        """Whether the stage runs in a process that ends with it, so that the memory of a model is given back."""
        return False

    def finished(self, context: StageContext) -> R | None:
        """The result of the run that finished the stage, if it would be the same now; None when it must be done."""
        values = self.record(context.run_dir).finished(self.fingerprint(context))
        result = None if values is None else self.result.from_json(values)
        return None if result is None or result.retry else result

    def keep(self, context: StageContext, fingerprint: str, files: Sequence[Path], result: R) -> R:
        """Record that the stage is finished with this result, and return it. Blocks: it hashes the files."""
        self.record(context.run_dir).write(fingerprint, files, result.as_json())
        return result

    def record(self, run: RunDir) -> StageRecord:
        """Where it is noted that the stage is finished."""
        return run.record(self.name)

    def gate(self, context: StageContext, result: R) -> None:
        """Raise :class:`lrf.errors.GateError` when more was lost than the pipeline allows."""

    def card(self, context: StageContext, result: R) -> None:
        """Write the card of what the stage made, for those who get it. Raises OSError."""

    def files(self, run: RunDir) -> Mapping[str, Path]:
        """The files that the summary names where they exist, by the name that it gives them."""
        return {}


class BlockingStage(Stage[R]):
    """A stage whose work blocks: it runs in a thread, or as the main thread of a process of the stage."""

    @abstractmethod
    def work(self, context: StageContext) -> R:
        """:meth:`Stage.run`, blocking."""

    async def run(self, context: StageContext) -> R:
        return await asyncio.to_thread(self.work, context)


def skip_finished(stage: Stage[R], context: StageContext) -> R | None:
    """The result of a stage that is finished, marked as skipped; None when it must be done. Blocks."""
    result = stage.finished(context)
    return None if result is None else result.as_skipped()


def last_result(run: RunDir, name: str, kind: type[R], first: str) -> R:
    """The result of a stage that was finished in this directory.

    Raises :class:`lrf.errors.StageError` if it wasn't; ``first`` is what to do about it.
    """
    values = run.record(name).last()
    result = None if values is None else kind.from_json(values)
    if result is None:
        raise StageError(f"stage {name} isn't finished in {run.path}; {first}")
    return result


def plain(value: object) -> JSON:
    """A value of dataclasses, mappings and sequences as plain JSON values. Fields that are None are left out."""
    if is_dataclass(value) and not isinstance(value, type):
        parts = {part.name: plain(getattr(value, part.name)) for part in fields(value)}
        return {name: part for name, part in parts.items() if part is not None}
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value
