"""``lrf audit``: does the judge of a pipeline find errors that are planted in the user's own documents?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lrf.cli import common_options
from lrf.errors import ConfigError, DataError, GateError

if TYPE_CHECKING:
    from lrf.cli.judging import JudgingRun
    from lrf.config import Pipeline
    from lrf.evaluation.audit import AuditResult
    from lrf.evaluation.audit_items import Built
    from lrf.planning.plan import Plan
    from lrf.plugin.catalog import Catalog
    from lrf.types import JSON

MOST_DOCUMENTS = 200
"""Documents of the data that are taken, so that memory stays flat."""


@click.command()
@click.argument("pipeline", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--document", "-d", "documents", multiple=True,
              type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="A text file to use instead of the documents of the pipeline's data; repeat for more.")  # fmt: skip
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="Sentences to ask about.")
@click.option(
    "--lengths", default="4k", show_default=True, help="Lengths of the contexts in tokens, such as 4k,16k,64k."
)
@common_options.dimensions
@click.option("--reword", "rewords", metavar="JUDGE",
              help="Also ask about sentences in the words of this judge of the pipeline.")  # fmt: skip
@click.option("--probes/--no-probes", default=True, show_default=True, help="Also probe biases and attacks.")
@click.option("--noise", "again", default=0, show_default=True, type=click.IntRange(0, 20),
              help="How many more times to ask the first sentences, to measure noise.")  # fmt: skip
@click.option("--most-noise", default=1.0, show_default=True, type=click.FloatRange(0, min_open=True),
              help="An alarm is raised above this standard deviation of a reward that is asked again.")  # fmt: skip
@common_options.seed
@common_options.budget
@common_options.only_plan
@common_options.runs
@common_options.markdown
@common_options.as_json
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
    from lrf.cli.judging import drawn, need_extra, show_plans, show_tables, write_markdown
    from lrf.cli.output import show_json
    from lrf.config import load_pipeline
    from lrf.evaluation.audit_items import AuditSettings, build
    from lrf.evaluation.figures import draw_audit
    from lrf.plugin.catalog import load_catalog
    from lrf.plugin.suggest import did_you_mean
    from lrf.store.files import write_json

    need_extra("bench", "scipy", "sklearn")
    catalog = load_catalog()
    base = load_pipeline(pipeline, catalog)
    lengths = _lengths(options["lengths"])
    if options["rewords"] is not None and options["rewords"] not in base.judges:
        hint = did_you_mean(options["rewords"], base.judges)
        raise ConfigError(f"--reword: the pipeline's judges are {', '.join(base.judges)}{hint}")
    settings = AuditSettings(options["limit"], lengths, probes=options["probes"], seed=options["seed"])
    built = build(_documents(base, options["documents"]), settings)
    if not built.rows:
        why = "; ".join(built.remarks[:3]) or "there are none"
        raise DataError(f"no errors can be planted in these documents: {why}. Plain prose of some pages will do")
    asking = Audit(base, catalog, built, options)
    if options["only_plan"]:
        show_plans(asking.plans(), asking.main.pipeline(), as_json=as_json)
        return 0
    result, code = asking.result(settings.depths)
    if result is None:
        return code
    result.notes += drawn(lambda: draw_audit(result, asking.main.files.path / "figures"))
    write_json(asking.main.files.path / "audit.json", result.as_json())
    if options["markdown"] is not None:
        write_markdown(options["markdown"], result.tables(), result.remarks())
    if as_json:
        show_json(result.as_json())
    else:
        show_tables(result.tables(), result.remarks())
    return code


@dataclass(slots=True)
class Audit:
    """The runs of an audit: one that rewords, the main one, one that compares, and those that ask again.

    All are within one budget. ``spent`` is what they took so far, ``notes`` what has to be said about them.
    """

    base: Pipeline
    catalog: Catalog
    built: Built
    options: dict[str, Any]
    spent: dict[str, JSON] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def main(self) -> JudgingRun:
        from lrf.cli.judging import JudgingRun

        return JudgingRun(
            self.base, self.catalog, self.options["runs"], f"{self.base.name}-audit", self.options["dimensions"],
            budget=self.options["budget"],
        )  # fmt: skip

    def result(self, depths: int) -> tuple[AuditResult | None, int]:
        """Ask everything. The result is None where nothing was scored."""
        from lrf.evaluation.audit import AuditResult, baseline_scores
        from lrf.evaluation.probes import flip_rate, noise_of, probe

        if self.options["rewords"] is not None:
            self._reword(self.options["rewords"])
        main, code = self._ask(self.main, self.built.rows)
        if main is None:
            return None, code
        scores = _scores(main)
        decisions, times = self._more(scores) if not code else ([], [])
        if code:
            self.notes.append("the run was not finished, so nothing more was asked")
        seed = self.options["seed"]
        everyone = {**scores, **baseline_scores(self.built, seed)}
        notes = [*self.built.remarks, *self.notes]
        result = AuditResult(self.built.asked, everyone, list(scores), seed, depths, price=self.spent, notes=notes)
        repeats = [[one[key] for one in times if key in one] for key in (times[0] if times else {})]
        if self.options["probes"]:
            limit, own = self.options["most_noise"], self.options["rewords"] in self._raters()
            result.probes = probe(self.built.asked, scores["reward"], decisions, repeats, limit, own_words=own)
        if repeats:
            result.noise = noise_of(repeats)
            result.flips = flip_rate(_by_question(times))
        return result, code

    def plans(self) -> dict[str, Plan]:
        """The plans of all runs, by name; the statements that a judge is to reword stand as they are."""
        from lrf.evaluation.rewording import add_reworded, expected_words, rows_to_reword

        main, runs = self.main, []
        if self.options["rewords"] is not None:
            rows = list(rows_to_reword(self.built))
            runs.append((self._rewording(self.options["rewords"]), rows))
            add_reworded(self.built, expected_words(rows))
        runs.append((main, self.built.rows))
        if self._compares:
            runs.append((self._comparing, self.built.comparisons))
        runs += [(self._again(number), self._asked_again()) for number in range(self.options["again"])]
        plans = {}
        for run, rows in runs:
            if rows and (run == main or self._possible(run)):
                run.write(iter(rows))
                plans[run.name.removeprefix(main.name).lstrip("-")] = run.plan()
        return plans

    def _possible(self, run: JudgingRun) -> bool:
        """Whether the pipeline can ask this; why not is noted."""
        try:
            run.pipeline()
        except ConfigError as error:
            self.notes.append(f"not asked ({run.name.removeprefix(self.main.name).lstrip('-')}): {error}")
            return False
        return True

    # --- the runs ------------------------------------------------------------------------------------------------

    def _rewording(self, judge: str) -> JudgingRun:
        return replace(self.main, name=f"{self.main.name}-reword", dimensions=(), rewrites=judge)

    @property
    def _compares(self) -> bool:
        return bool(self.options["probes"] and self.base.judges)

    @property
    def _comparing(self) -> JudgingRun:
        return replace(self.main, name=f"{self.main.name}-compare", dimensions=(), comparison="", outlook=False)

    def _again(self, number: int) -> JudgingRun:
        return replace(self.main, name=f"{self.main.name}-again-{number + 1}", cached=False, outlook=False)

    def _asked_again(self) -> list[Any]:
        """The rows of the first sentences, without those of their probes."""
        return [row for row in self.built.rows if not row["id"].split("-", 2)[2:]][:5]

    # --- asking --------------------------------------------------------------------------------------------------

    def _raters(self) -> set[str]:
        """The judges that rate."""
        wanted = self.options["dimensions"]
        blocks = [block for block in self.base.dimensions if not wanted or block.name in wanted]
        return {judge for block in blocks for judge in block.raters}

    def _reword(self, judge: str) -> None:
        """Have a judge say the statements in other words, and ask about these, too."""
        from lrf.evaluation.rewording import add_reworded, read_reworded, rows_to_reword

        done, _ = self._ask(self._rewording(judge), list(rows_to_reword(self.built)))
        if done is not None:
            add_reworded(self.built, read_reworded(done.files.judgements))

    def _more(self, scores: Any) -> tuple[list[Any], list[dict[tuple[str, str], float]]]:
        """The decisions of the comparisons, and the scores of each time that was asked."""
        decisions: list[Any] = []
        times: list[dict[tuple[str, str], float]] = []
        if self._compares:
            compared, _ = self._ask(self._comparing, self.built.comparisons)
            decisions = [] if compared is None else _decisions(compared)
        if self.options["again"]:
            rows = self._asked_again()
            keys = {(row["id"], c["id"]) for row in rows for c in row["candidates"]}
            times.append({key: s for key, s in scores["reward"].items() if key in keys})
            for number in range(self.options["again"]):
                again, _ = self._ask(self._again(number), rows)
                times += [] if again is None else [_scores(again)["reward"]]
        return decisions, times

    def _ask(self, run: JudgingRun, rows: Sequence[Any]) -> tuple[JudgingRun | None, int]:
        """One run within what is left of the budget, and its exit code; None instead of the run if it has no scores."""
        from lrf.cli.judging import added, left_of, price_of

        what = run.name.removeprefix(self.main.name).lstrip("-") or "statements"
        budget = left_of(self.options["budget"], self.spent) if self.spent else self.options["budget"]
        if budget == "":
            self.notes.append(f"not asked, since the budget is used up: {what}")
        if budget == "" or not rows:
            return None, 0
        run = replace(run, budget=budget)
        if run.name != self.main.name and not self._possible(run):
            return None, 0
        run.write(iter(rows))
        summary = run.run()
        self.spent = added(self.spent, price_of(summary))
        if summary.stages.get("score", {}).get("scored"):
            return run, summary.exit_code
        why = summary.message or "no answer has a score"
        self.notes.append(f"not measured ({what}): {why.splitlines()[0]}")
        return None, summary.exit_code or GateError.exit_code


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


def _scores(run: JudgingRun) -> dict[str, dict[tuple[str, str], float]]:
    return {
        judge: {(sample, candidate): s for sample, of in samples.items() for candidate, s in of.items()}
        for judge, samples in run.scores().items()
        if not judge.startswith("without ")
    }


def _decisions(run: JudgingRun) -> list[Any]:
    from lrf.evaluation.judgements import decision_of

    rated = run.scores()["reward"].values()
    return [(decision_of(of.get("given"), "1", "2"), decision_of(of.get("swapped"), "2", "1")) for of in rated]


def _by_question(times: Sequence[dict[tuple[str, str], float]]) -> dict[str, list[dict[str, float]]]:
    questions = dict.fromkeys(sample for one in times for sample, _ in one)
    return {
        question: [{c: s for (sample, c), s in one.items() if sample == question} for one in times]
        for question in questions
    }
