"""Blind sheets for people: two answers a question in an order that a hash decides, out and back.

As CSV, or as tasks of Label Studio (its pairwise template). Which policy wrote which answer stands in no sheet: it
follows from the question's id, as :attr:`lrf.evaluation.duels.Duel.first` has it. People say which answer they prefer,
and if they like which one by each dimension.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from lrf.errors import DataError
from lrf.evaluation.baselines import share_of
from lrf.evaluation.duels import Duel, Duels
from lrf.evaluation.measures import Share
from lrf.evaluation.policies import Outcome
from lrf.evaluation.statistics import kappa, krippendorff_alpha, wilson
from lrf.evaluation.tables import Table, shown, shown_share
from lrf.rows.formats import objects_of
from lrf.store.files import dump, replacing
from lrf.types import JSON

PREFERRED = "preferred"
"""The column of the answer that is better on the whole; ``preferred_NAME`` is that by the dimension NAME."""
COLUMNS = ("sample_id", "question", "answer_1", "answer_2", PREFERRED)
LABEL_STUDIO = """<View>
  <Text name="question" value="$question"/>
  <Pairwise name="preferred" toName="answer_1,answer_2"/>
  <Text name="answer_1" value="$answer_1"/>
  <Text name="answer_2" value="$answer_2"/>
{choices}</View>
"""
"""The labelling configuration that the tasks fit."""
_CHOICES = """  <Header value="{name}"/>
  <Choices name="preferred_{name}" toName="question" choice="single">
    <Choice value="1"/><Choice value="tie"/><Choice value="2"/>
  </Choices>
"""

Sheet = Mapping[str, Mapping[str, float]]
"""One person's results for policy a, by column and question: 1 a win, 0.5 a tie, 0 a loss."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_sheet(path: Path, duels: Iterable[Duel], dimensions: Sequence[str] = ()) -> None:
    """Write a sheet: CSV, or where the name ends in .json Label Studio's tasks, and its configuration beside them."""
    columns = (*COLUMNS[:-1], *(f"{PREFERRED}_{name}" for name in dimensions), PREFERRED)
    rows = map(_row, duels)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        if path.suffix == ".json":
            file.write("[")
            for number, row in enumerate(rows):
                task = {"data": {name: text for name, text in row.items() if name != "preferred"}}
                file.write(("," if number else "") + "\n" + dump(task))
            file.write("\n]\n")
        else:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows([_cell(row.get(name, "")) for name in columns] for row in rows)
    if path.suffix == ".json":
        with replacing(path.with_suffix(".xml")) as file:
            file.write(LABEL_STUDIO.format(choices="".join(_CHOICES.format(name=escape(name)) for name in dimensions)))


def _row(duel: Duel) -> dict[str, str]:
    answers = (duel.a, duel.b) if duel.first == "a" else (duel.b, duel.a)
    return dict(zip(COLUMNS, (duel.sample.id, duel.sample.query, *answers, ""), strict=True))


def _cell(text: str) -> str:
    """The text, with an apostrophe before what a spreadsheet would run as a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def read_sheet(path: Path) -> dict[str, dict[str, float]]:
    """One person's results (see :data:`Sheet`); what was left empty is left out.

    Reads the CSV sheet with its ``preferred`` columns filled in (1, 2 or tie), and Label Studio's JSON export.
    Raises :class:`lrf.errors.DataError` with the line of what can't be read.
    """
    results: dict[str, dict[str, float]] = {PREFERRED: {}}
    names: set[str] = set()
    for row, where in objects_of(path):
        data = row.get("data") if isinstance(row.get("data"), Mapping) else row
        name = str((data or {}).get("sample_id") or "").removeprefix("'")
        if not name:
            raise DataError(f"{where}: sample_id: missing")
        first = "a" if share_of("people", name) < 0.5 else "b"
        said = {column: side for column, side in _said(row) if side not in ("", "none")}
        if said and name in names:
            raise DataError(f"{where}: sample_id: {name!r} comes twice")
        names.update([name] if said else [])
        for column, side in said.items():
            if side not in ("1", "2", "tie"):
                raise DataError(f"{where}: {column}: expected 1, 2 or tie; got {side[:40]!r}")
            result = 0.5 if side == "tie" else float((side == "1") == (first == "a"))
            results.setdefault(column, {})[name] = result
    if not names:
        raise DataError(f"{path}: no row has a preferred answer")
    return results


def sheets_of(paths: Sequence[Path], duels: Duels, counts: dict[str, int]) -> list[Sheet]:
    """The sheets, each without the questions that the policies didn't both answer, which are counted.

    Raises :class:`lrf.errors.DataError` as :func:`read_sheet` does, and for a sheet of other questions only.
    """
    known = {duel.sample.id for duel in duels} if paths else set()
    sheets: list[Sheet] = []
    for path in paths:
        sheet = read_sheet(path)
        names = {name for results in sheet.values() for name in results}
        if not names & known:
            raise DataError(f"{path}: none of its {len(names):,} questions is one that both policies answered")
        if others := len(names - known):
            counts[f"rows of {path.name} about other questions, left out"] = others
        sheets.append({column: {n: r for n, r in of.items() if n in known} for column, of in sheet.items()})
    return sheets


def _said(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a row of a sheet or of Label Studio's export says, by column."""
    for column in row:
        if column == PREFERRED or str(column).startswith(f"{PREFERRED}_"):
            yield str(column), str(row[column] or "").strip().lower()
    match row:
        case {"annotations": [{"result": [*results]}, *_]}:
            for result in results:
                column = str(result.get("from_name") or PREFERRED) if isinstance(result, Mapping) else PREFERRED
                match result:
                    case {"value": {"selected": str(side)}}:
                        yield column, {"left": "1", "right": "2"}.get(side, side)
                    case {"value": {"choices": [str(choice), *_]}}:
                        yield column, choice.strip().lower()


