"""What a run says of the candidates that people judged."""

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
    """Scores by sample and candidate, of the samples that were asked for. ``missing_lengths`` says why there are none.

    ``scores`` has "reward", each dimension by "rating: NAME", and the baselines "longer" (characters of the answer)
    and "first" (places before the end). ``known`` has every sample of the run that was asked for.
    """

    scores: dict[str, dict[str, dict[str, float | None]]] = field(default_factory=dict)
    dimensions: list[str] = field(default_factory=list)
    known: dict[str, dict[str, None]] = field(default_factory=dict)
    missing_lengths: str | None = None


def read_run(folder: Path, samples: set[str]) -> RunScores:
    """The rewards of a run's samples among those given.

    Raises :class:`lrf.errors.RunError` when the folder holds no rewards, or damaged ones.
    """
    run = RunDir(folder)
    if not run.rewards.is_file():
        raise RunError(f"{run.rewards} is not there; expected a run directory with rewards, such as runs/my-pipeline")
    found = RunScores(scores={"reward": {}, "first": {}, "longer": {}})
    for row in reward_rows(run.rewards):
        sample, candidate = row["sample_id"], row["candidate_id"]
        found.known.setdefault(sample, {})
        if sample not in samples:
            continue
        found.known[sample][candidate] = None
        _put(found, "reward", sample, candidate, row["reward"])
        _put(found, "first", sample, candidate, -float(len(found.known[sample])))
        for name, rating in row["ratings"].items():
            if name not in found.dimensions:
                found.dimensions.append(name)
            _put(found, f"rating: {name}", sample, candidate, rating)
    try:
        _add_lengths(found, run, samples)
    except (LrfError, OSError, ValueError) as error:
        found.missing_lengths = str(error)
        found.scores["longer"].clear()
    return found


def _put(found: RunScores, name: str, sample: str, candidate: str, score: float | None) -> None:
    found.scores.setdefault(name, {}).setdefault(sample, {})[candidate] = score


def _add_lengths(found: RunScores, run: RunDir, samples: set[str]) -> None:
    """The lengths of the answers, from the run's data once more: rewards.jsonl doesn't hold them."""
    match read_json(run.versions):
        case {"folder": str(folder)}:
            pass
        case _:
            folder = str(run.path)
    pipeline = parse_pipeline(run.pipeline.read_text(encoding="utf-8"), load_catalog(), folder=folder)
    for sample in good_samples(source_with_candidates(pipeline, run)):
        if sample.id in samples:
            for candidate in sample.candidates:
                if candidate.id in found.known.get(sample.id, {}):
                    _put(found, "longer", sample.id, candidate.id, float(len(candidate.text)))
    wanted = {(s, c) for s in samples for c in found.known.get(s, {})}
    if lost := [(s, c) for s, c in wanted if c not in found.scores["longer"].get(s, {})]:
        sample_id, candidate_id = min(lost)
        raise DataError(f"the data no longer has candidate {candidate_id!r} of sample {sample_id!r}")
