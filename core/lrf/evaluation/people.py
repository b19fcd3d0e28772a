"""Blind sheets for people: two answers a question in an order that a hash decides, out and back.

As CSV, or as tasks of Label Studio (its pairwise template). Which policy wrote which answer stands in no sheet: it
follows from the question's id, as :attr:`lrf.evaluation.duels.Duel.first` has it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lrf.errors import DataError
from lrf.evaluation.baselines import share_of
from lrf.evaluation.duels import Duel, Duels
from lrf.evaluation.policies import Outcome
from lrf.evaluation.statistics import kappa, krippendorff_alpha
from lrf.rows.formats import rows_of
from lrf.store.files import dump, replacing
from lrf.types import JSON, BadRow

COLUMNS = ("sample_id", "question", "answer_1", "answer_2", "preferred")
LABEL_STUDIO = """<View>
  <Text name="question" value="$question"/>
  <Pairwise name="preferred" toName="answer_1,answer_2"/>
  <Text name="answer_1" value="$answer_1"/>
  <Text name="answer_2" value="$answer_2"/>
</View>
"""
"""The labelling configuration that the tasks fit."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_sheet(path: Path, duels: Iterable[Duel]) -> None:
    """Write a sheet: CSV, or where the name ends in .json Label Studio's tasks, and its configuration beside them."""
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
            writer.writerow(COLUMNS)
            writer.writerows([_cell(row[name]) for name in COLUMNS] for row in rows)
    if path.suffix == ".json":
        with replacing(path.with_suffix(".xml")) as file:
            file.write(LABEL_STUDIO)


def _row(duel: Duel) -> dict[str, str]:
    answers = (duel.a, duel.b) if duel.first == "a" else (duel.b, duel.a)
    return dict(zip(COLUMNS, (duel.sample.id, duel.sample.query, *answers, ""), strict=True))


def _cell(text: str) -> str:
    """The text, with an apostrophe before what a spreadsheet would run as a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def read_sheet(path: Path) -> dict[str, float]:
    """One person's results for policy a by question: 1 a win, 0.5 a tie, 0 a loss. Questions left empty are left out.

    Reads the CSV sheet with ``preferred`` filled in (1, 2 or tie), and Label Studio's JSON export.
    Raises :class:`lrf.errors.DataError` with the line of what can't be read.
    """
    results: dict[str, float] = {}
    for row in rows_of(path):
        where = f"{row.file}:{row.line}"
        if isinstance(row, BadRow) or not isinstance(row.value, Mapping):
            raise DataError(f"{where}: {row.message if isinstance(row, BadRow) else 'expected an object'}")
        data = row.value.get("data") if isinstance(row.value.get("data"), Mapping) else row.value
        name = str((data or {}).get("sample_id") or "").removeprefix("'")
        said = _said(row.value).strip().lower()
        if not name:
            raise DataError(f"{where}: sample_id: missing")
        if said in ("", "none"):
            continue
        if said not in ("1", "2", "tie"):
            raise DataError(f"{where}: preferred: expected 1, 2 or tie; got {said[:40]!r}")
        if name in results:
            raise DataError(f"{where}: sample_id: {name!r} comes twice")
        first = "a" if share_of("people", name) < 0.5 else "b"
        results[name] = 0.5 if said == "tie" else float((said == "1") == (first == "a"))
    if not results:
        raise DataError(f"{path}: no row has a preferred answer")
    return results


def sheets_of(paths: Sequence[Path], duels: Duels, counts: dict[str, int]) -> list[dict[str, float]]:
    """The sheets, each without the questions that the policies didn't both answer, which are counted.

    Raises :class:`lrf.errors.DataError` as :func:`read_sheet` does, and for a sheet of other questions only.
    """
    known = {duel.sample.id for duel in duels} if paths else set()
    sheets = []
    for path in paths:
        sheet = read_sheet(path)
        sheets.append({name: result for name, result in sheet.items() if name in known})
        if not sheets[-1]:
            raise DataError(f"{path}: none of its {len(sheet):,} questions is one that both policies answered")
        if others := len(sheet) - len(sheets[-1]):
            counts[f"rows of {path.name} about other questions, left out"] = others
    return sheets


def _said(row: Mapping[str, Any]) -> str:
    if "preferred" in row:
        return str(row["preferred"] or "")
    match row:
        case {"annotations": [{"result": [{"value": {"selected": str(side)}}, *_]}, *_]}:
            return {"left": "1", "right": "2"}.get(side, side)
        case {"annotations": [{"result": [{"value": {"choices": [str(choice), *_]}}, *_]}, *_]}:
            return choice
    return ""


def people_outcome(sheets: Sequence[Mapping[str, float]]) -> Outcome:
    """The outcome by the people's mean: above a half is a win."""
    outcome = Outcome()
    for name in dict.fromkeys(name for sheet in sheets for name in sheet):
        said = [sheet[name] for sheet in sheets if name in sheet]
        mean = sum(said) / len(said)
        outcome.add(name, 1.0 if mean > 0.5 else 0.0 if mean < 0.5 else 0.5)
    return outcome


def people_agreement(sheets: Sequence[Mapping[str, float]], judge: Mapping[str, float]) -> Mapping[str, JSON]:
    """How well people agree with one another (Krippendorff's alpha) and with the judge (share and Cohen's kappa).

    The share of agreement takes a tie on either side as half agreement with a win or a loss.
    """
    names = list(dict.fromkeys(name for sheet in sheets for name in sheet))
    both = [(sheet[name], judge[name]) for sheet in sheets for name in sheet if name in judge]
    alpha = krippendorff_alpha([[sheet.get(name) for sheet in sheets] for name in names]) if len(sheets) > 1 else None
    return {
        "people": len(sheets),
        "questions": len(names),
        "alpha": alpha,
        "with_judge": sum(1 - abs(p - j) for p, j in both) / len(both) if both else None,
        "kappa": kappa([p for p, _ in both], [j for _, j in both]),
    }