def _questions(sheets: Sequence[Sheet], column: str) -> list[str]:
    return list(dict.fromkeys(name for sheet in sheets for name in sheet.get(column, {})))


def _columns(sheets: Sequence[Sheet]) -> list[str]:
    columns = dict.fromkeys(column for sheet in sheets for column in sheet)
    return [column for column in columns if _questions(sheets, column)]


def people_outcomes(sheets: Sequence[Sheet]) -> dict[str, Outcome]:
    """The outcome by the people's mean, "people" on the whole and "people: NAME" by dimension: above a half wins."""
    outcomes: dict[str, Outcome] = {}
    for column in _columns(sheets):
        outcome = outcomes["people" + column.removeprefix(PREFERRED).replace("_", ": ", 1)] = Outcome()
        for name in _questions(sheets, column):
            said = [sheet[column][name] for sheet in sheets if name in sheet.get(column, {})]
            mean = sum(said) / len(said)
            outcome.add(name, 1.0 if mean > 0.5 else 0.0 if mean < 0.5 else 0.5)
    return outcomes


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well people agree with one another and with the judge.

    Parameters
    ----------
    people, questions: how many sheets, and questions in them.
    alpha: Krippendorff's alpha among people, by column; None with one person.
    judges: by what the judge says and the column it is compared with, the share of agreement (a tie on either side is
        half agreement with a win or a loss), Cohen's kappa, and the answers of people that both are known for.
    """

    people: int
    questions: int
    alpha: Mapping[str, float | None]
    judges: Mapping[tuple[str, str], tuple[Share, float | None, int]]

    def as_json(self) -> Mapping[str, JSON]:
        with_judge: dict[str, JSON] = {}
        for (judge, column), (share, kappa_, n) in self.judges.items():
            name = judge if column == PREFERRED else f"{judge}: {column}"
            with_judge[name] = {**share.as_json(), "kappa": kappa_, "n": n}
        return {
            "people": self.people, "questions": self.questions, "alpha": dict(self.alpha), "with_judge": with_judge,
        }  # fmt: skip

    def table(self) -> Table:
        rows = [
            (judge, column, shown_share(share), shown(kappa_), f"{n:,}")
            for (judge, column), (share, kappa_, n) in self.judges.items()
        ]
        return Table("agreement with people", ("judge", "people", "agreement [95%]", "kappa", "n"), rows)

    def remarks(self) -> list[str]:
        alphas = [f"Krippendorff's alpha of people, {name}: {shown(alpha)}" for name, alpha in self.alpha.items()]
        return [f"people: {self.people:,}, of {self.questions:,} questions", *(alphas if self.people > 1 else ())]


def people_agreement(sheets: Sequence[Sheet], judges: Mapping[str, Outcome]) -> Agreement:
    """How well people agree with one another, and with each judge, dimension, and reward without a dimension.

    Each is compared with what people prefer on the whole, a dimension also with what they prefer by it.
    """
    columns = _columns(sheets)
    alpha = {
        column: krippendorff_alpha(
            [[sheet.get(column, {}).get(name) for sheet in sheets] for name in _questions(sheets, column)]
        )
        for column in columns
    }
    compared = [(judge, PREFERRED) for judge in judges]
    compared += [(judge, f"{PREFERRED}_{judge}") for judge in judges]
    found = {}
    for judge, column in compared:
        said = judges[judge].by_question
        both = [(r, said[name]) for sheet in sheets for name, r in sheet.get(column, {}).items() if name in said]
        if both:
            share = wilson(sum(1 - abs(p - j) for p, j in both), len(both))
            found[judge, column] = share, kappa([p for p, _ in both], [j for _, j in both]), len(both)
    questions = {name for column in columns for name in _questions(sheets, column)}
    return Agreement(len(sheets), len(questions), alpha, found)
