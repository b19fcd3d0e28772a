"""Parts of the cards beside a run's pairs and its policy: what they are made of, for those who get them.

A card is Markdown with the header that model hubs read. Names and paths, which come from outside, are shown as code or
as a JSON string, so that they can't become markup. The licence is for the user to fill in, since lrf can't know it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lrf.store.files import replacing

if TYPE_CHECKING:
    from lrf.config import Pipeline

LICENSE = """license: other  # to be filled in: the terms of the data, and of the models that wrote and judged it
license_name: to-be-filled-in"""


def made_of(pipeline: Pipeline) -> list[tuple[str, str]]:
    """The rows of a card's table about the origin of the run's data."""
    rows: list[tuple[str, str]] = []
    if pipeline.data:
        rows.append(("data", code(f"{pipeline.data.type}: {pipeline.data.settings.origin or 'see pipeline.yaml'}")))
    if pipeline.sample:
        reference = pipeline.sample.settings.model_reference
        model = reference.name if reference else pipeline.policy.model
        rows.append(("candidates by", code(f"{pipeline.sample.type}: {model}")))
    judges = {name: pipeline.judges[name] for d in pipeline.dimensions for name in d.judges}
    for name, judge in judges.items():
        reference = judge.settings.model_reference
        rows.append((f"judge {code(name)}", code(f"{judge.type}: {reference.name if reference else 'no model'}")))
    if pipeline.dimensions:
        rows.append(("dimensions", ", ".join(code(d.name) for d in pipeline.dimensions)))
    rows += [
        (what, code(block.type))
        for what, block in (("aggregator", pipeline.aggregator), ("pairs by", pipeline.pairs))
        if block is not None
    ]
    rows.append(("seed", str(pipeline.seed)))
    return rows


def counted_reasons(reasons: Mapping[str, int]) -> str:
    """Reasons with their counts, in brackets; empty without any."""
    return f" ({', '.join(f'{code(reason)} {n:,}' for reason, n in reasons.items())})" if reasons else ""


def code(text: str) -> str:
    """The text as code in Markdown, on one line: nothing in it is markup."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in text).split()).replace("|", "¦").replace("`", "'")
    return f"`{flat[:200]}`"


def fenced(text: str) -> str:
    """JSON text as a block of code, whatever backquotes are in it."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}json\n{text}\n{fence}"


def table(rows: Sequence[tuple[str, str]]) -> str:
    """A Markdown table of two columns without headings."""
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def write_card(file: Path, text: str) -> None:
    """Write the card in place of an earlier one."""
    with replacing(file) as card:
        card.write(text)
