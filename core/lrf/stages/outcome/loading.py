"""``lrf.load_run``: the samples of a run with their candidates' rewards, read one after another."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lrf.errors import LrfError, RunError
from lrf.stages.outcome.joined import ScoredSample
from lrf.stages.run_dir import RunDir
from lrf.store.files import read_json
from lrf.types import JSON, Candidate, Reward, Sample

if TYPE_CHECKING:
    from lrf.protocols import Source
    from lrf.stages.outcome.figures import Figures
    from lrf.stages.outcome.index import RunIndex

__all__ = ["ScoredRun", "load_run"]

Table = Literal["candidates", "statements"]


def load_run(path: str | os.PathLike[str], *, folder: str | os.PathLike[str] | None = None) -> ScoredRun:
    """The run in a directory such as ``runs/my-pipeline``. It is only read, also while ``lrf run`` uses it.

    Parameters
    ----------
    folder: where the relative paths of the run's data start. Left out: where they started when it ran. For a run that
        was copied from another machine.

    A run whose scoring is under way has the samples that are finished so far. Raises :class:`lrf.RunError` for a
    directory that is no run's, or a run that has scored nothing yet.
    """
    run = RunDir(Path(path))
    if not (run.rewards.is_file() and run.judgements.is_file()) and next(_spooled(run), None) is None:
        raise RunError(
            f"{run.rewards} is not there, and nothing is scored so far; expected the directory of a run, such as "
            "runs/my-pipeline"
        )
    return ScoredRun(run, Path(folder) if folder is not None else None)


class ScoredRun:
    """The samples of a run, as :func:`lrf.load_run` gives them.

    Iterate over it for one :class:`lrf.ScoredSample` after another, in the data's order; nothing is kept, so memory
    doesn't grow with the run. ``run["sample-id"]`` reads up to that sample.

    Where the data can't be read (the run was copied without it, a plugin is missing), samples have ids, rewards and
    judgements, but no texts, and ``without_texts`` says why; otherwise it is None.
    """

    def __init__(self, run: RunDir, folder: Path | None = None) -> None:
        self.path = run.path
        self.files = run
        self.without_texts: str | None = None
        self._source: Source | None = None
        try:
            self._source = _source(run, folder)
            next(iter(self._source.read()), None)
        except (LrfError, OSError) as error:
            self.without_texts, self._source = str(error), None

    @property
    def under_way(self) -> bool:
        """Whether the scoring has not ended, so that only some samples are there."""
        return not (self.files.rewards.is_file() and self.files.judgements.is_file())

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def summary(self) -> Mapping[str, JSON]:
        """How the run ended, as ``summary.json`` has it; empty where there is none yet."""
        summary = read_json(self.files.summary)
        return summary if isinstance(summary, dict) else {}

    @property
    def versions(self) -> Mapping[str, JSON]:
        """The versions of what ran, as ``versions.json`` has them; empty where there is none."""
        versions = read_json(self.files.versions)
        return versions if isinstance(versions, dict) else {}

    @property
    def settings_text(self) -> str:
        """``pipeline.yaml``: the pipeline with every default filled in; empty where it can't be read."""
        try:
            return self.files.pipeline.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    @property
    def settings(self) -> Mapping[str, JSON]:
        """The pipeline as values; empty where it can't be read."""
        try:
            return _pipeline(self.files)
        except RunError:
            return {}

    def __iter__(self) -> Iterator[ScoredSample]:
        """Raises :class:`lrf.RunError` for damaged files, and for data that has changed since."""
        return self.samples()

    def samples(self, *, judgements: bool = True) -> Iterator[ScoredSample]:
        """The samples in the data's order; much faster without the ``judgements``. Raises as iterating does."""
        from lrf.stages.score.results import rewards_by_sample

        if self.under_way:
            groups = _spooled(self.files)
        else:
            groups = _rewards(self.files) if judgements else rewards_by_sample(self.files.rewards)
        if self._source is None:
            for sample_id, rewards in groups:
                candidates = tuple(Candidate(r.candidate_id, "") for r in rewards)
                yield ScoredSample.of(Sample(sample_id, "", (), candidates), rewards)
            return
        expected = next(groups, None)
        for sample in self._source.read():
            if expected is None:
                return
            if isinstance(sample, Sample) and sample.id == expected[0]:
                yield ScoredSample.of(sample, _checked(sample, expected[1], self.path))
                expected = next(groups, None)
        if expected is not None:
            raise RunError(f"{self.path}: the data has changed since: it no longer has the sample {expected[0]!r}")

    def __getitem__(self, sample_id: str) -> ScoredSample:
        """The sample with this id. Raises KeyError, and as iterating does."""
        for sample in self:
            if sample.id == sample_id:
                return sample
        raise KeyError(sample_id)

    # --- tables ------------------------------------------------------------------------------------------------

    def to_arrow(self, table: Table = "candidates") -> Any:
        """A ``pyarrow.Table`` with a row for each candidate, or for each statement of an answer ("statements").

        See :mod:`lrf.stages.outcome.tables` for the columns.
        """
        from lrf.stages.outcome.tables import arrow_table

        return arrow_table(self, table)

    def to_pandas(self, table: Table = "candidates") -> Any:
        """:meth:`to_arrow` as a ``pandas.DataFrame``. Raises :class:`lrf.RunError` where pandas isn't installed."""
        try:
            return self.to_arrow(table).to_pandas()
        except ImportError as error:
            raise RunError("to_pandas needs pandas: pip install pandas") from error

    # --- figures -----------------------------------------------------------------------------------------------

    def figures(self) -> Figures:
        """An object that takes in this run's samples and then has the run's figures, so that one pass is enough."""
        from lrf.stages.outcome.figures import Figures

        return Figures(self)

    def compared_with(self, other: ScoredRun) -> dict[str, JSON]:
        """How this run differs from ``other``: settings, rewards, ranks, pairs, cost, and samples that moved most.

        Samples and candidates are matched by their ids. Raises :class:`lrf.RunError` for damaged files.
        """
        from lrf.stages.outcome.comparison import compare_runs

        return compare_runs(self, other)

    def index(self) -> RunIndex:
        """An index, for looking through a run that is too large to be read each time. Close it in the end."""
        from lrf.stages.outcome.index import RunIndex

        return RunIndex(self)

    # --- looking -----------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        counts = ", ".join(
            f"{value:,} {name}" if isinstance(value, int) else str(value) for name, value in self._counts()
        )
        return f"ScoredRun({str(self.path)!r}: {counts})"

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><td>{escape(n)}</td><td>{escape(str(v))}</td></tr>" for n, v in self._counts())
        return f"<p><b>{escape(self.name)}</b></p><table>{rows}</table>"

    def _counts(self) -> Sequence[tuple[str, Any]]:
        stages = self.summary.get("stages", {})
        score = stages.get("score", {}) if isinstance(stages, dict) else {}
        counts = [(name, score[name]) for name in ("samples", "candidates", "scored", "unscored") if name in score]
        return [*counts, ("status", self.summary.get("status", "no summary yet"))]


