"""Clients of ``lrf serve`` that are slow, send what is no HTTP, leave, or come as the server ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from judge_server import JudgeServer
from lrf_server import body, connection
from project import Project, sample_row
from reward_server import ServerHere, serve_here

ROW = sample_row(0)
ASKED = {"query": ROW["query"], "context": ROW["context"], "answers": ["It is 1 euro."]}
HEAD = b"POST /v1/rewards HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


@pytest.fixture
def pipeline(project: Project) -> Path:
    return project.write(project.with_evidence(data={"type": "jsonl", "path": "${NOT_SET}"}))


@pytest.fixture
async def server(project: Project, pipeline: Path) -> AsyncIterator[ServerHere]:
    async with serve_here(pipeline, project.runs) as running:
        yield running


@pytest.mark.parametrize(
    ("sent", "status", "said"),
    [
        (b"", 408, "head of the request took more than 0.05 s"),
        (HEAD + b"x: y", 408, "head of the request took more than 0.05 s"),
        (HEAD + b"x: " + b"y" * 70_000, 431, "longer than 65536 bytes"),
        (HEAD + b"content-length: 100\r\n\r\n{", 408, "body took more than 0.05 s"),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n", 408, "body took more than 0.05 s"),
        (HEAD + b"content-length: 9999999999999999999999\r\n\r\n", 400, "HTTP/1.1"),
        (b"\x16\x03\x01\x02\x00\x01\x00 what TLS begins with", 400, "HTTP/1.1"),
    ],
)
async def test_a_slow_or_broken_request_gets_a_status_and_a_sentence_and_its_connection_ends(
    server: ServerHere, monkeypatch: pytest.MonkeyPatch, sent: bytes, status: int, said: str
) -> None:
    monkeypatch.setattr(connection, "HEAD_S", 0.05)
    monkeypatch.setattr(body, "BODY_S", 0.05)
    broken = await server.connect()
    await broken.send(sent)
    got, answer = await broken.answer()
    assert (got, said in answer["error"]) == (status, True), answer
    assert await broken.at_end()
    broken.close()


async def test_slow_long_bodies_wait_for_one_another_and_short_ones_pass_them(
    server: ServerHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = [await server.connect() for _ in range(body.AT_ONCE + 1)]
    for one in slow:
        await one.send(HEAD + b"content-length: 200000\r\n\r\n")
    assert (await server.post("/v1/documents", {"text": "a"}))[0] == 200
    waiting = asyncio.create_task(server.post("/v1/documents", {"text": "a" * body.LARGE}))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    for one in slow:
        one.close()
    assert (await waiting)[0] == 200


async def test_what_a_client_that_leaves_has_asked_is_finished_and_paid_for_once(
    server: ServerHere, judge_server: JudgeServer
) -> None:
    judge_server.delay_s = 0.1
    leaving = await server.connect()
    await leaving.post("/v1/rewards", ASKED)
    await asyncio.to_thread(judge_server.wait_for_calls, 1)
    leaving.close()
    _, answer = await server.post("/v1/rewards", ASKED)
    assert answer["rewards"][0]["status"] == "scored"
    assert judge_server.books.repeated == 0


async def test_a_request_that_is_on_its_way_as_the_server_ends_is_answered(
    project: Project, pipeline: Path, judge_server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "GRACE_S", 60.0)  # for a busy machine
    async with serve_here(pipeline, project.runs) as server:
        kept, unused = await server.connect(), await server.connect()
        await kept.post("/v1/documents", {"text": "a"})
        assert (await kept.answer())[0] == 200
        server.begin_to_stop()
        await asyncio.sleep(0.15)  # it looks for this ten times a second
        results: list[tuple[int, Any]] = []
        for one in (kept, unused):
            await one.post("/v1/rewards", ASKED)
            results.append(await one.answer())
            assert await one.at_end()
            one.close()
        assert [(status, answer["rewards"][0]["status"]) for status, answer in results] == [(200, "scored")] * 2
        with pytest.raises(OSError, match="onnect"):
            await server.connect()
