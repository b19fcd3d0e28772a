"""The documentation does what it says: every code block is run, loaded or parsed, page by page.

Blocks are fenced with their language. A comment right before one says more:

* ``<!-- file: NAME -->``: the block is the file NAME, for the blocks after it.
* ``<!-- not run: REASON -->``: the block can't be run here; all of these are listed in NOT_RUN.

``bash`` blocks are run in a folder that holds the repository's examples; ``pip install`` of lrf itself is only checked
(the environment has it), that of a package that the page made is done. ``python`` blocks are run each by itself. A
``yaml`` block is read as a pipeline, or as a part of one. The address 127.0.0.1:8000 is a judge on this machine.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from lrf.config import parse_pipeline
from lrf.config.parser import KEYS
from lrf.plugin.catalog import load_catalog, load_settings
from lrf.plugin.spec import KINDS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(p for p in (ROOT / "docs").rglob("*.md") if p.parent.name != "changelog.d")]
READMES = sorted(p for folder in ("contrib", "examples") for p in (ROOT / folder).glob("*/README.md"))
TUTORIAL = ROOT / "docs" / "tutorial" / "first-run.md"
SLOW_PAGES = {
    ROOT / "docs" / "how-to" / f"{name}.md"
    for name in ("compare-policies", "fine-tune-a-policy", "run-a-benchmark", "train-online-with-grpo", "trust-a-judge")
}
SLOW = (pytest.mark.slow, pytest.mark.timeout(3600))
LANGUAGES = {"bash", "bibtex", "json", "jsonl", "python", "text", "toml", "yaml"}
NOT_RUN = {
    "docs/benchmarks.md": [
        "the server's script and the data are not in this repository",
        "the server's script is not in this repository",
        *["the server's script and the data are not in this repository"] * 3,
        "it takes minutes",
        *["the server's script and the data are not in this repository"] * 2,
        "it needs Debian's package debian-handbook, and minutes",
        "the book and the data are not in this repository",
        "the data are not in this repository",
        "it takes two minutes",
        "it takes minutes; tests/plugins/test_server.py compares the calls, too",
        "it trains two models; tests/plugins/test_doors.py does",
        "it writes a gigabyte",
        "it takes minutes",
        "it needs a clone of princeton-nlp/LLMBar",
        "it takes minutes",
    ],
    "docs/how-to/run-a-benchmark.md": ["it needs the network"],
    "docs/how-to/sample-candidates.md": [
        "it trains a policy three times; tests/test_rounds.py goes round with a tiny one"
    ],
    "docs/how-to/score-on-many-machines.md": ["needs a Slurm cluster", "needs the runs above"],
    "docs/how-to/see-why-an-answer-lost.md": ["it serves until Ctrl-C"] * 2,
    "docs/how-to/separate-environments.md": [
        "it makes environments and downloads vLLM",
        "it needs vLLM and a GPU",
        "it makes environments and downloads vLLM and TRL",
    ],
    "docs/how-to/train-online-with-grpo.md": ["it needs vLLM"],
}
ADDRESS = "http://127.0.0.1:8000"
ENVIRONMENT = {"OPENAI_API_KEY": "no-key", "LRF_SAMPLES": "samples.jsonl", "GLM_API_KEY": "no-key"}
ENVIRONMENT |= {"ROUND": "1", "POLICY": "./policy", "SLURM_ARRAY_TASK_ID": "1"}
_BLOCK = re.compile(r"(?:^<!-- ([^\n]*?) -->\n)?^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, what the comment before it says, and its line in the page."""

    language: str
    text: str
    comment: str
    line: int

    def says(self, word: str) -> str | None:
        """What follows ``word:`` in the comment."""
        found, _, rest = self.comment.partition(":")
        return rest.strip() if found == word else None

    @property
    def installs(self) -> bool:
        return self.language == "bash" and "pip install" in self.text


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [Block(m[2].strip(), m[3], m[1] or "", text.count("\n", 0, m.start(2)) + 1) for m in _BLOCK.finditer(text)]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def reply_to(prompt: str) -> str:
    """Every kind of mark, as the prompt's hash decides, so that candidates differ."""
    digest = hashlib.blake2b(prompt.encode(), digest_size=2).digest()
    verdict = ("Fully supported", "Partially supported", "No support")[digest[0] % 3]
    if options := re.findall(r"as one of (\[\[.+\]\])\.\nAnalysis:\Z", prompt):
        return f"It says so. {options[0].split(', ')[0]}"
    if prompt.endswith("Rubric:\n"):
        return "1. The answer names both numbers. [Hard Rule]\n2. The answer is short. [Principle]"
    statements = "<statement>The council met.</statement>\n<statement>Seven voted for it.</statement>"
    return f"It says what was asked for.\n{statements}\nRating: [[{verdict}]]\nRating: [[{digest[1] % 11}]]"


