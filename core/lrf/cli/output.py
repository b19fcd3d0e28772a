"""Output for people: tables on a terminal, aligned lines in a pipe, and no text that could steer a terminal."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from lrf.types import JSON


def clean(text: str, *, lines: bool = False) -> str:
    """``text`` with control and formatting characters escaped, so that it can't steer a terminal.

    With ``lines``, newlines are kept.
    """
    return "".join(
        c if (lines and c == "\n") or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") else _escaped(c)
        for c in text
    )


def show_json(value: JSON) -> None:
    """Print indented JSON; characters that aren't printable, or that the output's encoding lacks, are escaped."""
    utf8 = (sys.stdout.encoding or "").lower().replace("_", "-") in ("utf-8", "utf8")
    text = json.dumps(value, ensure_ascii=not utf8, indent=2)
    click.echo("".join(c if c == "\n" or c.isprintable() else json.dumps(c)[1:-1] for c in text))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under headings: by rich on a terminal, else as plain lines with aligned columns."""
    rows = [[clean(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        pretty = Table(*headings, box=None, pad_edge=False, header_style="bold")
        for row in rows:
            pretty.add_row(*map(Text, row))
        Console().print(pretty)
        return
    widths = [max(map(_width, column)) for column in zip(headings, *rows, strict=True)]
    for row in ([h.upper() for h in headings], *rows):
        padded = [cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)]
        click.echo("  ".join(padded).rstrip())


def _width(text: str) -> int:
    """The number of terminal columns that the text takes."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
