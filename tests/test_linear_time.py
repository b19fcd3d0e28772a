"""What reads text of others takes time in proportion to the text, whatever it is.

Documents, answers and replies are of any size and shape, so a pattern that goes over them again and again is a way to
stop a run. The patterns are collected from the modules; the texts are made from each pattern's own parts.
"""

from __future__ import annotations

import ast
import importlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from lrf.errors import ParseError
from lrf.http.error_bodies import page_text
from lrf.prompting import escaping
from lrf.prompting.escaping import escape, unescape
from lrf.prompting.expectations import Rating, Statements, Verdict
from lrf.prompting.reasoning import without_thoughts
from lrf.prompting.requests import Reply
from lrf.prompting.templates import Template
from lrf.text.chunking import count_tokens
from lrf.text.languages import language_of
from lrf.types import Chunk
from lrf_longreward.quotations import exactly, passages, quotations_in
from lrf_retrieval.bm25 import terms
from lrf_transformers.reply_format import whole_sentences
from pattern_texts import texts_for

ROOT = Path(__file__).parent.parent
LENGTHS = (20, 512, 4_096)


def _files() -> Iterator[tuple[str, ast.Module]]:
    for folder in ("core", "plugins"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            source = path.read_text()
            if "import re\n" in source:
                yield ".".join(path.relative_to(ROOT / folder).with_suffix("").parts), ast.parse(source)


Patterns = Mapping[str, tuple[re.Pattern[Any], bool]]
_ANCHORED = {"match", "fullmatch"}


def _patterns() -> Patterns:
    """Each pattern of a module or class, and each that is written where it is used; whether it is only matched."""
    patterns: dict[str, tuple[re.Pattern[Any], bool]] = {}
    for name, tree in _files():
        module = importlib.import_module(name)
        uses: dict[str, set[str]] = {}
        for node in ast.walk(tree):
            match node:
                case ast.Attribute(ast.Name(pattern) | ast.Attribute(attr=pattern), use):
                    uses.setdefault(pattern, set()).add(use)
                case ast.Call(ast.Attribute(ast.Name("re"), use), [ast.Constant(source), *_]) if use != "compile":
                    flags = [ast.unparse(keyword.value) for keyword in node.keywords if keyword.arg == "flags"]
                    written = re.compile(source, eval(flags[0]) if flags else 0)
                    patterns[f"{name}, line {node.lineno}"] = written, use in _ANCHORED
        for owner in (module, *(value for value in vars(module).values() if isinstance(value, type))):
            for key, value in vars(owner).items():
                if isinstance(value, re.Pattern):
                    patterns[f"{name}.{key}"] = value, bool(uses.get(key)) and uses[key] <= _ANCHORED
    angle, names = escaping._angle(escaping.FRAME_TAGS)
    return {**patterns, "escaping._angle": (angle, False), "escaping._angle, names": (names, True)}


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


@cache
def _noticeable() -> float:
    """CPU seconds: four times what this machine takes for each of 4,096 matches of one character."""
    text, pattern = "x" * LENGTHS[-1], re.compile("x")
    return 4 * min(_seconds(lambda: sum(1 for _ in pattern.finditer(text))) for _ in range(20))


def _grows_too_fast(work_on: Callable[[str], object], before: str, part: str, after: str) -> bool:
    """Whether twenty characters take noticeable time, or four times the text much more than four times as long."""

    def seconds(length: int) -> float:
        text = before + part * -(-length // len(part)) + after
        return _seconds(lambda: work_on(text))

    for length in LENGTHS:
        if seconds(length) >= _noticeable() and (once := min(seconds(length), seconds(length))) >= _noticeable():
            return length == LENGTHS[0] or min(seconds(4 * length), seconds(4 * length)) > 9 * once
    return False


def _all_matches(pattern: re.Pattern[Any], only_matched: bool) -> Callable[[str], object]:
    def work_on(text: str) -> object:
        given = text.encode("latin-1", "ignore") if isinstance(pattern.pattern, bytes) else text
        if only_matched:
            return pattern.match(given), pattern.fullmatch(given)
        return sum(1 for _ in pattern.finditer(given))

    return work_on


def _slow_text(pattern: re.Pattern[Any], only_matched: bool) -> str | None:
    """The first text on which a pattern takes more than linear time, as an expression."""
    work_on = _all_matches(pattern, only_matched)
    texts = sorted(texts_for(pattern))
    for before, part in texts[:: 1 + len(texts) // 100]:  # hundreds are of words in a list, one like the other
        for after in ("", "\0"):
            if _grows_too_fast(work_on, before, part, after):
                return f"{before!r} + {part!r} * n + {after!r}"
    return None


def test_every_pattern_takes_linear_time_on_the_texts_that_its_parts_make() -> None:
    slow = {where: text for where, given in _patterns().items() if (text := _slow_text(*given))}
    assert not slow


@pytest.mark.parametrize("written", [r"\s*x", r"(?:a+)+b", r"<[^>]*x"])
def test_patterns_of_more_than_linear_time_are_found(written: str) -> None:
    assert _slow_text(re.compile(written), False)


PARTS = (
    " ", "\n", "a", "1", ".", "1. ", "...", "…", '"', "“", "“a… ", "„", "‘", "[", "]", "[[", "]]", "[[8]]", "【", "⟦",
    "<", "</", "< /answer", "<statement>", "</statement>", "<think>", "</think>", "<thi<think>", "<|", "|>", "[think",
    "<|channel|>", "analysis ", "analysis<|message|>",
    "final<|message|><|end|>", "analysisXassistantfinal", "{", "}",
    '{"v1": ', '"verdict": "', "```", "<html><script>", "</script ", "\u200b", "\u0301", "е", "文", "。", "\0",
)  # fmt: skip


def _read(expects: Any, reply_mode: Any = "text") -> Callable[[str], object]:
    def work_on(text: str) -> object:
        with suppress(ParseError):
            return expects.read(without_thoughts(Reply(text)), reply_mode)
        return None

    return work_on


@pytest.mark.parametrize(
    "work_on",
    [
        pytest.param(escape, id="escape"),
        pytest.param(unescape, id="unescape"),
        pytest.param(lambda text: Template("<<a>>[[<<b>>", ("a", "b")).fill({"a": text, "b": text}), id="template"),
        pytest.param(_read(Rating()), id="rating"),
        pytest.param(_read(Verdict({"yes": 1.0})), id="verdict"),
        pytest.param(_read(Statements()), id="statements"),
        pytest.param(_read(Rating(), "json"), id="json"),
        pytest.param(quotations_in, id="quotations"),
        pytest.param(lambda text: exactly(text[:99], passages([Chunk("d", 0, 1, text)])), id="places of quotations"),
        pytest.param(whole_sentences, id="whole sentences"),
        pytest.param(terms, id="terms"),
        pytest.param(page_text, id="page of an error"),
        pytest.param(lambda text: page_text("<html>" + text), id="page"),
        pytest.param(language_of, id="language"),
        pytest.param(count_tokens, id="tokens"),
    ],
)
def test_what_reads_untrusted_text_takes_linear_time(work_on: Callable[[str], object]) -> None:
    pairs = [(before, part) for part in PARTS for before in ("", "[[", "<think>", "“")]
    slow = [
        f"{before!r} + {part!r} * n + {after!r}"
        for before, part in pairs
        for after in ("", "[[7]]")
        if _grows_too_fast(work_on, before, part, after)
    ]
    assert not slow
