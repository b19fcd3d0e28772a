"""Two policies' answers as AlpacaEval and MT-Bench read them, and the verdicts of these tools back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

from lrf.errors import DataError
from lrf.evaluation.duels import Duel, Duels
from lrf.evaluation.policies import Outcome
from lrf.rows.formats import objects_of
from lrf.store.files import dump, replacing

NAMES = ("a", "b")
"""The policies' names in the files."""


def write_for_others(folder: Path, duels: Duels) -> list[Path]:
    """Write the answers for both tools into a folder, and return the files.

    AlpacaEval: ``alpaca_eval/a.json`` and ``b.json`` (instruction, output, generator), for ``--model_outputs`` and
    ``--reference_outputs``. MT-Bench (FastChat): ``mt_bench/question.jsonl`` and ``mt_bench/model_answer/a.jsonl`` and
    ``b.jsonl``, of a conversation the last two turns. Questions are numbered from 1, as ``question_id`` has to be a
    number; documents are not written, since these tools show a judge the question alone.
    """
    alpaca = [folder / "alpaca_eval" / f"{name}.json" for name in NAMES]
    answers = [folder / "mt_bench" / "model_answer" / f"{name}.jsonl" for name in NAMES]
    questions = folder / "mt_bench" / "question.jsonl"
    files = [*alpaca, questions, *answers]
    with ExitStack() as stack:
        for path in files:
            path.parent.mkdir(parents=True, exist_ok=True)
        out = {path: stack.enter_context(replacing(path)) for path in files}
        for number, duel in enumerate(duels, start=1):
            asked, *earlier = ([one] for one in duel.before) if duel.before else ([], [], [])
            question = {"question_id": number, "category": "generic", "turns": [*asked, duel.sample.query]}
            out[questions].write(dump(question) + "\n")
            for n, (name, text, own, its) in enumerate(zip(NAMES, (duel.a, duel.b), alpaca, answers, strict=True)):
                row = {"instruction": duel.sample.query, "output": text, "generator": name, "dataset": duel.sample.id}
                out[own].write(("[" if number == 1 else ",") + "\n" + dump(row))
                choice = {"index": 0, "turns": [*earlier[n], text]}
                answer = {"question_id": number, "answer_id": duel.sample.id, "model_id": name, "choices": [choice]}
                out[its].write(dump(answer) + "\n")
        for path in alpaca:
            out[path].write("\n]\n" if len(duels) else "[]\n")
    return files


def read_verdicts(path: Path, duels: Duels) -> Outcome:
    """Wins, ties and losses of policy a by AlpacaEval's annotations, or MT-Bench's judgements of pairs or of answers.

    AlpacaEval's ``preference`` is from 1 (output_1 is better) to 2; 1.5 is a tie. MT-Bench's rule: a win needs both
    orders, a tie or a disagreement is a tie; scores of single answers are compared by question. Of a conversation each
    turn counts; the first is passed over where both policies have the same answer there, which is the data's. Verdicts
    that the tools could not read ("error", null, -1) are missing. Raises :class:`lrf.errors.DataError`.
    """
    asked = {str(number): _Asked.of(duel) for number, duel in enumerate(duels, start=1)}
    by_question, ids = {duel.sample.query: duel.sample.id for duel in duels}, {one.id for one in asked.values()}
    outcome = Outcome()
    singles: dict[str, dict[str, list[float]]] = {}
    for row, where in objects_of(path):
        if "preference" in row:
            outcome.add(_alpaca_id(row, by_question, ids, where), _alpaca(row, where))
        elif "g1_winner" in row:
            if question := _question(asked, row, where):
                outcome.add(question, _mt_pair(row, where))
        elif "score" in row and row.get("model") in NAMES:
            question = _question(asked, row, where)
            of = singles.setdefault(question, {}) if question else {}
            if isinstance(row["score"], int | float) and 0 <= row["score"] < math.inf:
                of.setdefault(str(row["model"]), []).append(float(row["score"]))
        else:
            raise DataError(f"{where}: expected AlpacaEval's annotations (preference) or MT-Bench's judgements "
                            f"(g1_winner and g2_winner, or score) of the models {' and '.join(NAMES)}")  # fmt: skip
    for question, of in singles.items():
        both = [sum(scores) / len(scores) for name in NAMES if (scores := of.get(name))]
        outcome.add(question, None if len(both) < 2 else 0.5 if both[0] == both[1] else float(both[0] > both[1]))
        outcome.differences += [both[0] - both[1]] if len(both) == 2 else []
    if not outcome.by_question and not outcome.missing:
        raise DataError(f"{path}: no verdict in it")
    return outcome


def _alpaca_id(row: Mapping[str, Any], questions: Mapping[str, str], ids: Set[str], where: str) -> str:
    id_ = str(row.get("dataset"))
    if id_ not in ids:
        id_ = questions.get(str(row.get("instruction")), "")
    if not id_:
        raise DataError(f"{where}: dataset, instruction: neither is one of the questions that were written")
    return id_


def _alpaca(row: Mapping[str, Any], where: str) -> float | None:
    generators = (row.get("generator_1"), row.get("generator_2"))
    if set(generators) != set(NAMES):
        raise DataError(f"{where}: generator_1, generator_2: expected the models {' and '.join(NAMES)}")
    preference = row["preference"]
    if not isinstance(preference, int | float) or not 1 <= preference <= 2:
        return None
    second = 0.5 if preference == 1.5 else float(preference > 1.5)
    return second if generators[1] == "a" else 1 - second


def _mt_pair(row: Mapping[str, Any], where: str) -> float | None:
    models = (row.get("model_1"), row.get("model_2"))
    if set(models) != set(NAMES):
        raise DataError(f"{where}: model_1, model_2: expected the models {' and '.join(NAMES)}")
    winners = (row["g1_winner"], row.get("g2_winner"))
    if not set(winners) <= {"model_1", "model_2", "tie"}:
        return None
    if "tie" in winners or winners[0] != winners[1]:
        return 0.5
    return float(models[("model_1", "model_2").index(cast(str, winners[0]))] == "a")


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question that was written for MT-Bench. ``same``: whether both policies' first turns are the same."""

    id: str
    turns: int
    same: bool

    @classmethod
    def of(cls, duel: Duel) -> Self:
        return cls(
            duel.sample.id, 2 if duel.before else 1, duel.before is not None and duel.before[1] == duel.before[2]
        )


def _question(asked: Mapping[str, _Asked], row: Mapping[str, Any], where: str) -> str:
    """The question that a judgement is of, with the turn where it isn't the last; "" for one that doesn't count."""
    number = str(row.get("question_id"))
    if number not in asked:
        raise DataError(f"{where}: question_id: {number[:40]!r} is none of the questions that were written")
    one = asked[number]
    if row.get("turn") != 1 or one.turns == 1:
        return one.id
    return "" if one.same else f"{one.id}, turn 1"
