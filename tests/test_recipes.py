"""The recipes of docs/recipes: each can be planned and rendered, without torch, weights or a server."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lrf.config import parse_pipeline
from lrf.plugin.catalog import load_catalog

RECIPES = Path(__file__).parents[1] / "docs" / "recipes"
NAMES = sorted(path.name for path in RECIPES.glob("*.yaml"))
HEAVY = ["torch", "transformers", "trl", "deepspeed", "accelerate"]
CODE = """
import contextlib, io, json, sys
from lrf.cli.main import cli

def run(*arguments):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        cli.main(list(arguments), standalone_mode=False)
    return said.getvalue()

plans = {{}}
for name in {names!r}:
    plans[name] = json.loads(run("plan", name, "--json"))
    run("run", name, "--dry-run")
print(json.dumps({{"plans": plans, "heavy": [name for name in {heavy!r} if name in sys.modules]}}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipes, with two prompts beside them."""
    folder = tmp_path_factory.mktemp("recipes")
    for path in RECIPES.glob("*.yaml"):
        shutil.copy(path, folder)
    prompts = [{"id": f"s{i}", "context": "The tram line was closed in May. " * 50, "query": "When?"} for i in range(2)]
    candidates = [{"id": f"c{i}", "text": f"In May, {i}."} for i in range(5)]
    samples = [{**prompt, "candidates": candidates} for prompt in prompts]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in samples))
    return folder


@pytest.fixture(scope="module")
def planned(folder: Path) -> dict[str, Any]:
    """What `lrf plan` says of each recipe, in one process that also did `lrf run --dry-run` with it."""
    keys = {"GLM_API_KEY": "no-key", "OPENAI_API_KEY": "no-key"}
    env = {**os.environ, **keys, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder)}
    code = CODE.format(heavy=HEAVY, names=NAMES)
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_there_is_a_line_for_every_recipe() -> None:
    assert re.findall(r"^\| \[([^\]]+)\]", (RECIPES / "README.md").read_text(), re.MULTILINE) == sorted(
        NAMES, key=lambda name: ("llama" not in name, "glm" not in name, "sft" not in name)
    )


def test_planning_recipes_imports_no_torch(planned: dict[str, Any]) -> None:
    assert planned["heavy"] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_planned_with_the_figures_of_its_line(name: str, planned: dict[str, Any]) -> None:
    train = planned["plans"][name]["train"]
    gpus = f"{train['machines']} × {train['processes_per_machine']}" if train["processes"] > 1 else "1"
    memory = train["memory"]
    line = f"| [{name}]({name}) | {gpus} | {memory['longest']:,} | {memory['gib_together']:.0f} GiB |"
    assert line in (RECIPES / "README.md").read_text().splitlines()
    assert memory["fits"]


@pytest.mark.parametrize("model", ["llama-3.1-8b", "glm-4-9b"])
def test_a_recipe_s_settings_are_the_paper_s(model: str, folder: Path) -> None:
    """LongReward, arXiv 2410.21252: sections 3 and 4.1."""
    environ = {"GLM_API_KEY": "no-key"}
    made: list[Any] = [
        parse_pipeline((folder / f"{model}-{kind}.yaml").read_text(), load_catalog(), folder=folder, environ=environ)
        for kind in ("sft", "dpo")
    ]
    sft, dpo = made
    found = [getattr(sft.train.settings, name) for name in ("learning_rate", "global_batch", "max_steps", "max_tokens")]
    assert found == [1e-5, 8, 1800, 65536]
    train = dpo.train.settings
    assert (train.beta, train.ce.weight, train.learning_rate, train.global_batch) == (0.15, 0.1, 1e-6, 16)
    assert (400 <= train.max_steps <= 800, train.max_tokens, train.lora) == (True, 65536, None)
    assert (dpo.sample.reserved.n, dpo.sample.reserved.temperature, dpo.pairs.settings.min_candidates) == (10, 1.0, 5)
    retriever = dpo.retrievers["main"].settings
    assert (retriever.chunk_tokens, retriever.top_k) == (128, 5)
    assert {d.name: getattr(d.settings, "chunk_tokens", None) for d in dpo.dimensions} == {
        **{"helpfulness": None, "logicality": None, "faithfulness": None},
        "completeness": 4096,
    }


@pytest.mark.parametrize("name", NAMES)
def test_all_that_a_recipe_would_launch_is_written(name: str, planned: dict[str, Any], folder: Path) -> None:
    launch = folder / "runs" / name.removesuffix(".yaml") / "launch"
    plan = json.loads((launch / "plan.json").read_text())
    assert plan == planned["plans"][name]["train"]
    if plan["processes"] == 1:
        assert plan["accumulation"] == 16
        return
    assert plan["accumulation"] == (4 if name.startswith("one-node") else 1)
    config = json.loads((launch / "ds_config.json").read_text())
    assert config["zero_optimization"]["stage"] == 3
    script = "launch.sh" if name.startswith("one-node") else "job.sbatch"
    assert subprocess.run(["bash", "-n", launch / script]).returncode == 0