async def chat(request: web.Request) -> web.Response:
    body = await request.json()
    prompt = "\n".join(m["content"] for m in body["messages"])
    choice = {"index": 0, "message": {"role": "assistant", "content": reply_to(prompt)}, "finish_reason": "stop"}
    usage = {"prompt_tokens": len(prompt) // 4, "completion_tokens": 60}
    return web.json_response({"model": body["model"], "choices": [choice], "usage": usage})


async def completions(request: web.Request) -> web.Response:
    body = await request.json()
    choice = {"index": 0, "text": reply_to(body["prompt"]), "finish_reason": "stop"}
    usage = {"prompt_tokens": len(body["prompt"]) // 4, "completion_tokens": 60}
    return web.json_response({"model": body["model"], "choices": [choice], "usage": usage})


async def embeddings(request: web.Request) -> web.Response:
    texts = (await request.json())["input"]
    vectors = [[b / 255 for b in hashlib.blake2b(text.encode(), digest_size=16).digest()] for text in texts]
    return web.json_response({"data": [{"index": i, "embedding": v} for i, v in enumerate(vectors)]})


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Where the judge is."""
    app = web.Application(client_max_size=1 << 26)
    routes = {"chat/completions": chat, "completions": completions, "embeddings": embeddings}
    app.add_routes([web.post(f"/v1/{path}", handler) for path, handler in routes.items()])
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> web.AppRunner:
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    runner = asyncio.run_coroutine_threadsafe(start(), loop).result()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


class Workspace:
    """The folder in which a page is worked through, as a reader would from the repository's root."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder
        self.address = address
        self.site = folder / ".site"
        for name in ("examples", "contrib", "tests", "benchmarks", "docs", "pyproject.toml", "README.md"):
            if (ROOT / name).exists():
                (folder / name).symlink_to(ROOT / name)
        for environment in ("train", "vllm"):
            interpreter = folder / "envs" / environment / "bin" / "python"
            interpreter.parent.mkdir(parents=True)
            interpreter.symlink_to(sys.executable)
        paths = (self.site, os.environ.get("PYTHONPATH", ""))
        self.environment = {
            **os.environ,
            **ENVIRONMENT,
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
            "PYTHONPATH": os.pathsep.join(str(p) for p in paths if str(p)),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTEST_ADDOPTS": "-n 0",  # the options of this suite, whose settings lie here, too, start four workers
        }

    def run(self, *command: str) -> str:
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}{done.stderr}"
        return done.stdout

    def do(self, block: Block) -> None:
        text = block.text.replace(ADDRESS, self.address)
        if (file := block.says("file")) is not None:
            path = self.folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        if block.language == "bash":
            self.bash(block, text)
        elif block.language == "python" and file is None:
            self.run(sys.executable, "-c", text)
        elif block.language == "python":
            compile(text, file or "", "exec")
        elif block.language == "yaml":
            self.yaml(text)
        elif block.language == "json":
            json.loads(text)
        elif block.language == "jsonl":
            assert all(isinstance(json.loads(line), dict) for line in text.splitlines())
        elif block.language == "toml":
            tomllib.loads(text)
        for path in self.folder.glob("*.yaml"):
            path.write_text(path.read_text(encoding="utf-8").replace(ADDRESS, self.address), encoding="utf-8")

    def bash(self, block: Block, text: str) -> None:
        self.run("bash", "-n", "-c", text)
        if not block.installs:
            self.run("bash", "-euo", "pipefail", "-c", text)
            return
        for target in installed_by(text):
            if target.startswith("./"):
                options = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--target", str(self.site))
                self.run(sys.executable, "-m", "pip", "install", *options, target)
            else:
                check_extras(target)

    def yaml(self, text: str) -> None:
        values = yaml.safe_load(text)
        assert isinstance(values, dict)
        known = set(KEYS) & set(values)
        if not known:
            assert set(values) <= all_settings(), f"{set(values) - all_settings()} are settings of no component"
            return
        whole = values if "name" in values else {**A_PIPELINE, **values}
        if self.site.exists():  # with what the page has installed
            self.run(sys.executable, "-c", READ, json.dumps(whole))
        else:
            parse_pipeline(whole, load_catalog(), folder=self.folder, environ={**os.environ, **ENVIRONMENT})


READ = """
import json, sys
from lrf.plugin.catalog import load_catalog
from lrf.config import parse_pipeline

parse_pipeline(json.loads(sys.argv[1]), load_catalog())
"""
A_PIPELINE: Mapping[str, Any] = {
    "name": "example",
    "data": {"type": "jsonl", "path": "samples.jsonl"},
    "judges": {"main": {"type": "openai", "model": "my-judge"}},
    "embedders": {"main": {"type": "openai", "model": "my-embedder"}},
    "retrievers": {"main": "memory"},
    "dimensions": ["helpfulness", "logicality", "faithfulness", "completeness"],
}
"""What a part of a pipeline is put into, to be read."""


def all_settings() -> set[str]:
    catalog = load_catalog()
    return {name for kind in KINDS for spec in catalog.specs(kind) for name in load_settings(spec).model_fields}


def installed_by(text: str) -> list[str]:
    """What the ``pip install`` commands of a script install."""
    targets = []
    for command in re.findall(r"pip install ([^&|;\n]*)", text):
        targets += [word for word in shlex.split(command, comments=True) if not word.startswith("-")]
    assert targets
    return targets


def check_extras(target: str) -> None:
    """A target such as ``.[quickstart]`` or ``lrf[train]`` names extras that there are."""
    found = re.fullmatch(r"(?:\.|lrf)(?:\[([\w,-]+)\])?", target)
    if not found:
        return
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extra in (found[1] or "").split(","):
        assert not extra or extra in project["optional-dependencies"], f"lrf has no extra {extra}"


def test_the_readme_begins_with_two_commands_of_one_line_each() -> None:
    first, second, *_ = blocks(ROOT / "README.md")
    for block in (first, second):
        assert block.language == "bash"
        assert block.text.count("\n") == 1
        assert "#" not in block.text
        assert not block.text.startswith("$")
    assert "[quickstart]" in first.text
    assert "[test]" in second.text
    (pipeline,) = re.findall(r"lrf run (\S+)", first.text)
    assert (ROOT / pipeline).is_file()


def with_a_real_judge(workspace: Workspace) -> None:
    """The quickstart with the judge of this machine, by the lines that it marks."""
    examples = workspace.folder / "examples"
    examples.unlink()
    shutil.copytree(ROOT / "examples", examples)
    pipeline = examples / "quickstart" / "pipeline.yaml"
    text, types = re.subn(r"type: transformers +# real judge.*", "type: openai", pipeline.read_text(encoding="utf-8"))
    text, models = re.subn(r"model: \S+ +# real judge.*", "model: my-judge", text)
    assert (types, models, text.count("# real judge")) == (1, 1, 0)
    text = text.replace("# base_url:", "base_url:").replace(ADDRESS, workspace.address)
    pipeline.write_text(text, encoding="utf-8")


def test_two_lines_of_the_quickstart_make_it_a_pipeline_with_a_real_judge(tmp_path: Path, address: str) -> None:
    workspace = Workspace(tmp_path, address)
    with_a_real_judge(workspace)
    workspace.run("lrf", "run", "examples/quickstart/pipeline.yaml", "--until", "pairs")
    summary = json.loads((tmp_path / "runs" / "quickstart" / "summary.json").read_text(encoding="utf-8"))
    assert summary["stages"]["data"]["samples"] >= 3
    assert summary["stages"]["score"]["unscored"] == 0
    assert summary["stages"]["pairs"]["pairs"] >= 2


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_tutorial_can_be_done(tmp_path: Path, address: str) -> None:
    """Its runs with a judge that answers at once (continuous integration does the README's first command with the
    judge of this machine, which is the tutorial's run), the answer at its end with the judge of this machine."""
    workspace = Workspace(tmp_path, address)
    with_a_real_judge(workspace)
    for block in blocks(TUTORIAL):
        workspace.do(replace(block, text=block.text.replace("sleep 60", "sleep 1")))
    summaries = [json.loads(p.read_text(encoding="utf-8")) for p in tmp_path.glob("*/quickstart/summary.json")]
    assert [s["status"] for s in summaries] == ["finished", "finished"]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_of_a_page_says_what_it_is(page: Path) -> None:
    assert {b.language for b in blocks(page)} <= LANGUAGES
    assert len(blocks(page)) * 2 == len(re.findall(r"^ *```", page.read_text(encoding="utf-8"), re.MULTILINE))


def test_the_blocks_that_are_not_run_are_these() -> None:
    found = {name_of(p): [r for b in blocks(p) if (r := b.says("not run")) is not None] for p in PAGES}
    assert {page: reasons for page, reasons in found.items() if reasons} == NOT_RUN


@pytest.mark.parametrize(
    "page",
    [pytest.param(p, id=name_of(p), marks=SLOW if p in SLOW_PAGES else ()) for p in PAGES if p != TUTORIAL],
)
def test_what_a_page_says_can_be_done(page: Path, tmp_path: Path, address: str) -> None:
    workspace = Workspace(tmp_path, address)
    for number, block in enumerate(blocks(page)):
        if block.says("not run") is not None:
            continue
        if page.name == "README.md" and number < 2:
            continue  # done for real by continuous integration, in an environment of its own
        try:
            workspace.do(block)
        except Exception as error:
            error.add_note(f"in the {block.language} block at {name_of(page)}:{block.line}")
            raise


def links(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", _BLOCK.sub("", page.read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", [*PAGES, *READMES], ids=name_of)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for link in links(page):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{name_of(page)}: {link}"


def test_every_page_is_linked_from_the_readme() -> None:
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in links(ROOT / "README.md")}
    assert [name_of(p) for p in PAGES[1:] if p not in linked] == []


def anchors(page: Path) -> set[str]:
    """The names that headings can be linked by."""
    headings = re.findall(r"^#+ (.*)$", _BLOCK.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


FRAGMENTS = sorted((ROOT / "docs" / "changelog.d").glob("*.md"))


@pytest.mark.parametrize("fragment", FRAGMENTS, ids=lambda p: p.name)
def test_a_news_fragment_has_a_kind_and_says_something(fragment: Path) -> None:
    if fragment.name != "README.md":
        assert re.fullmatch(r"\+?[\w-]+\.(feature|change|fix|removal)\.md", fragment.name)
        assert fragment.read_text(encoding="utf-8").strip().endswith(".")
