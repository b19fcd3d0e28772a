"""The report as HTML: one self-contained page, or for a large run a page of figures and pages of samples.

Data never becomes markup. It is JSON, compressed and in base64, in script elements of a type that no browser executes;
the page's own scripts put it into the document as text. A Content-Security-Policy allows these scripts by their hashes
and no other, and nothing from the network, so that even a mistake in them could not run what a document says.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path

import jinja2
from markupsafe import Markup

import lrf
from lrf.types import JSON
from lrf_report.files import clean, whole

PAGE_BYTES = 16_000_000
"""Compressed samples of one file; a run with more is written as several pages."""

SCRIPTS = (
    "libraries/libraries.js", "page/words.js", "page/data.js", "page/source.js", "page/parts.js", "page/charts.js",
    "page/document.js", "page/sample.js", "page/overview.js", "page/exchanges.js", "page/label.js", "page/app.js",
)  # fmt: skip
"""In the order in which they run."""


def write_pages(run: lrf.ScoredRun, besides: Mapping[str, JSON], output: Path) -> list[Path]:
    """Write the report; returns its files, the one with the figures first. ``besides``: comparison and audit."""
    pages = _Pages(run, output)
    for sample in run:
        pages.add(sample)
    pages.end(besides)
    return [output, *pages.written]


@dataclass
class _Pages:
    """Takes in samples and writes a page whenever enough of them are together.

    ``written`` are the pages of samples; it stays empty for a run that fits into one file.
    """

    run: lrf.ScoredRun
    output: Path
    written: list[Path] = field(default_factory=list)
    _ids: list[str] = field(default_factory=list)
    _blocks: list[str] = field(default_factory=list)
    _size: int = 0

    def __post_init__(self) -> None:
        self._figures = self.run.figures()

    @property
    def _next(self) -> Path:
        return self.output.with_name(f"{self.output.stem}_samples") / f"{len(self.written) + 1}.html"

    def add(self, sample: lrf.ScoredSample) -> None:
        block = packed(brief(sample.facts()))
        if self._blocks and self._size + len(block) > PAGE_BYTES:
            self._write_samples()
        self._figures.add(sample)
        self._figures.index[-1]["page"] = f"{self._next.parent.name}/{self._next.name}"
        self._ids.append(sample.id)
        self._blocks.append(block)
        self._size += len(block)

    def _write_samples(self) -> None:
        _write(
            self._next, self.run, {"overview": None, "home": f"../{self.output.name}", "ids": self._ids}, self._blocks
        )
        self.written.append(self._next)
        self._ids, self._blocks, self._size = [], [], 0

    def end(self, besides: Mapping[str, JSON]) -> None:
        """Write what is left, and the page with the figures."""
        if self.written:
            self._write_samples()
        else:
            for entry in self._figures.index:
                del entry["page"]
        overview = {**self._figures.as_json(), **besides}
        _write(self.output, self.run, {"overview": overview, "home": None, "ids": self._ids}, self._blocks)


def _write(path: Path, run: lrf.ScoredRun, head: dict[str, JSON], blocks: Sequence[str]) -> None:
    with whole(path) as file:
        for part in _page(run.name, {**head, "name": run.name}, blocks, connect=False):
            file.write(part)


def page_text(name: str, head: dict[str, JSON], blocks: Sequence[str], *, connect: bool) -> str:
    """A whole page. ``connect``: it may ask the server that it comes from."""
    return "".join(_page(name, head, blocks, connect=connect))


def _page(name: str, head: dict[str, JSON], blocks: Sequence[str], *, connect: bool) -> Iterator[str]:
    yield from _template().generate(
        title=clean(name),
        policy=policy(connect=connect),
        style=Markup(_text("page/style.css")),  # noqa: S704  # a file of this package
        scripts=[Markup(text) for text in _scripts()],  # noqa: S704
        head=packed(head),
        blocks=blocks,
    )


def brief(facts: dict[str, JSON]) -> dict[str, JSON]:
    """A sample's facts with each span as [number of the document, start, end], since there are so many."""
    numbers = {document["id"]: number for number, document in enumerate(facts["documents"])}

    def shortened(value: JSON) -> JSON:
        if isinstance(value, dict):
            if value.keys() == {"document", "start", "end"}:
                return [numbers.get(value["document"], -1), value["start"], value["end"]]
            return {name: shortened(part) for name, part in value.items()}
        return [shortened(part) for part in value] if isinstance(value, list) else value

    return {**facts, "candidates": shortened(facts["candidates"])}


def packed(value: JSON) -> str:
    """JSON, compressed, in base64: nothing in it can end the element around it."""
    text = clean(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(_text("page/page.html.jinja"))


@cache
def _scripts() -> tuple[str, ...]:
    return tuple(map(_text, SCRIPTS))


def policy(*, connect: bool) -> str:
    """The Content-Security-Policy. Styles may be inline: the charts bring some, and a style can reach no network."""
    allowed = " ".join(f"'sha256-{_digest(script)}'" for script in _scripts())
    parts = ["default-src 'none'", f"script-src {allowed}", "style-src 'unsafe-inline'", "base-uri 'none'"]
    return "; ".join([*parts, "form-action 'none'", *(["connect-src 'self'"] if connect else [])])


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _text(name: str) -> str:
    return files("lrf_report").joinpath(name).read_text(encoding="utf-8")
