"""The state behind ``lrf rescore``, which scores again what is unscored, or a dimension. It is in ``rescore.json``.

How often a dimension was rescored is part of the key of its requests, so they are sent again; a candidate that had
failed gets further attempts. All other requests keep their keys, so their replies come from the journal. A run that is
killed and started again reads the same state.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lrf.engine.rescoring import RescoringRounds
from lrf.errors import ConfigError, RunError
from lrf.plugin.suggest import did_you_mean
from lrf.stages.run_dir import RunDir
from lrf.stages.score.rows import reward_rows
from lrf.store.files import read_json, write_json

if TYPE_CHECKING:
    from lrf.config import Pipeline


@dataclass(frozen=True, slots=True)
class Rescore:
    """What is to be scored again: the dimensions named, or what is unscored."""

    failed: bool = False
    dimensions: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join(["lrf rescore", *(["--failed"] * self.failed), *(f"--dimension {d}" for d in self.dimensions)])


@dataclass(slots=True)
class _State:
    dimensions: dict[str, int] = field(default_factory=dict)
    failed: dict[str, dict[str, int]] = field(default_factory=dict)
    pending: str | None = None

    @classmethod
    def read(cls, run: RunDir) -> _State:
        """Raises :class:`lrf.errors.RunError` for a damaged file: without it, replaced replies would be back."""
        match read_json(run.rescore):
            case None if not run.rescore.exists():
                return cls()
            case {"dimensions": dict(dimensions), "failed": dict(failed), "pending": str() | None as pending}:
                return cls(dimensions, failed, pending)
        raise RunError(f"{run.rescore}: damaged; restore it, or remove it to have the first scoring's rewards back")

    def write(self, run: RunDir) -> None:
        write_json(run.rescore, {"pending": self.pending, "dimensions": self.dimensions, "failed": self.failed})


def rounds_of(run: RunDir) -> RescoringRounds:
    """What has been scored again in this directory so far."""
    state = _State.read(run)
    return RescoringRounds(state.dimensions, state.failed)


def begin_rescore(pipeline: Pipeline, run: RunDir, wanted: Rescore) -> int:
    """Note what is to be scored again, unless an interrupted rescore has noted it. The caller has the run's lock.

    Returns the number of candidates concerned. Raises :class:`lrf.errors.ConfigError` for a dimension that the pipeline
    doesn't have, :class:`lrf.errors.RunError` before anything was scored or while another rescore is unfinished.
    """
    names = [d.name for d in pipeline.dimensions]
    for name in wanted.dimensions:
        if name not in names:
            raise ConfigError(f"no dimension is named {name!r}; allowed: {', '.join(names)}{did_you_mean(name, names)}")
    if not run.rewards.exists():
        raise RunError(f"{run.path}: nothing has been scored yet; `lrf run` comes first")
    state = _State.read(run)
    if state.pending == str(wanted):
        return sum(1 for _ in reward_rows(run.rewards))
    if state.pending is not None:
        raise RunError(f"{run.path}: `{state.pending}` isn't finished; do it again (or `lrf run`) before another one")
    count = 0
    for row in reward_rows(run.rewards):
        if wanted.failed and (row["reward"] is None or None in row["ratings"].values()):
            times = state.failed.setdefault(row["sample_id"], {})
            times[row["candidate_id"]] = times.get(row["candidate_id"], 0) + 1
            count += 1
        count += bool(wanted.dimensions)
    for name in wanted.dimensions:
        state.dimensions[name] = state.dimensions.get(name, 0) + 1
    if count:
        state.pending = str(wanted)
        state.write(run)
    return count


def end_rescore(run: RunDir) -> None:
    """Note that everything is scored."""
    state = _State.read(run)
    if state.pending is not None:
        state.pending = None
        state.write(run)
