"""The runs in which ``lrf evaluate`` has two policies answer the questions of a pipeline's data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import click

from lrf.errors import BudgetError

if TYPE_CHECKING:
    from lrf.config import Pipeline
    from lrf.planning.plan import Plan
    from lrf.plugin.catalog import Catalog
    from lrf.stages.run_dir import RunDir
    from lrf.stages.summary import RunSummary
    from lrf.types import JSON, Sample


@dataclass(frozen=True, slots=True)
class PolicyRun:
    """A run in which the sampler of ``policy``, a pipeline file, writes one answer to each question of ``base``.

    The directory is ``runs / name``; ``budget`` is what the run may use at most.
    """

    base: Pipeline
    policy: Path
    catalog: Catalog
    runs: Path
    name: str
    budget: str | None = None

    @property
    def files(self) -> RunDir:
        from lrf.stages.run_dir import RunDir

        return RunDir(self.runs.absolute() / self.name)

    def pipeline(self) -> Pipeline:
        """Raises :class:`lrf.errors.ConfigError` for a policy that can't be sampled."""
        from lrf.config import load_pipeline
        from lrf.evaluation.pipelines import sampling_pipeline

        policy, rows = load_pipeline(self.policy, self.catalog), self.files.path / "questions.jsonl"
        return sampling_pipeline(self.base, policy, self.catalog, name=self.name, rows=rows, budget=self.budget)

    def write(self, samples: Iterator[Sample]) -> None:
        """Write the questions."""
        from lrf.evaluation.questions import prompt_row, write_rows

        self.files.path.mkdir(parents=True, exist_ok=True)
        write_rows(map(prompt_row, samples), self.files.path / "questions.jsonl")

    def run(self) -> RunSummary:
        """Sample the answers."""
        from lrf.cli.judging import run_shown

        return run_shown(self.pipeline(), self.catalog, self.runs, self.files, "sample")

    def plan(self) -> Plan:
        """What the sampling will ask and cost."""
        import asyncio

        from lrf.planning.plan import plan_pipeline

        return asyncio.run(plan_pipeline(self.pipeline(), run=self.files))

    def expected(self, number: int) -> Path:
        """Where answers such as a plan expects are: those of the run, else made-up ones of the usual length."""
        from lrf.evaluation.questions import write_rows
        from lrf.planning.sampling import CANDIDATE_TOKENS, expected_answer
        from lrf.rows.formats import rows_of
        from lrf.rows.lines import Row

        if self.files.candidates.is_file():
            return self.files.path
        block = self.pipeline().sample
        answer = expected_answer(number, min(block.generation.max_tokens if block else 1, CANDIDATE_TOKENS))
        path = self.files.path / "expected.jsonl"
        questions = (row.value for row in rows_of(self.files.path / "questions.jsonl") if isinstance(row, Row))
        write_rows(({"sample_id": row["id"], "text": answer} for row in questions), path)
        return path


@dataclass(slots=True)
class Policies:
    """The two policies: answers that are there already, and runs that sample others.

    Parameters
    ----------
    paths: by policy ("a", "b") where its answers are; see :func:`lrf.evaluation.duels.read_answers`.
    runs: those of the policies that are sampled first.
    spent: what the sampling took.
    """

    paths: dict[str, Path]
    runs: Mapping[str, PolicyRun]
    spent: dict[str, JSON] = field(default_factory=dict)

    @classmethod
    def of(cls, base: Pipeline, catalog: Catalog, paths: Mapping[str, Path], runs: Path) -> Self:
        """With a run for each path that is a pipeline file. Raises :class:`lrf.errors.ConfigError`."""
        sampled = {
            policy: PolicyRun(base, path, catalog, runs, f"{base.name}-evaluate-{policy}")
            for policy, path in paths.items()
            if path.suffix in (".yaml", ".yml") and path.is_file()
        }
        for run in sampled.values():
            run.pipeline()
        return cls(dict(paths), sampled)

    def sample(self, samples: Callable[[], Iterator[Sample]], budget: str | None) -> int:
        """Have the policies answer, one after another within one budget. Returns the exit code.

        Raises :class:`lrf.errors.BudgetError` where nothing of the budget is left for a policy.
        """
        from lrf.cli.judging import added, left_of, price_of

        for policy, run in self.runs.items():
            left = left_of(budget, self.spent) if self.spent else budget
            if left == "":
                raise BudgetError(f"the budget is used up before policy {policy} answers; a larger --budget continues")
            run.write(samples())
            click.echo(f"policy {policy} answers:", err=True)
            summary = replace(run, budget=left).run()
            if summary.exit_code:
                return summary.exit_code
            self.spent = added(self.spent, price_of(summary, "sample"))
            self.paths[policy] = run.files.path
        return 0

    def plans(self, samples: Callable[[], Iterator[Sample]]) -> dict[str, Plan]:
        """The plans of the runs. The answers are then those that a plan expects."""
        plans = {}
        for number, (policy, run) in enumerate(self.runs.items()):
            run.write(samples())
            plans[f"policy {policy}"] = run.plan()
            self.paths[policy] = run.expected(number)
        return plans
