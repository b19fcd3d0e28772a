"""Figures of audits and benchmarks, drawn by matplotlib (the extra ``figures``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lrf.evaluation.audit import AuditResult
from lrf.evaluation.bench import BenchResult
from lrf.evaluation.measures import Share
from lrf.evaluation.statistics import wilson

GROUPS_SHOWN = 40


def draw_audit(result: AuditResult, folder: Path) -> list[Path]:
    """Draw reliability, accuracy by depth and length, and reward against length, as PNG files in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        _drawn(folder / "reliability.png", lambda axes: _reliability(result, axes)),
        _drawn(folder / "accuracy.png", lambda axes: _accuracy(result, axes)),
        _drawn(folder / "length.png", lambda axes: _length(result, axes)),
    ]


def draw_bench(result: BenchResult, folder: Path) -> list[Path]:
    """Draw the accuracy of judges and baselines, and that by group where there are several, as PNG files in a folder.

    Nothing is drawn where no question can be counted right.
    """
    everyone = {name: result.accuracy(name) for name in result.figures}
    groups = {name or "-": wilson(sum(c), len(c)) for name, c in list(result.groups.items())[:GROUPS_SHOWN] if c}
    wanted: dict[str, tuple[str, Mapping[str, Share]]] = {}
    if any(share.value is not None for share in everyone.values()):
        wanted["accuracy"] = f"{result.benchmark}: accuracy of single questions", everyone
        if len(groups) > 1:
            wanted["groups"] = f"{result.benchmark}: {result.judges[0]} by group", groups
    folder.mkdir(parents=True, exist_ok=True)
    return [_drawn(folder / f"{file}.png", partial(_shares, *of)) for file, of in wanted.items()]


def _shares(title: str, shares: Mapping[str, Share], axes: Any) -> None:
    """A line for each share, with its interval; the first on top."""
    known = [(name, share) for name, share in reversed(list(shares.items())) if share.value is not None]
    values = [share.value or 0.0 for _, share in known]
    errors = [[v - (s.low if s.low is not None else v) for v, (_, s) in zip(values, known, strict=True)],
              [(s.high if s.high is not None else v) - v for v, (_, s) in zip(values, known, strict=True)]]  # fmt: skip
    axes.figure.set_size_inches(6.4, max(2.4, 0.32 * len(known) + 1.2))
    axes.errorbar(values, range(len(known)), xerr=errors, fmt="o", capsize=3)
    axes.set_yticks(range(len(known)), [name if len(name) < 40 else f"{name[:39]}…" for name, _ in known])
    axes.set(xlabel="share that is right, with its 95% interval", title=title, xlim=(-0.02, 1.02))
    axes.grid(axis="x", color="0.9")


def _drawn(path: Path, draw: Callable[[Any], None]) -> Path:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    draw(figure.subplots())
    figure.savefig(path, dpi=120, metadata={"Software": None})  # the same bytes each time
    return path


def _reliability(result: AuditResult, axes: Any) -> None:
    axes.plot([0, 1], [0, 1], color="0.7", linestyle="--", label="as it should be")
    for name in (result.judges[0], "overlap"):
        calibration = result.calibration(name)
        ece = "" if calibration.ece is None else f", ECE {calibration.ece:.2f}"
        axes.plot(
            [p for p, _, _ in calibration.bins], [s for _, s, _ in calibration.bins], marker="o", label=f"{name}{ece}"
        )
    axes.set(xlabel="reward / 10, mean of a bin", ylabel="share of the bin's statements that are true",
             title="Reliability of single statements", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))  # fmt: skip
    axes.legend()


def _accuracy(result: AuditResult, axes: Any) -> None:
    """Balanced accuracy by depth, a line for each length."""
    judge = result.judges[0]
    for length in sorted({one.length for one in result.asked}):
        of_length = AuditResult(
            [one for one in result.asked if one.length == length], {judge: result.scores[judge]}, [judge], result.seed,
            result.depths,
        )  # fmt: skip
        by_depth = of_length.groups(judge)["depth"]
        points = [
            (d, f.pairs.value, f.pairs.low, f.pairs.high) for d, f in by_depth.items() if f.pairs.value is not None
        ]
        errors = [[v - (low if low is not None else v) for _, v, low, _ in points],
                  [(high if high is not None else v) - v for _, v, _, high in points]]  # fmt: skip
        axes.errorbar([d for d, *_ in points], [v for _, v, *_ in points], yerr=errors, marker="o", capsize=3,
                      label=f"{length:,} tokens")  # fmt: skip
    axes.axhline(0.5, color="0.7", linestyle="--", label="guessing")
    axes.set(xlabel="depth in the context, per cent of its length", ylabel="share of pairs, with its 95% interval",
             title=f"{judge}: true statement above its wrong form", ylim=(-0.03, 1.03))  # fmt: skip
    axes.legend()


def _length(result: AuditResult, axes: Any) -> None:
    scores = result.scores[result.judges[0]]
    for true, label in ((True, "true"), (False, "wrong, or a probe")):
        points = [(o.characters, s) for o in result.asked if o.true is true
                  and (s := scores.get((o.sample, o.candidate))) is not None]  # fmt: skip
        axes.scatter([n for n, _ in points], [s for _, s in points], s=12, alpha=0.6, label=label)
    axes.set(xlabel="length of the answer, characters", ylabel="reward, 0 to 10", title="Reward against length",
             ylim=(-0.3, 10.3))  # fmt: skip
    axes.legend()
