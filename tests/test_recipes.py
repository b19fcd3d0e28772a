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
    assert memory["gib_together"] * 1.15 < 80e9 / 2**30


@pytest.mark.parametrize("name", NAMES)
def test_all_that_a_recipe_would_launch_is_written(name: str, planned: dict[str, Any], folder: Path) -> None:
    launch = folder / "runs" / name.removesuffix(".yaml") / "launch"
    plan = json.loads((launch / "plan.json").read_text())
    assert plan == planned["plans"][name]["train"]
    if plan["processes"] == 1:
        assert plan["accumulation"] == 16
        return
    assert plan["accumulation"] == 1
    config = json.loads((launch / "ds_config.json").read_text())
    assert config["zero_optimization"]["stage"] == 3
    assert subprocess.run(["bash", "-n", launch / "job.sbatch"]).returncode == 0
