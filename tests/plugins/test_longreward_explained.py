"""Decisions first: an LLM where they are unsure, and its analyses of what cost an answer its rank."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import lrf
from decision_server import DecisionServer
from judge_server import Fault, JudgeServer
from lrf.cli.main import invoke
from lrf.errors import ConfigError
from lrf_longreward.settings import HelpfulnessSettings
from tiny_llama import write_tiny_llama

CONTEXT = "The bridge was opened in 1931. It is 200 metres long. A local man built it. " * 3
ANSWERS = {
    "good": "The bridge was opened in 1931. It is 200 metres long.",
    "poor": "The bridge is made of gold. It was opened in 1931. It floats. It sings. It flies.",
    "half": "A local man built it. The bridge is made of gold.",
}
FALSE = ("gold", "floats", "sings", "flies")


def opinion(text: str, question: str, option: str) -> float:
    """Knows what is false, and rates answers by it."""
    answer = text.partition("<answer>")[2]
    false = sum(word in (question if "<statement>" in question else answer) for word in FALSE)
    if option in ("yes", "no"):
        return 0.1 + 0.8 * ((option == "yes") == (false == 0))
    return 0.05 + (int(option) == max(0, 9 - 2 * false))


def write(folder: Path, samples: int = 1) -> Path:
    row = {"context": CONTEXT, "query": "What about it?"}
    candidates = [{"id": name, "text": text} for name, text in ANSWERS.items()]
    rows = [{**row, "id": f"s{n}", "candidates": candidates} for n in range(samples)]
    (folder / "data.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return folder / "data.jsonl"


def pipeline(data: Path, decider: str, llm: str, **of_each: Any) -> dict[str, Any]:
    return {
        "name": "run",
        "data": {"type": "jsonl", "path": str(data)},
        "judges": {
            "fast": {"type": "systemone", "base_url": decider, "model": "m"},
            "llm": {"type": "openai", "base_url": llm, "model": "sim"},
        },
        "dimensions": [
            {"type": "helpfulness", "read": "document", **of_each},
            {"type": "faithfulness", "read": "document", "statements": "sentences", **of_each},
        ],
    }


def judged(run: Path) -> dict[str, Any]:
    rows = [json.loads(line) for line in (run / "judgements.jsonl").read_text(encoding="utf-8").splitlines()]
    return {row["candidate_id"]: row["judgements"] for row in rows}


def test_what_cost_an_answer_its_rank_is_explained_once_and_changes_no_rating(
    tmp_path: Path, judge_server: JudgeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    judge_server.reply = lambda prompt, _: 'The document says "A local man built it" and nothing of that.'
    with DecisionServer() as server:
        server.opinion = opinion
        values = pipeline(write(tmp_path), server.base_url, judge_server.base_url, judge="fast")
        plain = lrf.run({**values, "name": "plain"}, runs=tmp_path, last="score")
        for dimension in values["dimensions"]:
            dimension |= {"explain": "losers", "writer": "llm"}
        (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
        assert invoke(["plan", str(tmp_path / "pipeline.yaml"), "--runs", str(tmp_path), "--json"]) == 0
        plan = json.loads(capsys.readouterr().out)
        summary = lrf.run(values, runs=tmp_path, last="score")
        asked = judge_server.books.calls
        assert lrf.run(values, runs=tmp_path, last="score").exit_code == 0
    assert (
        judge_server.books.calls == asked == 2 + 3
    )  # two ratings, three statements of one answer; the other's is one of them
    total = plan["total"]
    assert total["bound_calls"] >= server.books.requests / 2 + asked
    assert total["calls"] >= 4 + asked
    before, after = judged(plain.run_dir), judged(summary.run_dir)
    for name, judgements in after.items():
        for dimension, judgement in judgements.items():
            assert judgement["rating"] == before[name][dimension]["rating"]
    assert after["good"] == before["good"]
    assert "nothing of that" in after["poor"]["helpfulness"]["analysis"]
    statements = after["poor"]["faithfulness"]["statements"]
    explained = [s for s in statements if s.get("analysis")]
    assert [any(word in s["text"] for word in FALSE) for s in explained] == [True] * 3
    (quotation,) = explained[0]["quotations"]
    assert CONTEXT[quotation["span"]["start"] : quotation["span"]["end"]] == "A local man built it"
    assert after["poor"]["faithfulness"]["extra"]["explained"] == 3
    assert after["poor"]["faithfulness"]["extra"]["without_analysis"] == 2
    assert invoke(["show", str(summary.run_dir), "s0", "poor"]) == 0
    shown = capsys.readouterr().out
    assert "(quoted): A local man built it" in shown
    assert "(closest in the document): The bridge was opened in 1931." in shown


def test_an_explanation_that_fails_is_noted_and_costs_no_candidate_its_reward(
    tmp_path: Path, judge_server: JudgeServer
) -> None:
    judge_server.faults = [Fault("empty", None)]
    with DecisionServer() as server:
        server.opinion = opinion
        more = {"judge": "fast", "writer": "llm", "explain": "losers"}
        values = pipeline(write(tmp_path), server.base_url, judge_server.base_url, **more)
        del values["dimensions"][0]
        summary = lrf.run(values, runs=tmp_path, last="score")
    assert (summary.exit_code, summary.stages["score"]["unscored"]) == (0, 0)
    assert judged(summary.run_dir)["poor"]["faithfulness"]["extra"]["unexplained"] == "empty_reply"


def test_explanations_need_a_judge_that_writes(tmp_path: Path, judge_server: JudgeServer) -> None:
    values = pipeline(write(tmp_path), judge_server.base_url, judge_server.base_url, judge="fast", explain="losers")
    with pytest.raises(ConfigError, match="writer: NAME"):
        lrf.RewardModel.from_pipeline(values)
    with pytest.raises(ValueError, match="read: document"):
        HelpfulnessSettings(explain="losers")


def test_a_real_decider_decides_what_it_is_sure_of_and_an_llm_the_rest(
    sparrow: str, tmp_path: Path, judge_server: JudgeServer
) -> None:
    judge_server.reply = lambda prompt, _: "I looked. [[yes]]" if "[[yes]]" in prompt[-900:] else "I looked. [[5]]"
    cascade = {"judges": ["fast", "llm"], "panel": "cascade", "sure": 0.78, "explain": "losers"}
    values = pipeline(write(tmp_path), sparrow, judge_server.base_url, **cascade)
    values["judges"]["fast"]["model"] = "sparrow-nano"
    summary = lrf.run(values, runs=tmp_path, last="score")
    assert (summary.exit_code, summary.stages["score"]["unscored"]) == (0, 0), summary.message
    votes = [
        vote["judge"]
        for judgements in judged(summary.run_dir).values()
        for statement in judgements["faithfulness"]["statements"]
        for vote in statement["votes"]
    ]
    assert set(votes) == {"fast", "llm"}
    by_judge = {
        statement["votes"][0]["judge"]: statement
        for judgements in judged(summary.run_dir).values()
        for statement in judgements["faithfulness"]["statements"]
    }
    assert by_judge["llm"]["analysis"].startswith("I looked.")
    assert max(by_judge["fast"]["probabilities"].values()) >= 0.78


@pytest.mark.slow
def test_a_model_of_ones_own_decides_first_and_an_llm_where_it_is_unsure(
    tmp_path: Path, judge_server: JudgeServer
) -> None:
    from safetensors.torch import load_file, save_file

    weights = write_tiny_llama(tmp_path / "model") / "model.safetensors"
    tensors = load_file(weights)
    tensors["lm_head.weight"] *= 0.05  # random weights are sure of everything otherwise
    save_file(tensors, weights, {"format": "pt"})
    judge_server.reply = lambda prompt, _: "I looked. [[yes]]"
    fast = {"type": "transformers", "model": str(tmp_path / "model"), "decides": True, "dtype": "float32"}
    values = pipeline(write(tmp_path), "http://127.0.0.1:9", judge_server.base_url, judge="fast")
    values["judges"]["fast"] = fast
    del values["dimensions"][0]
    alone = lrf.run({**values, "name": "alone"}, runs=tmp_path, last="score")
    given = [s["probabilities"] for j in judged(alone.run_dir).values() for s in j["faithfulness"]["statements"]]
    sure = sorted(max(p.values()) for p in given)
    threshold = (sure[0] + sure[-1]) / 2
    values["dimensions"][0] |= {"judges": ["fast", "llm"], "panel": "cascade", "sure": threshold}
    del values["dimensions"][0]["judge"]
    summary = lrf.run(values, runs=tmp_path, last="score")
    assert (summary.exit_code, summary.stages["score"]["unscored"]) == (0, 0), summary.message
    statements = [s for j in judged(summary.run_dir).values() for s in j["faithfulness"]["statements"]]
    decided = {s["text"]: s["votes"][-1]["judge"] for s in statements}
    assert set(decided.values()) == {"fast", "llm"}
    assert judge_server.books.calls == sum(judge == "llm" for judge in decided.values())
    for statement, before in zip(statements, given, strict=True):
        by_llm = decided[statement["text"]] == "llm"
        assert by_llm == (max(before.values()) < threshold)
        assert statement["support"] == (1.0 if by_llm else pytest.approx(before["yes"], abs=1e-3))
