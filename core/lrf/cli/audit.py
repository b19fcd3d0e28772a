"""``lrf audit``: does the judge of a pipeline find errors that are planted in the user's own documents?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lrf.errors import ConfigError, DataError

if TYPE_CHECKING:
    from lrf.config import Pipeline
    from lrf.evaluation.audit import AuditResult
    from lrf.evaluation.audit_items import Built
    from lrf.plugin.catalog import Catalog
    from lrf.stages.summary import RunSummary
    from lrf.types import JSON

MOST_DOCUMENTS = 200
"""Documents of the data that are taken, so that memory stays flat."""


@click.command()
@click.argument("pipeline", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--document", "-d", "documents", multiple=True,
              type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="A text file to use instead of the documents of the pipeline's data; repeat for more.")  # fmt: skip
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="Sentences to ask about.")
@click.option("--lengths", default="4k", show_default=True, help="Tokens of the contexts, such as 4k,16k,64k.")
@click.option("--dimension", "dimensions", multiple=True, help="Only this dimension of the pipeline; repeat for more.")
@click.option("--probes/--no-probes", default=True, show_default=True, help="Also probe biases and attacks.")
@click.option("--noise", "again", default=0, show_default=True, type=click.IntRange(0, 20),
              help="How many more times to ask the first sentences, to measure noise.")  # fmt: skip
@click.option("--most-noise", default=1.0, show_default=True, type=click.FloatRange(0, min_open=True),
              help="The standard deviation of a reward that is no alarm yet.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of all chance.")
@click.option("--budget", help="What may be paid at most: money=N, calls=N or tokens=N.")
@click.option("--plan", "only_plan", is_flag=True, help="Show what it will ask and cost, and ask nothing.")
@click.option("--runs", type=click.Path(file_okay=False, path_type=Path), default=Path("runs"), show_default=True,
              help="The folder of run directories.")  # fmt: skip
@click.option("--markdown", type=click.Path(dir_okay=False, path_type=Path), help="Write the tables to this file, too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def audit(pipeline: Path, as_json: bool, **options: Any) -> int:
    """Ask the judge of PIPELINE about planted errors in your own documents, as it would be asked in a run.

    True sentences are taken from the documents, word for word and in other words, and made wrong in known ways: a
    number, a date, a name, a negation, a relation, the scope, or a sentence of another document. They are placed at
    known depths in contexts of known length. The tables say how many errors are found, by kind, depth and length,
    beside baselines; probes say whether length, form, place, or an order in the text wins a reward.

    Replies are kept in RUNS/PIPELINE-audit, where the same command continues, as are the result (audit.json, which
    `lrf report` shows with the figures of a run of PIPELINE) and three figures (with the extra figures). The exit code
    is that of the run that asked the judge.
    """
    from lrf.cli.judging import need_extra, show_plan, show_tables, write_markdown
    from lrf.cli.output import show_json
    from lrf.config import load_pipeline
    from lrf.evaluation.audit_items import AuditSettings, build
    from lrf.plugin.catalog import load_catalog
    from lrf.store.files import write_json

    need_extra("bench", "scipy", "sklearn")
    catalog = load_catalog()
    base = load_pipeline(pipeline, catalog)
    lengths = _lengths(options["lengths"])
    settings = AuditSettings(options["limit"], lengths, probes=options["probes"], seed=options["seed"])
    built = build(_documents(base, options["documents"]), settings)
    if not built.rows:
        why = "; ".join(built.remarks[:3]) or "there are none"
        raise DataError(f"no errors can be planted in these documents: {why}. Plain prose of some pages will do")
    asking = Asking(base, catalog, built, options)
    if options["only_plan"]:
        show_plan(asking.prepared(), options["runs"], as_json=as_json)
        return 0
    result, code = asking.result(settings.depths)
    if result is None:
        return code
    result.notes += asking.draw(result)
    write_json(asking.folder() / "audit.json", result.as_json())
    if options["markdown"] is not None:
        write_markdown(options["markdown"], result.tables(), result.remarks())
    if as_json:
        show_json(result.as_json())
    else:
        show_tables(result.tables(), result.remarks())
    return code


@dataclass(slots=True)
class Asking:
    """The runs of an audit: the main one, one that compares, and those that ask again; all within one budget."""

    base: Pipeline
    catalog: Catalog
    built: Built
    options: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.base.name}-audit"

    def folder(self, suffix: str = "") -> Path:
        runs: Path = self.options["runs"]
        return runs.absolute() / f"{self.name}{suffix}"

    def prepared(
        self, suffix: str = "", rows: Sequence[Any] | None = None, *, budget: str | None = None, compare: bool = False
    ) -> Pipeline:
        """The pipeline of one of the runs, with its questions written."""
        from lrf.evaluation.pipelines import judging_pipeline
        from lrf.evaluation.questions import write_rows

        folder = self.folder(suffix)
        folder.mkdir(parents=True, exist_ok=True)
        write_rows(iter(self.built.rows if rows is None else rows), folder / "questions.jsonl")
        return judging_pipeline(
            self.base, self.catalog, name=f"{self.name}{suffix}", rows=folder / "questions.jsonl",
            dimensions=() if compare else self.options["dimensions"], budget=budget or self.options["budget"],
            comparison="" if compare else None, cached=not suffix.startswith("-again"),
        )  # fmt: skip

    def result(self, depths: int) -> tuple[AuditResult | None, int]:
        """Ask everything. The result is None where nothing was scored."""
        from lrf.cli.judging import price_of, run_judging
        from lrf.evaluation.audit import AuditResult, baseline_scores
        from lrf.evaluation.probes import flip_rate, noise_of, probe

        summary = run_judging(self.prepared(), self.catalog, self.options["runs"])
        if "score" not in summary.stages:
            return None, summary.exit_code
        spent, notes = price_of(summary), list(self.built.remarks)
        scores = _scores(self.folder())
        decisions, times = self._more(summary, spent, notes)
        seed = self.options["seed"]
        everyone = {**scores, **baseline_scores(self.built, seed)}
        result = AuditResult(self.built.asked, everyone, list(scores), seed, depths, price=spent, notes=notes)
        repeats = [[one[key] for one in times if key in one] for key in (times[0] if times else {})]
        if self.options["probes"]:
            limit = self.options["most_noise"]
            result.probes = probe(self.built.asked, scores["reward"], decisions, repeats, limit)
        if repeats:
            result.noise = noise_of(repeats)
            result.flips = flip_rate(_by_question(times))
        return result, summary.exit_code

    def _more(
        self, summary: RunSummary, spent: dict[str, JSON], notes: list[str]
    ) -> tuple[list[Any], list[dict[tuple[str, str], float]]]:
        """The decisions of the comparisons, and the scores of each time that was asked; what is spent grows."""
        decisions: list[Any] = []
        times: list[dict[tuple[str, str], float]] = []
        if summary.exit_code:
            notes.append("the run was not finished, so nothing more was asked")
            return decisions, times
        if (
            self.options["probes"]
            and self.base.judges
            and self._ask_more("-compare", self.built.comparisons, spent, notes)
        ):
            decisions = _decisions(self.folder("-compare"))
        if self.options["again"]:
            rows = [row for row in self.built.rows if not row["id"].split("-", 2)[2:]][:5]
            keys = {(row["id"], c["id"]) for row in rows for c in row["candidates"]}
            times.append({key: s for key, s in _scores(self.folder())["reward"].items() if key in keys})
            for number in range(self.options["again"]):
                if self._ask_more(f"-again-{number + 1}", rows, spent, notes):
                    times.append(_scores(self.folder(f"-again-{number + 1}"))["reward"])
        return decisions, times

    def _ask_more(self, suffix: str, rows: Sequence[Any], spent: dict[str, JSON], notes: list[str]) -> bool:
        """One more run, within what is left of the budget; returns whether it has scores."""
        from lrf.cli.judging import left_of, price_of, run_judging

        budget = left_of(self.options["budget"], spent)
        if not rows or budget == "":
            notes.append(f"not asked, since the budget is used up: {suffix[1:]}")
            return False
        compare = suffix == "-compare"
        try:
            pipeline = self.prepared(suffix, rows, budget=budget, compare=compare)
        except ConfigError as error:
            notes.append(f"not asked ({suffix[1:]}): {error}")
            return False
        summary = run_judging(pipeline, self.catalog, self.options["runs"])
        for unit, amount in price_of(summary).items():
            if isinstance(amount, dict):
                known = dict(spent[unit] or {})
                spent[unit] = {key: known.get(key, 0) + value for key, value in amount.items()}
            elif amount is not None:
                spent[unit] = (spent[unit] or 0) + amount
        if "score" not in summary.stages:
            notes.append(f"not measured ({suffix[1:]}): {(summary.message or summary.status).splitlines()[0]}")
        return "score" in summary.stages

    def draw(self, result: AuditResult) -> list[str]:
        """Draw the figures into the run's folder, and say where they are, or which extra is missing."""
        from importlib.util import find_spec

        if find_spec("matplotlib") is None:
            return ["no figures: pip install 'lrf[figures]'"]
        from lrf.evaluation.figures import draw_audit

        paths = draw_audit(result, self.folder() / "figures")
        return [f"figures: {', '.join(map(str, paths))}"]


