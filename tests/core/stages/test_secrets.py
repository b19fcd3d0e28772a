"""No byte of a run directory, no message and no output holds a key, whoever wrote it down."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import lrf
from judge_server import JudgeServer
from lrf.plugin.catalog import load_catalog
from project import Project

SECRET = "sk-verysecret-0123456789"


def assert_nothing_leaked(folder: Path, *texts: str) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 3
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
    assert not any(SECRET in text for text in texts)


@pytest.fixture
def indiscreet(distribute: Any) -> Iterator[None]:
    """A third party's dimension that puts the key into its exception, its log and its judgement."""
    source = """
        import os, sys
        from lrf import ComponentSpec, Judgement, Settings, UnscorableError, hookimpl

        class Quiet(Settings):
            pass

        class Indiscreet:
            def __init__(self, settings):
                pass

            async def score(self, sample, candidate, ctx):
                key = os.environ["MY_KEY"]
                print(key, file=sys.stderr)
                if candidate.id == "c0":
                    raise RuntimeError(f"401 for Authorization: Bearer {key}")
                if candidate.id == "c1":
                    raise UnscorableError("refused", f"the server refuses {key}")
                return Judgement(5.0, analysis=f"asked with {key}", extra={"header": key})

            async def aclose(self):
                pass

        @hookimpl
        def lrf_register_dimensions():
            return [ComponentSpec("indiscreet", "indiscreet:Indiscreet", "indiscreet:Quiet", "Leaks.")]
    """
    distribute("indiscreet", entry_points={"indiscreet": "indiscreet"}, modules={"indiscreet": source})
    load_catalog.cache_clear()
    yield
    load_catalog.cache_clear()


@pytest.mark.parametrize("place", ["api_key_env", "OPENAI_API_KEY", "header_env", "extra_body"])
def test_a_key_is_in_no_file_of_the_run_and_in_no_message(
    project: Project, judge_server: JudgeServer, indiscreet: None, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    settings = {
        "api_key_env": {"api_key_env": "MY_KEY"},
        "header_env": {"header_env": {"X-Key": "MY_KEY"}},
        "extra_body": {"extra_body": {"user_key": "${MY_KEY}"}},
    }
    monkeypatch.setenv("MY_KEY", SECRET)
    if place == "OPENAI_API_KEY":
        monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    pipeline = project.pipeline(dimensions=["helpfulness", "indiscreet"], max_unscored=1)
    pipeline["judges"]["main"] |= settings.get(place, {})
    summary = lrf.run(pipeline, runs=project.runs)
    assert summary.exit_code == 0, summary.message
    details = {row["unscored"]["detail"] for row in project.lines("rewards.jsonl") if row["unscored"]}
    variable = "OPENAI_API_KEY" if place == "OPENAI_API_KEY" else "MY_KEY"
    assert f"the server refuses ${{{variable}}}" in details
    judge_server.fault("401", times=None)
    pipeline["judges"]["main"]["model"] = "other"
    failed = lrf.run(pipeline, runs=project.runs)
    assert failed.exit_code == 2
    assert_nothing_leaked(project.run_dir, failed.message)


@pytest.mark.parametrize("status", [200, 400])
async def test_a_server_that_echoes_the_authorization_header_puts_it_nowhere(
    project: Project, serve: Any, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    async def echo(request: web.Request) -> web.Response:
        header = request.headers["Authorization"]
        message = {"role": "assistant", "content": f"I was called with {header}. Rating: [[7]]", "reasoning": header}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        usage = {"prompt_tokens": 1, "completion_tokens": 1}
        error = {"error": {"message": f"bad request: {header}"}}
        body: Any = {"choices": [choice], "usage": usage, "model": header} if status == 200 else error
        return web.json_response(body, status=status)

    project.base_url = f"{await serve(echo)}/v1"
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    file = project.write(project.pipeline(dimensions=["helpfulness"], max_unscored=1, pairs=None))
    command = [sys.executable, "-m", "lrf", "run", str(file), "--runs", str(project.runs)]
    process = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert process.returncode == (0 if status == 200 else 2), process.stderr
    assert_nothing_leaked(project.run_dir, process.stdout, process.stderr)
    if status == 200:
        assert (
            "Bearer ${OPENAI_API_KEY}" in project.lines("judgements.jsonl")[0]["judgements"]["helpfulness"]["analysis"]
        )
