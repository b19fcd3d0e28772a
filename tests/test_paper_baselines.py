"""The paper's other ways to pairs train a policy as lrf's own does: a short-context reward model, and contrast."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from judge_server import JudgeServer
from lrf.cli.main import invoke

pytestmark = pytest.mark.slow

TINY = {"max_steps": 1, "init": {"hidden": 32, "layers": 1, "heads": 2, "vocab": 600}}
ANSWERS = {"large": ("It was built in {}.", "House {} is old."), "small": ("No idea.", "Of brick {}.", "A house {}.")}


def row(number: int) -> dict[str, Any]:
    candidates = [
        {"id": f"{source}-{n}", "text": text.format(1900 + number), "source": source}
        for source, texts in ANSWERS.items()
        for n, text in enumerate(texts)
    ]
    context = f"House {number} was built in {1900 + number} of red brick."
    return {"id": f"q{number}", "context": context, "query": "When was it built?", "candidates": candidates}


def test_a_reward_model_without_documents_and_contrast_train_policies_that_are_compared(
    tmp_path: Path, judge_server: JudgeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(row(n)) + "\n" for n in range(4)))
    judge = {"type": "openai", "base_url": judge_server.base_url, "model": "judge"}
    judges = {"judges": {"main": judge}, "dimensions": ["helpfulness"]}
    checkpoint = str(tmp_path / "runs/distilled/policy/reward/checkpoint")
    reads = {"model": checkpoint, "head": "helpfulness", "prompt_template": "<<question>>"}
    pipelines: dict[str, dict[str, Any]] = {
        "distilled": {**judges, "policy": {"prompt_template": "<<question>>"},
                      "train": {"type": "reward", "objective": "ratings", "held_out": 0, **TINY}},
        "srm": {"dimensions": [{"type": "classifier", **reads}], "pairs": "best_worst",
                "train": {"type": "dpo", **TINY}},
        "contrast": {"pairs": {"type": "contrast", "strong": "large", "weak": ["small"]},
                     "train": {"type": "dpo", **TINY}},
    }  # fmt: skip
    for name, blocks in pipelines.items():
        pipeline = {"name": name, "data": {"type": "jsonl", "path": str(tmp_path / "samples.jsonl")}, **blocks}
        (tmp_path / f"{name}.yaml").write_text(json.dumps(pipeline))
        assert invoke(["run", str(tmp_path / f"{name}.yaml"), "--runs", str(tmp_path / "runs")]) == 0
    pairs = [json.loads(line) for line in (tmp_path / "runs/contrast/pairs.jsonl").open()]
    assert [(p["chosen_id"].split("-")[0], p["rejected_id"].split("-")[0]) for p in pairs] == [("large", "small")] * 4
    assert len((tmp_path / "runs/srm/pairs.jsonl").read_text().splitlines()) == 4
    for name in ("srm", "contrast"):
        assert (tmp_path / "runs" / name / "policy/dpo/checkpoint/config.json").is_file()
        sample = {"type": "transformers", "model": str(tmp_path / "runs" / name / "policy/dpo/checkpoint"), "n": 1,
                  "max_tokens": 4}  # fmt: skip
        data = {"type": "jsonl", "path": str(tmp_path / "asked.jsonl")}
        asked = [{k: v for k, v in row(n).items() if k != "candidates"} for n in range(3)]
        (tmp_path / "asked.jsonl").write_text("".join(json.dumps(one) + "\n" for one in asked))
        pipeline = {"name": f"sampled-{name}", "data": data, "sample": sample, **judges}
        (tmp_path / "sampled.yaml").write_text(json.dumps(pipeline))
        args = ["run", str(tmp_path / "sampled.yaml"), "--runs", str(tmp_path / "runs"), "--until", "sample"]
        assert invoke(args) == 0
    capsys.readouterr()
    policies = ["-a", str(tmp_path / "runs/sampled-srm"), "-b", str(tmp_path / "runs/sampled-contrast")]
    args = ["evaluate", str(tmp_path / "sampled.yaml"), *policies, "--runs", str(tmp_path / "runs"), "--json"]
    assert invoke(args) == 0
    outcome = json.loads(capsys.readouterr().out)["outcomes"]["reward"]
    assert outcome["win"] + outcome["tie"] + outcome["loss"] + outcome["missing"] == 3
