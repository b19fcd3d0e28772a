"""What every test can use: HTTP servers on this machine."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import settings

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: threads that wait by spinning starve each other

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # by the `&` of a script; tests interrupt what they start
    signal.signal(signal.SIGINT, signal.default_int_handler)

sys.path.append(str(Path(__file__).parent / "support"))  # helpers of several test folders are importable

from judge_server import JudgeServer
from lrf.text.redaction import forget
from project import Project
from serving import Handler, Serve

# Each module is compiled once, and not by every worker and every process that a test starts.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A machine that decides whether a change lands draws the same examples for the same code; a person's finds new ones.
settings.register_profile("lrf", max_examples=30, deadline=None, derandomize="CI" in os.environ)
settings.load_profile("lrf")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Collect no garbage while modules are imported, and spare every later collection the modules and tests."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes have their argument's name: what is packed says when, and every process must collect the same tests."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(autouse=True)
def no_secrets_of_other_tests() -> None:
    """Each test begins as a new process does: without the secrets that an earlier pipeline named."""
    forget()


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """``await serve(handler)`` answers every request by ``handler`` and returns the address, without a slash."""
    runners = []

    async def start(handler: Handler) -> str:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
def judge_server() -> Iterator[JudgeServer]:
    """A judge and embedder on this machine, with books and with faults on demand."""
    server = JudgeServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def project(tmp_path: Path, judge_server: JudgeServer) -> Project:
    """A project with three samples of five candidates."""
    project = Project(tmp_path, judge_server.base_url)
    project.write_data()
    return project
