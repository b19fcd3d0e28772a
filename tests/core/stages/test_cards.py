"""The cards beside a run's pairs and beside its policy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

import lrf
from lrf.config import parse_pipeline
from lrf.plugin.catalog import load_catalog
from lrf.stages.cards import code
from lrf.stages.pairs.card import write_dataset_card
from lrf.stages.pairs.stage import PairsResult
from lrf.stages.train.card import write_model_card
from lrf.stages.train.stage import TrainResult
from project import Project


def trained(**metrics: Any) -> TrainResult:
    return TrainResult(
        checkpoint="policy/dpo/checkpoint", metrics=metrics, launcher="local", processes=1, train_seconds=1.0
    )


def head_of(card: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(card.read_text().split("---\n")[1])
    return found


def test_a_run_s_pairs_have_a_card_that_says_what_they_are_made_of(project: Project) -> None:
    summary = lrf.run(project.pipeline(), runs=project.runs)
    card = project.run_dir / "README.md"
    text = card.read_text()
    head = head_of(card)
    assert head["configs"] == [
        {"config_name": "default", "data_files": "pairs.jsonl"},
        {"config_name": "lists", "data_files": "lists.jsonl"},
    ]
    assert head["license_name"] == "to-be-filled-in"
    assert f"{summary.stages['pairs']['pairs']} pairs of a prompt" in text
    for made_of in ("`jsonl: data.jsonl`", "judge `main` | `openai: sim`", "`helpfulness`, `logicality`", "best_worst"):
        assert made_of in text
    assert str(project.folder) not in text


def test_a_card_that_the_user_has_filled_in_stays_until_there_are_other_pairs(project: Project) -> None:
    lrf.run(project.pipeline(), runs=project.runs)
    card = project.run_dir / "README.md"
    card.write_text("my own words")
    lrf.run(project.pipeline(), runs=project.runs)
    assert card.read_text() == "my own words"
    os.utime(card, (0, 0))
    lrf.run(project.pipeline(), runs=project.runs)
    assert "Preference pairs of the run" in card.read_text()


def test_the_model_s_card_names_its_base_its_settings_and_its_figures(tmp_path: Path) -> None:
    values = {"name": "run", "policy": {"model": "org/model"}, "train": {"type": "dpo", "beta": 0.3}}
    pipeline = parse_pipeline(values, load_catalog(), folder=tmp_path)
    card = tmp_path / "README.md"
    write_model_card(card, pipeline, trained(loss=0.5, lost_by_reason={}))
    assert head_of(card)["base_model"] == "org/model"
    text = card.read_text()
    assert '"beta": 0.3' in text
    assert "| loss | `0.5` |" in text
    assert "lost by reason" not in text


def test_a_base_model_in_a_folder_is_no_hub_s_name(tmp_path: Path) -> None:
    values = {"name": "run", "policy": {"model": "./base"}, "train": "dpo"}
    pipeline = parse_pipeline(values, load_catalog(), folder=tmp_path)
    write_model_card(tmp_path / "README.md", pipeline, trained())
    assert "base_model" not in head_of(tmp_path / "README.md")


NASTY = "x`\n\n# Best model\n| a | <script>alert(1)</script> ```\n---\nlicense: mit"


def test_a_name_can_not_become_markup_of_a_card(tmp_path: Path) -> None:
    judge = {"type": "openai", "base_url": "http://127.0.0.1:1", "model": NASTY}
    values = {
        "name": "run",
        "policy": {"model": NASTY},
        "judges": {"main": judge},
        "dimensions": ["helpfulness"],
        "train": "dpo",
    }
    pipeline = parse_pipeline(values, load_catalog(), folder=tmp_path)
    write_model_card(tmp_path / "model.md", pipeline, trained(chat_template=NASTY))
    made = PairsResult(samples=2, pairs=1, left_out=1, reasons={NASTY: 1}, prompt_template_sha256="")
    write_dataset_card(tmp_path / "data.md", pipeline, made)
    for name in ("model.md", "data.md"):
        lines = (tmp_path / name).read_text().splitlines()
        assert "# Best model" not in lines
        assert lines.count("---") == 2
        assert head_of(tmp_path / name)["license"] == "other"
    assert head_of(tmp_path / "model.md")["base_model"] == NASTY


@given(st.text(max_size=300))
def test_code_is_one_line_in_one_pair_of_backquotes(text: str) -> None:
    found = code(text)
    assert found.count("`") == 2
    assert found.isprintable()
    assert "|" not in found
