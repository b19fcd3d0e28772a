"""Scores LongReward's public example by a simulated decision server, and prints what its books say, as JSON.

    python benchmarks/score_decisions.py --data PATH/longreward_example --json

Ten candidates of one document, four dimensions, statements are sentences. The server is started here; it takes 400
questions a request and 32,000 tokens, and counts the tokens (o200k_base) of the text and of the questions as JSON.
`tokens_new` are those that were not the beginning of a request that it had finished before. `_packed` is with
`pack_candidates`, `text_calls` is what a judge that writes is asked in addition where it writes the statements, and
`journal_bytes_a_question` is what the journal grows by for each question, its text left out.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))

import lrf
from decision_server import DecisionServer
from judge_server import JudgeServer
from lrf.store.journal import Journal

RATED = ("helpfulness", "logicality", "completeness")


def main(given: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of sft.jsonl and sampled_responses.jsonl")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of one a figure")
    parser.add_argument("--type", choices=("systemone", "decisions"), default="systemone", help="the judge's type")
    arguments = parser.parse_args(given)
    data = arguments.data.resolve()
    alone = scored(data, arguments.type)
    packed = scored(data, arguments.type, pack_candidates=True)
    written = scored(data, arguments.type, statements="judge")
    figures = {
        "requests": alone["requests"],
        "tokens": alone["tokens"],
        "tokens_new": alone["new"],
        "requests_packed": packed["requests"],
        "tokens_packed": packed["tokens"],
        "text_calls": written["text_calls"],
        "scored": min(run["scored"] for run in (alone, packed, written)),
        "questions": alone["questions"],
        "journal_bytes_a_question": alone["journal_bytes_a_question"],
    }
    for line in [json.dumps(figures)] if arguments.json else [f"{name}: {figure}" for name, figure in figures.items()]:
        print(line)
    return figures


def scored(data: Path, kind: str, *, pack_candidates: bool = False, statements: str = "sentences") -> dict[str, Any]:
    """What the servers' books say after one run, how many candidates have a reward, and how the journal grew."""
    writer = JudgeServer()
    writer.start()
    try:
        with DecisionServer(delay_s=0.05) as server, tempfile.TemporaryDirectory() as runs:
            judge = {"type": kind, "base_url": server.base_url, "model": "sim", "context_window": 32_000}
            faithfulness = {"type": "faithfulness", "read": "document", "statements": statements, "judge": "main"}
            judges = {"main": judge}
            if statements == "judge":
                judges["writer"] = {"type": "openai", "base_url": writer.base_url, "model": "sim"}
                faithfulness["writer"] = "writer"
            packs = {"pack_candidates": True, "pack_checked": 0} if pack_candidates else {}
            rated = [{"type": name, "read": "document", "judge": "main", **packs} for name in RATED]
            files = {"documents": str(data / "sft.jsonl"), "candidates": str(data / "sampled_responses.jsonl")}
            pipeline = {
                "name": "decisions",
                "data": {"type": "longreward", **files},
                "judges": judges,
                "dimensions": [*rated, faithfulness],
            }
            summary = lrf.run(pipeline, runs=Path(runs), last="score")
            if summary.exit_code:
                sys.exit(summary.message)
            score, books = summary.stages["score"], server.books
            return {
                "requests": books.requests,
                "tokens": books.input_tokens,
                "new": books.input_tokens - books.cached_tokens,
                "questions": books.questions,
                "text_calls": writer.books.calls,
                "scored": score["candidates"] - score["unscored"],
                "journal_bytes_a_question": bytes_a_question(summary.run_dir / "journal.sqlite", books.questions),
            }
    finally:
        writer.stop()


def bytes_a_question(journal: Path, questions: int) -> int:
    """By how many bytes a question makes the journal grow, besides the texts that are sent."""
    empty = journal.with_name("empty.sqlite")
    Journal(empty).close()
    return int((content_bytes(journal) - content_bytes(empty)) / questions)


def content_bytes(journal: Path) -> int:
    """The bytes of the pages in use, without the segments' texts."""
    with sqlite3.connect(journal) as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (free,) = connection.execute("PRAGMA freelist_count").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        (texts,) = connection.execute("SELECT total(length(CAST(text AS BLOB))) FROM segments").fetchone()
    return int((pages - free) * size - texts)


if __name__ == "__main__":
    main()
