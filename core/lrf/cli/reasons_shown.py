"""A sample's candidates on a terminal: their ratings, and what each rating rests on, the costliest first."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence

import click
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from lrf.cli.output import clean
from lrf.cli.show import number, overview
from lrf.stages.outcome.joined import ScoredCandidate, ScoredSample
from lrf.stages.score.gate import advice
from lrf.text.excerpt import excerpt
from lrf.types import JSON, JudgedStatement, Judgement, Span, Unscored

STATEMENTS_SHOWN = 5
SUPPORTED, PARTLY = 0.99, 0.01
"""Support from which on a statement counts as supported, and below which it counts as unsupported."""

Line = tuple[int, str, str]
"""Indentation, style, text."""


def show_sample(sample: ScoredSample, candidates: Sequence[ScoredCandidate], *, full: bool) -> None:
    """Print the ratings of all candidates, then the reasons of these. ``full``: nothing is shortened."""
    overview(sample)
    console = Console(highlight=False, markup=False, emoji=False)
    for candidate in candidates:
        place = f"rank {candidate.rank}, reward {number(candidate.reward.reward)}" if candidate.rank else "unscored"
        _print(console, [(0, "", ""), (0, "bold reverse", f" {candidate.id}: {place} ")])
        _print(console, _lines(sample, candidate, full=full))
        if not full:
            _print(console, [(0, "dim", f"`lrf show RUN {sample.id} {candidate.id}` has all of it")])


def _print(console: Console, lines: Iterable[Line]) -> None:
    """Lines, wrapped within their indentation on a terminal; elsewhere as they are, so that `grep` finds them whole."""
    for indent, style, text in lines:
        if sys.stdout.isatty():
            console.print(Padding(Text(clean(text, lines=True), style), (0, 0, 0, indent), expand=False))
        else:
            click.echo("\n".join(" " * indent + line for line in clean(text, lines=True).split("\n")))


def _lines(sample: ScoredSample, candidate: ScoredCandidate, *, full: bool) -> Iterator[Line]:
    reward = candidate.reward
    if candidate.text:
        yield 0, "", candidate.text.strip() if full else excerpt(candidate.text)
    if reward.unscored is not None and reward.unscored.dimension not in reward.judgements:
        yield from _unscored(reward.unscored)
    for name, judgement in sorted(reward.judgements.items(), key=lambda item: _cost(item[1])):
        yield 0, "", ""
        if isinstance(judgement, Unscored):
            yield 0, "bold", f"{name}: unscored"
            yield from _unscored(judgement)
        else:
            yield 0, "bold", f"{name}: {judgement.rating:.2f} of 10{_how(judgement)}"
            yield from _grounds(sample, judgement, full=full)


def _cost(judgement: Judgement | Unscored) -> float:
    """Sorts the dimensions: unscored first, then by rating."""
    return -1 if isinstance(judgement, Unscored) else judgement.rating


def _unscored(unscored: Unscored) -> Iterator[Line]:
    yield 2, "red", f"{unscored.reason}: {unscored.detail}" if unscored.detail else unscored.reason
    yield 2, "", f"what helps: {advice(unscored.reason)}"


def _how(judgement: Judgement) -> str:
    """What of the answer or document was not seen, and how far judges disagreed."""
    parts = [f"only {share:.0%} of the {what} seen" for what, share in judgement.seen.items() if share < 1]
    if judgement.extra.get("without_analysis"):
        parts.append("decided by probabilities, without an analysis")
    if judgement.spread:
        parts.append(f"spread {judgement.spread:.2f} over {len(judgement.votes)} votes")
    return f" ({'; '.join(parts)})" if parts else ""


def _grounds(sample: ScoredSample, judgement: Judgement, *, full: bool) -> Iterator[Line]:
    if judgement.analysis and judgement.analysis.strip():
        yield 2, "", judgement.analysis.strip() if full else excerpt(judgement.analysis)
    yield from _items(judgement.extra.get("items") if judgement.reply_mode == "rubric" else None)
    worst_first = sorted(judgement.statements, key=lambda s: s.support)
    shown = worst_first if full else [s for s in worst_first if s.support < SUPPORTED][:STATEMENTS_SHOWN]
    for statement in shown:
        whole = judgement.extra.get("read") == "document"
        yield from _statement(sample, statement, full=full, whole_document=whole)
    if left := len(judgement.statements) - len(shown):
        supported = sum(s.support >= SUPPORTED for s in judgement.statements)
        yield 2, "dim", f"{left} more statements; {supported} of {len(judgement.statements)} are fully supported"
    if full:
        for note in judgement.notes:
            if note.text:
                yield 2, "", f"note on {_where(note.span)}: {note.text.strip()}"


def _items(rows: JSON) -> Iterator[Line]:
    """The items of a rubric with their scores (0 to 1), the costliest first; rows that are none are left out."""
    items = [
        row
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, Mapping)
        and isinstance(row.get("weight"), int | float)
        and isinstance(row.get("score"), int | float | None)
    ]

    def lost(row: Mapping[str, JSON]) -> float:
        if row.get("score") is None:
            return math.inf
        weight, score = float(row["weight"]), float(row["score"])
        return abs(weight) * (score if weight < 0 else 1 - score)

    for row in sorted(items, key=lost, reverse=True):
        score = f"unscored ({row.get('reason')})" if row.get("score") is None else f"{row['score']:.2f}"
        must = ", a must" if row.get("gate") else ""
        yield 2, "", f"{score} {row.get('item')} (weight {row.get('weight'):g}{must})"


def _statement(sample: ScoredSample, statement: JudgedStatement, *, full: bool, whole_document: bool) -> Iterator[Line]:
    style = "green" if statement.support >= SUPPORTED else "red" if statement.support <= PARTLY else "yellow"
    missed = "; found at the second look only" if statement.attribution == "not_retrieved" else ""
    yield 2, style, f"[{statement.verdict}{missed}] {statement.text}"
    place = sample.closest(statement)
    if full and statement.analysis:
        yield 6, "", statement.analysis.strip()
    for quotation in statement.quotations:
        if quotation.span is None:
            yield 6, "dim", f"quoted, but nowhere in the document: {quotation.text}"
    if place is not None and sample.words(place):
        how = f"closest in the {'evidence' if statement.evidence else 'document'}"
        if any(q.span == place for q in statement.quotations):
            how = "quoted"
        yield 6, "italic", f"{_where(place)} ({how}): {' '.join(sample.words(place).split())}"
    if full:
        for span in statement.evidence:
            yield 6, "dim", f"{_where(span)} (evidence): {' '.join(sample.words(span).split())}"
    elif not statement.evidence:
        yield 6, "dim", "judged on the whole document" if whole_document else "no evidence was retrieved"


def _where(span: Span) -> str:
    return f"document {span.document}, {span.start:,}-{span.end:,}"
