"""The scores that a run gave to the candidates that people labelled."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from lrf.config import parse_pipeline
from lrf.errors import DataError, LrfError, RunError
from lrf.plugin.catalog import load_catalog
from lrf.stages.reading import good_samples
from lrf.stages.run_dir import RunDir
from lrf.stages.sample.source import source_with_candidates
from lrf.stages.score.rows import reward_rows
from lrf.store.files import read_json


@dataclass(slots=True)
class RunScores:
    """Scores by name, sample and candidate.

    Parameters
    ----------
    scores: "reward", each dimension as "rating: NAME", and the baselines "longer" (characters of the answer) and
        "first" (minus the candidate's place).
    dimensions: the dimensions' names.
    known: every sample of the run, with the candidates of those that were wanted.
    missing_lengths: why there is no "longer", or None.
    """

    scores: dict[str, dict[str, dict[str, float | None]]] = field(default_factory=dict)
    dimensions: list[str] = field(default_factory=list)
    known: dict[str, dict[str, None]] = field(default_factory=dict)
    missing_lengths: str | None = None


def read_run(folder: Path, samples: set[str]) -> RunScores:
    """The scores of the given samples in a run.

    Raises :class:`lrf.errors.RunError` when the folder has no rewards, or damaged ones.
    """
    run = RunDir(folder)
    if not run.rewards.is_file():
        raise RunError(f"{run.rewards} is not there; expected a run directory with rewards, such as runs/my-pipeline")
    run_scores = RunScores(scores={"reward": {}, "first": {}, "longer": {}})
    for row in reward_rows(run.rewards):
        sample, candidate = row["sample_id"], row["candidate_id"]
        run_scores.known.setdefault(sample, {})
        if sample not in samples:
            continue
        run_scores.known[sample][candidate] = None
        _put(run_scores, "reward", sample, candidate, row["reward"])
        _put(run_scores, "first", sample, candidate, -float(len(run_scores.known[sample])))
        for name, rating in row["ratings"].items():
            if name not in run_scores.dimensions:
                run_scores.dimensions.append(name)
            _put(run_scores, f"rating: {name}", sample, candidate, rating)
    try:
        _add_lengths(run_scores, run, samples)
    except (LrfError, OSError, ValueError) as error:
        run_scores.missing_lengths = str(error)
        run_scores.scores["longer"].clear()
    return run_scores


def _put(run_scores: RunScores, name: str, sample: str, candidate: str, score: float | None) -> None:
    run_scores.scores.setdefault(name, {}).setdefault(sample, {})[candidate] = score


def _add_lengths(run_scores: RunScores, run: RunDir, samples: set[str]) -> None:
    """Add the answers' lengths, from the run's data: rewards.jsonl doesn't have them."""
    match read_json(run.versions):
        case {"folder": str(folder)}:
            pass
        case _:
            folder = str(run.path)
    pipeline = parse_pipeline(run.pipeline.read_text(encoding="utf-8"), load_catalog(), folder=folder)
    for sample in good_samples(source_with_candidates(pipeline, run)):
        if sample.id in samples:
            for candidate in sample.candidates:
                if candidate.id in run_scores.known.get(sample.id, {}):
                    _put(run_scores, "longer", sample.id, candidate.id, float(len(candidate.text)))
    wanted = {(s, c) for s in samples for c in run_scores.known.get(s, {})}
    if lost := [(s, c) for s, c in wanted if c not in run_scores.scores["longer"].get(s, {})]:
        sample_id, candidate_id = min(lost)
        raise DataError(f"the data no longer has candidate {candidate_id!r} of sample {sample_id!r}")