def _source(run: RunDir, folder: Path | None) -> Source:
    """The run's data with its candidates. Only the data's plugin is needed, whatever else the pipeline names."""
    from lrf.build import source_of
    from lrf.config import parse_pipeline
    from lrf.plugin.catalog import load_catalog
    from lrf.stages.sample.source import SampledSource

    pipeline = _pipeline(run)
    if not pipeline.get("data"):
        raise RunError(f"{run.pipeline} names no data")
    match read_json(run.versions):
        case {"folder": str(began)} if folder is None:
            start = Path(began)
        case _:
            start = folder or run.path
    kept = {name: pipeline[name] for name in ("name", "data") if name in pipeline}
    source = source_of(parse_pipeline(kept, load_catalog(), folder=start))
    return SampledSource(source, run.candidates) if pipeline.get("sample") else source


def _pipeline(run: RunDir) -> Mapping[str, JSON]:
    import yaml

    try:
        pipeline = yaml.safe_load(run.pipeline.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise RunError(f"{run.pipeline} can't be read: {error}") from error
    if not isinstance(pipeline, dict):
        raise RunError(f"{run.pipeline} is no pipeline")
    return pipeline


def _rewards(run: RunDir) -> Iterator[tuple[str, list[Reward]]]:
    """(sample's id, its rewards with their judgements), in the files' order."""
    from lrf.stages.score.results import rewards_by_sample
    from lrf.stages.score.rows import judgement_rows

    judgements = judgement_rows(run.judgements)
    for sample_id, rewards in rewards_by_sample(run.rewards):
        judged = []
        for reward in rewards:
            sample, candidate, its = next(judgements, ("", "", {}))
            if (sample, candidate) != (sample_id, reward.candidate_id):
                raise RunError(
                    f"{run.judgements} doesn't belong to {run.rewards.name}: no row of candidate "
                    f"{reward.candidate_id!r} of sample {sample_id!r} in its place; run `lrf run` again"
                )
            judged.append(replace(reward, judgements=its))
        yield sample_id, judged


def _spooled(run: RunDir) -> Iterator[tuple[str, list[Reward]]]:
    """:func:`_rewards` of a run whose scoring is under way: what its journal has so far."""
    from lrf.stages.score.files import SEPARATOR
    from lrf.stages.score.rows import judgement_of, rewards_of
    from lrf.store.calls import spooled

    for row in spooled(run.journal, SEPARATOR):
        reward_lines, judgement_lines, *_ = row.split(SEPARATOR)
        rewards = rewards_of(map(json.loads, reward_lines.splitlines()))
        judged = [json.loads(line)["judgements"] for line in judgement_lines.splitlines()]
        if rewards:
            yield (
                rewards[0].sample_id,
                [
                    replace(reward, judgements={name: judgement_of(value) for name, value in its.items()})
                    for reward, its in zip(rewards, judged, strict=True)
                ],
            )


def _checked(sample: Sample, rewards: list[Reward], path: Path) -> list[Reward]:
    if [r.candidate_id for r in rewards] != [c.id for c in sample.candidates]:
        raise RunError(f"{path}: the data has changed since: sample {sample.id!r} has other candidates")
    return rewards
