"""Live progress: one moving line on a terminal, a plain line now and then where output is piped."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from lrf.cli.output import clean

EVERY_S = 5.0


def line_of(p: Mapping[str, Any]) -> str:
    """One line for a progress message of a stage."""
    stage = p["stage"]
    if stage == "stop":
        return f"{p['signal']}: finishing the calls in flight; once more to end at once"
    if p.get("begins"):
        return f"{stage} …"
    if stage == "score":
        unscored = f", {p['unscored']:,} unscored" if p["unscored"] else ""
        faults = f", {p['faults']:,} faults" if p["faults"] else ""
        return (
            f"score  {p['samples']:,}/{p['of_samples']:,} samples"
            f"  {p['candidates']:,}/{p['of_candidates']:,} candidates"
            f"{unscored}  {p['calls']:,} calls, {p['in_flight']} in flight, {p['reused']:,} reused{faults}"
            f"  {p['tokens']:,} tokens{_stuck(p.get('stuck'))}"
        )
    if stage == "sample":
        out = f", {p['left_out']:,} left out" if p["left_out"] else ""
        faults = f", {p['faults']:,} faults" if p["faults"] else ""
        return (
            f"sample {p['samples']:,}/{p['of_samples']:,} samples{out}  {p['candidates']:,} candidates"
            f"  {p['calls']:,} calls, {p['in_flight']} in flight, {p['reused']:,} reused{faults}"
            f"  {p['tokens']:,} tokens"
        )
    rest = "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in p.items() if k != "stage")
    return clean(f"{stage:6} {rest}")


def _stuck(found: Mapping[str, Any] | None) -> str:
    """The end of the line when nothing moves: the call that is stuck."""
    if not found:
        return ""
    if "judge" not in found:
        return f"; nothing moves for {found['seconds']} s: every call waits for its next try"
    what = clean(f"{found['dimension']} ({found['kind']}) of sample {found['sample']} by {found['judge']}")
    return f"; stuck for {found['seconds']} s: {what}"


@contextmanager
def progress() -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """A function that takes progress messages, from any thread."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.text import Text

        console = Console(stderr=True)
        with console.status(Text("…")) as status:

            def live(p: Mapping[str, Any]) -> None:
                with suppress(OSError):
                    if p["stage"] == "stop":
                        console.print(Text(line_of(p)))
                    else:
                        status.update(Text(line_of(p)))

            yield live
        return
    last: dict[str, float] = {}
    latest: dict[str, str] = {}

    def plain(p: Mapping[str, Any]) -> None:
        stage, now = p["stage"], time.monotonic()
        latest[stage] = line_of(p)
        if now - last.get(stage, float("-inf")) >= EVERY_S or p.get("begins") or stage == "stop":
            last[stage] = now
            _write(latest.pop(stage))

    yield plain
    for line in latest.values():
        _write(line)


def _write(line: str) -> None:
    """A line on standard error. The run goes on when nobody reads it any more."""
    with suppress(OSError):
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
