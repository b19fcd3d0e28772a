"""The paper mode gives the numbers of LongReward's method, as a plain reference of it does, for equal replies."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import quicktok
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lrf
from lrf.config import parse_pipeline
from lrf.plugin.catalog import load_catalog
from lrf.prompting.requests import Request
from lrf.prompting.templates import prompt_text
from lrf.testing import HashEmbedder, ScriptedJudge
from paper import Scorer

PROMPTS = {
    "helpfulness": "Helpful?\n[问题]\n<<question>>\n[助手的答案开始]\n<<answer>>\n[助手的答案结束]",
    "logicality": "Logical?\n<<question>>\n<<answer>>\nend",
    "statements": "Statements of\n<<question>>\nAnswer: <<answer>>\nend",
    "verdict": "Supported?\n<<statement>>\n\n<<context>>\nend",
    "notes": "Notes on\n<<context>>\nfor\n<<question>>\nend",
    "completeness": "Complete?\n<<question>>\n\n<<context>>\n\n<<answer>>\nend",
}
NAMES = ("helpfulness", "logicality", "faithfulness", "completeness")


def reply(prompt: str) -> str:
    """A reply that depends on every character of the prompt."""
    number = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:4])
    if prompt.startswith("Statements"):
        sentences = [s for s in re.split(r"(?<=[.!?])\s+", prompt.partition("Answer: ")[2]) if s]
        stated = (sentences + sentences[: 1 + number % 3])[:40]  # some are repeated
        return "\n".join(f"<statement>{s}</statement>" for s in stated)
    if prompt.startswith("Supported"):
        return f"[[{('Fully supported', 'Partially supported', 'No support')[number % 3]}]]"
    if prompt.startswith("Notes"):
        return ("No relevant information", "Well: No relevant information.", f"1. Noted {number}.")[number % 3]
    return f"So it is.\n[[{number % 21 / 2:g}]]"


def embed(texts: Sequence[str]) -> Any:
    return asyncio.run(HashEmbedder().embed(texts, "document"))


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """The retriever and the dimensions of a pipeline with ``method: paper``, every setting filled in."""
    folder = tmp_path_factory.mktemp("paper")
    for name, text in PROMPTS.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    pipeline = {
        "name": "p",
        "method": "paper",
        "judges": {"main": {"type": "openai", "model": "m"}},
        "embedders": {"main": {"type": "openai", "model": "e"}},
        "retrievers": {"main": "memory"},
        "dimensions": [{"type": name, "prompts": str(folder)} for name in NAMES],
    }
    resolved = parse_pipeline(json.dumps(pipeline), load_catalog()).resolved
    assert parse_pipeline(dict(resolved), load_catalog()).resolved == resolved

    def alone(block: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in block.items() if key not in ("judge", "retriever", "embedder")}

    return {"retriever": alone(resolved["retrievers"]["main"]), "dimensions": [*map(alone, resolved["dimensions"])]}


async def scored(blocks: Mapping[str, Any], context: str, query: str, answers: Sequence[str]) -> list[dict[str, Any]]:
    def script(request: Request) -> str:
        return reply(prompt_text(request.prompt))

    async with lrf.RewardModel(ScriptedJudge(script), embedder=HashEmbedder(), **blocks) as model:
        rewards = [await model.score(context=context, query=query, answer=answer) for answer in answers]
    return [{**reward.ratings, "reward": reward.reward} for reward in rewards]


def reference(context: str, query: str, answers: Sequence[str]) -> list[dict[str, float]]:
    tokenizer = quicktok.get_encoding("o200k_base")
    scorer = Scorer(PROMPTS, reply, embed, tokenizer.encode_ordinary, tokenizer.decode)
    return [scorer.scores(context, query, answer) for answer in answers]


@pytest.mark.skipif("LRF_TEST_DATA" not in os.environ, reason="LRF_TEST_DATA names no folder")
def test_ten_candidates_of_the_public_example_get_the_references_numbers(blocks: Mapping[str, Any]) -> None:
    folder = Path(os.environ["LRF_TEST_DATA"]) / "longreward_example"
    row = json.loads((folder / "sft.jsonl").read_text("utf-8").splitlines()[0])
    lines = (folder / "sampled_responses.jsonl").read_text("utf-8").splitlines()
    asked = row["context"], row["query"], [json.loads(line)["answer"] for line in lines]
    assert len(asked[2]) == 10
    assert asyncio.run(scored(blocks, *asked)) == reference(*asked)


PARTS = ["the", "harbour", "lamp", "1904", "oil,", "granite.", "keeper", "town!", "ledger\n", "storm;", "fog?"]
WORDS = st.lists(st.sampled_from(PARTS), min_size=1)


@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(WORDS.map(" ".join), st.integers(1, 80), WORDS.map(" ".join))
def test_any_text_gets_the_references_numbers(blocks: Mapping[str, Any], part: str, times: int, answer: str) -> None:
    asked = f"Once: {part} " * times, "What of it?", [f"It is so. {answer}"]
    assert asyncio.run(scored(blocks, *asked)) == reference(*asked)
