"""The table at the end of ``lrf run`` and ``lrf rescore``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from lrf.cli.output import clean, table

if TYPE_CHECKING:
    from lrf.stages.summary import RunSummary

REASONS_SHOWN = 4

Figures = Mapping[str, Any]
"""The figures of a stage, as ``summary.json`` has them."""

Rows = Iterator[tuple[str, str]]


def show(summary: RunSummary) -> None:
    """Print samples, candidates, rewards, pairs, calls, tokens, money, time and files; then alarms and the outcome."""
    stages = summary.stages
    rows = [
        *_data(stages.get("data", {}), stages.get("sample", {})),
        *_sampling(stages.get("sample", {})),
        *_scoring(stages.get("score", {})),
        *_pairs(stages.get("pairs", {})),
        *_number("training steps", stages.get("train", {}).get("steps")),
        *(row for name, figures in stages.items() if name not in KNOWN for row in _other(name, figures)),
        *_skipped(stages),
        ("time", f"{summary.seconds:.1f} s"),
        ("files", f"{summary.run_dir}: {', '.join(summary.files.values())}"),
    ]
    table((summary.run_dir.name, summary.status), rows)
    for alarm in (alarm for figures in stages.values() for alarm in figures.get("alarms", ())):
        click.echo(f"alarm: {clean(alarm['message'])}")
    if summary.message:
        click.echo(f"{summary.status}: {clean(summary.message, lines=True)}", err=True)
    sys.stdout.flush()


KNOWN = ("data", "sample", "score", "pairs", "train")
"""Stages with rows of their own; of another one its whole numbers are shown."""


def _data(data: Figures, sample: Figures) -> Rows:
    bad = data.get("bad_rows")
    yield from _number("samples", data.get("samples"), f" ({bad:,} bad rows left out)" if bad else "")
    candidates = sample.get("candidates") if "sampled" in sample else data.get("candidates")
    dropped = _counts(sample.get("dropped", {})) or "none"
    more = f" ({sample['drawn']:,} sampled; dropped: {dropped})" if "drawn" in sample else ""
    yield from _number("candidates", candidates, more)


def _sampling(sample: Figures) -> Rows:
    left_out = sample.get("left_out")
    yield from _number("not sampled", left_out or None, f" samples ({_counts(sample.get('reasons', {}))})")
    yield from _calls("sampler's calls", sample)


def _scoring(score: Figures) -> Rows:
    yield from _number("scored", score.get("scored"))
    reasons = _counts(score.get("reasons", {}))
    yield from _number("unscored", score.get("unscored"), f" ({reasons})" if reasons else "")
    for name, numbers in score.get("counted", {}).items():
        counted = ", ".join(f"{key.replace('_', ' ')} {n:,}" for key, n in numbers.items() if n)
        if counted:
            yield name, counted
    yield from _calls("judge calls", score)
    if score.get("embedding_calls"):
        yield "embedded texts", f"{score['embedded_texts']:,} in {score['embedding_calls']:,} calls"
    if money := _money(score.get("money", {})):
        yield "money", money


def _calls(label: str, figures: Figures) -> Rows:
    """Calls and tokens of this run; and over all sittings, where there were others."""
    if "calls" not in figures:
        return
    paid, tokens = figures["calls"], figures["prompt_tokens"] + figures["completion_tokens"]
    whole = figures.get("all_sittings", {})
    earlier = bool(whole) and whole["calls"] != paid
    spared = ("reused", "replies reused"), ("faults", "failed"), ("spared", "spared by a cascade")
    notes = ", ".join(f"{figures[name]:,} {words}" for name, words in spared if figures.get(name))
    yield label, _this_run(paid, notes, whole["calls"] if earlier else None)
    read, written = f"{figures['prompt_tokens']:,} read", f"{figures['completion_tokens']:,} written"
    cached = f", {figures['cached_tokens']:,} of them cached" if figures["cached_tokens"] else ""
    notes = f"{read}{cached}; {written}" if tokens else ""
    yield "tokens", _this_run(tokens, notes, whole["tokens"] if earlier else None)


def _this_run(n: int, notes: str, over_all: int | None) -> str:
    more = "" if over_all is None else f"; {over_all:,} over all sittings"
    return f"{n:,} in this run{f' ({notes})' if notes else ''}{more}"


def _pairs(pairs: Figures) -> Rows:
    why = _counts(pairs.get("reasons", {}))
    yield from _number("pairs", pairs.get("pairs"), f" ({pairs['left_out']:,} samples left out: {why})" if why else "")
    out = _counts(pairs.get("unlisted", {}))
    yield from _number("ranked lists", pairs.get("lists"), f" (candidates left out: {out})" if out else "")


def _other(name: str, figures: Figures) -> Rows:
    if numbers := ", ".join(f"{key.replace('_', ' ')} {n:,}" for key, n in figures.items() if type(n) is int):
        yield name, numbers


def _skipped(stages: Mapping[str, Figures]) -> Rows:
    if skipped := ", ".join(name for name, figures in stages.items() if figures.get("skipped")):
        yield "skipped", f"{skipped}: finished by an earlier run"


def _number(label: str, n: int | None, more: str = "") -> Rows:
    if n is not None:
        yield label, f"{n:,}{more}"


def _counts(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {n:,}" for reason, n in list(reasons.items())[:REASONS_SHOWN])


def _money(money: Figures) -> str:
    """What was spent over all sittings, and the models whose calls have no price."""
    spent = ", ".join(f"{n:,.6g} {currency}" for currency, n in money.get("spent", {}).items())
    unpriced = ", ".join(f"{model} ({n:,} calls)" for model, n in money.get("unpriced_calls", {}).items())
    parts = [f"{spent} over all sittings, at the prices of {money['prices']}"] if spent else []
    parts += [f"no price for {unpriced}; `prices:` gives one"] if unpriced else []
    return "; ".join(parts)
