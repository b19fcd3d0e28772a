"""The Debian Administrator's Handbook in English and Chinese: long real texts whose paragraphs correspond one to one.

From Debian's package ``debian-handbook`` (CC-BY-SA 3.0 or GPL-2+): ``apt-get install debian-handbook``, or
``apt-get download debian-handbook && dpkg -x debian-handbook_*.deb FOLDER``. It is read where it lies.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

HTML = Path("usr/share/doc/debian-handbook/html")
SECTIONS = (
    "the-debian-project",
    "sect.foundation-documents",
    "sect.release-lifecycle",
    "sect.how-to-migrate",
    "sect.package-meta-information",
    "sect.apt-get",
    "solving-problems",
    "basic-configuration",
    "unix-services",
    "network-services",
    "advanced-administration",
    "security",
    "sect.debian-internals",
    "sect.user-space",
    "debian-packaging",
)
_HAN = re.compile("[\u4e00-\u9fff]")
_BREAKS = {"p", "pre", "h1", "h2", "h3", "h4", "li", "td", "dt", "dd"}


class _Paragraphs(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._current: list[str] | None = None

    def _end(self) -> None:
        text = re.sub(r"\s+", " ", "".join(self._current or ())).strip()
        if text:
            self.found.append(text)
        self._current = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "div" and dict(attrs).get("class") == "para":
            self._current = []
        elif tag in _BREAKS:
            self._end()

    def handle_endtag(self, tag: str) -> None:
        if tag == "div":
            self._end()

    def handle_data(self, data: str) -> None:
        if self._current is not None:
            self._current.append(data)


def paragraphs(root: Path, sections: int) -> list[tuple[str, str]]:
    """(English, Chinese) paragraphs, "" where one isn't translated. ``root`` is / or where the package was unpacked.

    Of the first so many sections.
    """
    pairs = []
    for section in SECTIONS[:sections]:
        both = []
        for language in ("en-US", "zh-CN"):
            parser = _Paragraphs()
            parser.feed((root / HTML / language / f"{section}.html").read_text("utf-8"))
            both.append(parser.found)
        for english, chinese in zip(*both, strict=True):
            translated = len(_HAN.findall(chinese)) > 0.4 * len(chinese)
            pairs.append((english, chinese if translated else ""))
    return pairs