def _lengths(text: str) -> tuple[int, ...]:
    lengths = []
    for part in text.split(","):
        digits = part.strip().lower()
        factor = 1000 if digits.endswith("k") else 1
        digits = digits.removesuffix("k")
        if not digits.isdecimal() or not 200 <= int(digits) * factor <= 2_000_000:
            raise ConfigError(f"--lengths: expected numbers of tokens from 200, such as 4k,16k; got {part.strip()!r}")
        lengths.append(int(digits) * factor)
    return tuple(lengths)


def _documents(base: Pipeline, files: tuple[Path, ...]) -> list[str]:
    """The texts to plant errors in: of the files, else of the pipeline's data, each once."""
    from lrf.build import source_of
    from lrf.rows.values import text_problem
    from lrf.stages.reading import good_samples

    if not files:
        texts: dict[str, None] = {}
        for document in (d for sample in good_samples(source_of(base)) for d in sample.documents):
            texts[document.text] = None
            if len(texts) == MOST_DOCUMENTS:
                break
        return list(texts)
    found = []
    for path in files:
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not UTF-8 text (byte {error.start})") from None
        if problem := text_problem(text):
            raise DataError(f"{path}: {problem}")
        found.append(text)
    return list(dict.fromkeys(found))


def _scores(folder: Path) -> dict[str, dict[tuple[str, str], float]]:
    from lrf.evaluation.judgements import read_rewards

    read = read_rewards(folder / "rewards.jsonl")
    return {
        judge: {(sample, candidate): s for sample, of in samples.items() for candidate, s in of.items()}
        for judge, samples in read.items()
        if not judge.startswith("without ")
    }


def _decisions(folder: Path) -> list[Any]:
    from lrf.evaluation.judgements import decision_of, read_rewards

    rated = read_rewards(folder / "rewards.jsonl")["reward"].values()
    return [(decision_of(of.get("given"), "1", "2"), decision_of(of.get("swapped"), "2", "1")) for of in rated]


def _by_question(times: Sequence[dict[tuple[str, str], float]]) -> dict[str, list[dict[str, float]]]:
    questions = dict.fromkeys(sample for one in times for sample, _ in one)
    return {
        question: [{c: s for (sample, c), s in one.items() if sample == question} for one in times]
        for question in questions
    }
