"""What pairing rules and trainers return, checked; :mod:`lrf.engine.checks` has the components of scoring."""

from __future__ import annotations

from pathlib import Path

from lrf.engine.faults import owned
from lrf.errors import StageError
from lrf.types import LeftOut, PreferencePair, Sample


def check_pair(pairing: object, sample: Sample, outcome: PreferencePair | LeftOut) -> PreferencePair | LeftOut:
    """The outcome. Raises :class:`lrf.errors.StageError` for a pair that isn't of two candidates of the sample."""
    if isinstance(outcome, LeftOut):
        return outcome
    problem = None
    if not isinstance(outcome, PreferencePair):
        problem = f"gave a {type(outcome).__name__}, neither a PreferencePair nor a LeftOut"
    elif outcome.chosen.id == outcome.rejected.id:
        problem = f"gave a pair of candidate {outcome.chosen.id!r} with itself"
    else:
        texts = {candidate.id: candidate.text for candidate in sample.candidates}
        wrong = [c.id for c in (outcome.chosen, outcome.rejected) if texts.get(c.id) != c.text]
        problem = f"gave {wrong[0]!r} with a text that no candidate of this id has" if wrong else None
    if problem:
        raise StageError(f"{owned('pairs', pairing)} {problem} (sample {sample.id})")
    return outcome


def check_checkpoint(trainer: object, checkpoint: Path, run: Path) -> str:
    """The checkpoint's path in the run. Raises :class:`lrf.errors.StageError` if it isn't there or lies elsewhere."""
    if not checkpoint.exists() or not checkpoint.is_relative_to(run):
        problem = "which is not there" if not checkpoint.exists() else f"which is outside of {run}"
        raise StageError(f"{owned('train', trainer)} gave the checkpoint {checkpoint}, {problem}")
    return str(checkpoint.relative_to(run))
