"""What pairing rules and trainers return, checked; :mod:`lrf.engine.checks` has the components of scoring."""

from __future__ import annotations

from pathlib import Path

from lrf.engine.faults import owned
from lrf.errors import StageError
from lrf.types import LeftOut, PreferencePair, Preferences, Sample


def check_pairs(
    pairing: object, sample: Sample, outcome: PreferencePair | Preferences | LeftOut
) -> Preferences | LeftOut:
    """The outcome, one pair as :class:`lrf.types.Preferences`.

    Raises :class:`lrf.errors.StageError` for a pair or list that isn't of different candidates of the sample.
    """
    if isinstance(outcome, LeftOut):
        return outcome
    made = Preferences((outcome,)) if isinstance(outcome, PreferencePair) else outcome
    problem = _problem(sample, made)
    if problem:
        raise StageError(f"{owned('pairs', pairing)} {problem} (sample {sample.id})")
    return made


def _problem(sample: Sample, made: object) -> str | None:
    if not isinstance(made, Preferences):
        return f"gave a {type(made).__name__}, neither a PreferencePair, nor Preferences, nor a LeftOut"
    if not made.pairs and not made.listed:
        return "gave Preferences without a pair and a list; a LeftOut says why there is none"
    if odd := [type(pair).__name__ for pair in made.pairs if not isinstance(pair, PreferencePair)]:
        return f"gave a {odd[0]} among its pairs"
    chosen = [(pair.chosen.id, pair.rejected.id) for pair in made.pairs]
    for one, other in chosen:
        if one == other:
            return f"gave a pair of candidate {one!r} with itself"
        if (other, one) in chosen or chosen.count((one, other)) > 1:
            return f"gave the pair of {one!r} and {other!r} twice"
    listed = [candidate.id for candidate in made.listed or ()]
    if twice := next((id_ for id_ in listed if listed.count(id_) > 1), None):
        return f"gave {twice!r} twice in its list"
    texts = {candidate.id: candidate.text for candidate in sample.candidates}
    of_pairs = [candidate for pair in made.pairs for candidate in (pair.chosen, pair.rejected)]
    wrong = [c.id for c in (*of_pairs, *(made.listed or ())) if texts.get(c.id) != c.text]
    return f"gave {wrong[0]!r} with a text that no candidate of this id has" if wrong else None


def check_checkpoint(trainer: object, checkpoint: Path, run: Path) -> str:
    """The checkpoint's path in the run. Raises :class:`lrf.errors.StageError` if it isn't there or lies elsewhere."""
    if not checkpoint.exists() or not checkpoint.is_relative_to(run):
        problem = "which is not there" if not checkpoint.exists() else f"which is outside of {run}"
        raise StageError(f"{owned('train', trainer)} gave the checkpoint {checkpoint}, {problem}")
    return str(checkpoint.relative_to(run))
