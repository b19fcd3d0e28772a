"""An audit's statements in a judge's own words: out as rows to ask about, and back into what the audit asks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from lrf.evaluation.audit_items import Built
from lrf.stages.score.rows import judgement_rows
from lrf.types import JSON, Judgement

REWORDED = {"true": "own", "wrong": "own-wrong"}
"""Statements that are said in other words, and the candidates that these become."""
FORM = "reworded"
LENGTHS = (0.4, 2.5)
"""How long what a judge writes is, at least and at most, in lengths of the statement."""

Texts = Mapping[tuple[str, str], str]


def rows_to_reword(built: Built) -> Iterator[Mapping[str, JSON]]:
    """A row for each statement's sample: the true statement and the wrong one, without the documents."""
    for row in built.rows:
        chosen = [candidate for candidate in row["candidates"] if candidate["id"] in REWORDED]
        if len(chosen) == len(REWORDED):  # else it is a probe's sample
            yield {"id": row["id"], "messages": [{"role": "user", "content": "-"}], "candidates": chosen}


def expected_words(rows: Iterable[Mapping[str, JSON]]) -> Texts:
    """Stand-ins for what a judge will write, for a plan: about as long, with the same numbers."""
    return {(row["id"], c["id"]): f"It is so that {c['text']}" for row in rows for c in row["candidates"]}


def read_reworded(path: Path) -> dict[tuple[str, str], str]:
    """What the judge wrote, by sample and candidate, of a run's ``judgements.jsonl``."""
    return {
        (sample, candidate): judgement.analysis.strip()
        for sample, candidate, judgements in judgement_rows(path)
        for judgement in judgements.values()
        if isinstance(judgement, Judgement) and judgement.analysis
    }


def add_reworded(built: Built, texts: Texts) -> None:
    """Let the audit ask about the statements in these words, too.

    A pair of statements is left out and counted where one of the two texts is missing, has other numbers, is as it was
    or the beginning of it, has tags, or is much longer or shorter: the judge then wrote something else.
    """
    asked = {(one.sample, one.candidate): one for one in built.asked}
    unusable = 0
    for row in built.rows:
        said = {c["id"]: c["text"] for c in row["candidates"] if c["id"] in REWORDED}
        if len(said) < len(REWORDED):
            continue
        new = {name: texts.get((row["id"], name)) for name in said}
        if not all(_usable(said[name], text) for name, text in new.items()):
            unusable += 1
            continue
        for name, own in REWORDED.items():
            text = new[name] or ""
            row["candidates"].append({"id": own, "text": text})
            base = (row["id"], REWORDED["true"]) if name == "wrong" else None
            built.asked.append(
                replace(asked[row["id"], name], candidate=own, form=FORM, characters=len(text), base=base)
            )
    if unusable:
        built.remarks.append(f"statements that the judge did not say in other words as asked, left out: {unusable:,}")


def _usable(statement: str, text: str | None) -> bool:
    if not text or "\n\n" in text or "<" in text.replace("<", "", statement.count("<")):
        return False  # a small model begins the prompt's tags anew
    letters, own = ("".join(re.findall(r"\w", one.casefold())) for one in (statement, text))
    if letters.startswith(own):
        return False  # copied, or copied and cut off
    low, high = LENGTHS
    numbers = [sorted(re.findall(r"\d+", one)) for one in (statement, text)]
    return low * len(statement) <= len(text) <= high * len(statement) and numbers[0] == numbers[1]
