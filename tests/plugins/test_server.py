"""``lrf serve``: rewards over HTTP, its doors, its limits and its end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import lrf
from first_line import FirstLine
from judge_server import JudgeServer
from lrf.cli.main import invoke
from lrf.rows.document_store import document_id
from project import Project, sample_row
from reward_server import Client, serve_here

ROW = sample_row(0)
DOCUMENT, QUERY = ROW["context"], ROW["query"]
ANSWERS = [c["text"] for c in ROW["candidates"]]
ASKED = {"query": QUERY, "context": DOCUMENT, "answers": ANSWERS}
PLAIN_PROMPT = f"{DOCUMENT}\n\n{QUERY}"
PROMPT = f"<|im_start|>user\n{PLAIN_PROMPT}<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture
def pipeline(project: Project) -> Path:
    """Four dimensions; the data can't be read, and needn't be."""
    return project.write(project.with_evidence(data={"type": "jsonl", "path": "${NOT_SET}"}))


@pytest.fixture
async def server(project: Project, pipeline: Path) -> AsyncIterator[Client]:
    async with serve_here(pipeline, project.runs) as running:
        yield running


def batch_run(project: Project) -> list[Any]:
    """The rewards of the same candidates by a run of its own."""
    project.write_data(1)
    lrf.run(project.with_evidence(name="batch", pairs=None), runs=project.runs)
    rows = (project.runs / "batch" / "rewards.jsonl").read_text().splitlines()
    return [json.loads(row)["reward"] for row in rows]


async def test_rewards_are_those_of_the_batch_run_for_as_many_calls_and_a_restart_pays_nothing(
    project: Project, pipeline: Path, judge_server: JudgeServer
) -> None:
    books, expected = judge_server.books, await asyncio.to_thread(batch_run, project)
    calls = books.calls
    async with serve_here(pipeline, project.runs) as server:
        alone = [server.post("/v1/rewards", {**ASKED, "answers": [answer]}) for answer in ANSWERS]
        got = [body["rewards"][0] for _, body in await asyncio.gather(*alone)]
        assert [reward["reward"] for reward in got] == expected
        assert books.calls == 2 * calls
        _, text = await server.get(f"/v1/rewards/{got[0]['id']}")
        assert json.loads(text)["reward"] == expected[0]
        assert json.loads(text)["judgements"]["helpfulness"]["analysis"]
    async with serve_here(pipeline, project.runs) as server:
        _, body = await server.post("/v1/rewards", {**ASKED, "detail": "evidence"})
        assert [reward["reward"] for reward in body["rewards"]] == expected
        evidence = body["rewards"][0]["judgements"]["faithfulness"]["statements"][0]["evidence"][0]
        assert evidence["text"] == DOCUMENT[evidence["start"] : evidence["end"]]
        named = {"query": QUERY, "document_ids": [document_id(DOCUMENT)], "answers": ANSWERS}
        _, by_id = await server.post("/v1/rewards", named)
        assert [reward["reward"] for reward in by_id["rewards"]] == expected
    assert books.calls == 2 * calls


async def test_an_answer_whose_deadline_passes_is_pending_and_scored_to_its_end(
    server: Client, judge_server: JudgeServer
) -> None:
    judge_server.delay_s = 0.3
    _, body = await server.post("/v1/rewards", {**ASKED, "answers": ["It is 1 euro."], "deadline_s": 0.05})
    assert body["rewards"][0]["status"] == "pending"
    _, body = await server.post("/v1/rewards", {**ASKED, "answers": ["It is 1 euro."]})
    assert body["rewards"][0]["status"] == "scored"
    assert judge_server.books.repeated == 0


def test_sigterm_in_the_midst_answers_every_request_that_has_come(
    project: Project, pipeline: Path, judge_server: JudgeServer
) -> None:
    judge_server.delay_s = 0.2
    heard = FirstLine()

    async def ask() -> list[str]:
        server = Client(heard.line.result(60))
        try:
            sent = [server.post("/v1/rewards", {**ASKED, "answers": [answer]}) for answer in ANSWERS]
            answers = asyncio.gather(*sent)
            assert await asyncio.to_thread(judge_server.wait_for_calls, 3)
            with pytest.raises(lrf.RunError, match="is in use by"):
                await asyncio.to_thread(lrf.RewardModel.from_pipeline, pipeline, runs=project.runs)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
        return [body["rewards"][0]["status"] for _, body in await answers]

    with ThreadPoolExecutor(1) as thread, redirect_stdout(heard):
        asked = thread.submit(lambda: asyncio.run(ask()))
        assert invoke(["serve", str(pipeline), "--runs", str(project.runs), "--port", "0"]) == 0
    assert asked.result() == ["scored"] * len(ANSWERS)


async def test_a_request_beyond_those_that_may_be_open_is_told_when_to_come_again(
    project: Project, pipeline: Path, judge_server: JudgeServer
) -> None:
    judge_server.delay_s = 0.2
    async with serve_here(pipeline, project.runs, max_open=2) as server:
        first = asyncio.create_task(server.post("/v1/rewards", {**ASKED, "answers": ANSWERS[:2]}))
        await asyncio.to_thread(judge_server.wait_for_calls, 1)
        another = {**ASKED, "answers": ["x"]}
        async with aiohttp.ClientSession() as http, http.post(server.url + "/v1/rewards", json=another) as response:
            assert (response.status, response.headers["Retry-After"]) == (429, "5")
        assert (await first)[0] == 200
        _, metrics = await server.get("/metrics")
        assert 'lrf_requests_total{door="/v1/rewards",status="429"} 1.0' in metrics


async def test_bad_requests_get_their_status_and_one_sentence(project: Project, pipeline: Path) -> None:
    long = "x" * 1_500_000
    cases: list[tuple[str, Any, int, str]] = [
        ("/v1/rewards", {"query": "?", "answers": ["a"]}, 422, "context: missing"),
        ("/v1/rewards", {**ASKED, "context": long}, 413, "--max-document-mb"),
        ("/v1/documents", {"text": long}, 413, "--max-document-mb"),
        ("/v1/documents", {"text": long + long}, 413, "--max-body-mb"),
        ("/v1/rewards", {"query": "?", "document_ids": ["0" * 64], "answers": ["a"]}, 404, "send its text first"),
        ("/v1/rewards", {**ASKED, "context": "\0"}, 422, "NUL"),
        ("/v1/rewards", {**ASKED, "answer": "a"}, 422, "no such field"),
        ("/v1/rewards", [1], 422, "object"),
        ("/doors/openrlhf", {"query": ["a"], "prompts": ["b"], "labels": [None]}, 422, "then the answer"),
        ("/doors/slime", {"prompt": "no document", "response": "a", "label": "x"}, 422, "isn't in it"),
    ]
    limits = {"max_document_characters": 10**6, "max_body_bytes": 2 << 20}
    async with serve_here(pipeline, project.runs, **limits) as server:
        for path, body, status, said in cases:
            got, answer = await server.post(path, body)
            assert (got, said in answer["error"]) == (status, True), (path, answer)
        url, declared = server.url + "/v1/rewards", {"content-type": "application/json"}
        async with aiohttp.ClientSession() as http:
            for bomb in (b"[" * 1_000_000, b'{"query": ' + b"9" * 10_000 + b"}", b"{", b'{"a": NaN}', b"\xff"):
                async with http.post(url, data=bomb, headers=declared) as response:
                    assert response.status == 400, (bomb[:20], await response.text())
            async with http.post(url, data=b"{}", headers={"content-type": "text/plain"}) as response:
                assert response.status == 415
        assert (await server.get("/healthz"))[0] == 200


async def test_a_web_page_of_another_site_gets_nothing(server: Client) -> None:
    for header in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert (await server.post("/v1/rewards", ASKED, **header))[0] == 403
    for name in ("evil.example", "[::1", "127.0.0.1.evil.example", ""):
        assert (await server.get("/healthz", Host=name))[0] == 421
    assert (await server.get("/healthz", Host="localhost:1"))[0] == 200


async def test_another_address_demands_the_token(project: Project, pipeline: Path, capsys: Any) -> None:
    assert invoke(["serve", str(pipeline), "--runs", str(project.runs), "--host", "0.0.0.0"]) == 2
    assert "LRF_SERVE_TOKEN" in capsys.readouterr().err
    async with serve_here(pipeline, project.runs, token="s3cret-token", hosts=None) as server:
        assert (await server.get("/metrics"))[0] == 401
        assert (await server.get("/metrics", Authorization="Bearer wrong"))[0] == 401
        assert (await server.get("/metrics", Authorization="Bearer s3cret-token"))[0] == 200
        assert (await server.get("/healthz"))[0] == 200
        with_password = Client(server.url.replace("http://", "http://lrf:s3cret-token@"))
        assert (await with_password.post("/v1/documents", {"text": "a"}))[0] == 200


@pytest.mark.slow
async def test_the_api_keeps_to_its_openapi_document_whatever_is_sent(server: Client) -> None:
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    address = f"{server.url}/openapi.json"
    command = [sys.executable, "-m", "schemathesis.cli", "run", address, "--max-examples", "60", "--checks", checks]
    done = await asyncio.to_thread(partial(subprocess.run, command, capture_output=True, text=True))
    assert done.returncode == 0, done.stdout[-5000:]
