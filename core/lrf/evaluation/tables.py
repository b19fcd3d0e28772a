"""Tables of results, as text for people, as Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lrf.evaluation.measures import Share
from lrf.types import JSON


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its title, all cells as text."""

    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def markdown(self) -> str:
        lines = [f"## {_cell(self.title)}", "", _row(self.head), _row(("---",) * len(self.head))]
        return "\n".join([*lines, *map(_row, self.rows)]) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    """Text that can't break out of a cell, since names in files are anybody's."""
    escaped = "".join(f"\\{c}" if c in "\\`*_{}[]<>|#" else c for c in text)
    return "".join(c if c.isprintable() else " " for c in escaped)


def shown(value: JSON) -> str:
    """A figure for a table."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return f"{value:,}" if isinstance(value, int) else str(value)


def shown_share(share: Share) -> str:
    """A share with its interval."""
    if share.value is None:
        return "-"
    if share.low is None or share.high is None:
        return f"{share.value:.3f}"
    return f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]"
