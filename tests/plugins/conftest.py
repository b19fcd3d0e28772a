"""What tests of several plugins use."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qdrant_server import LocalServer
from serving import Serve

PLACES = [
    "memory",
    "path",
    "http",
    pytest.param(
        "url", marks=pytest.mark.skipif("QDRANT_URL" not in os.environ, reason="QDRANT_URL names no Qdrant server")
    ),
]


@pytest.fixture(params=PLACES)
async def place(request: pytest.FixtureRequest, tmp_path: Path, serve: Serve) -> dict[str, Any]:
    """Settings that say where chunks are kept: everywhere they can be, one after another; none for memory."""
    if request.param == "path":
        return {"path": tmp_path / "qdrant"}
    if request.param == "http":
        return {"url": await serve(LocalServer().answer)}
    if request.param == "url":
        return {"url": os.environ["QDRANT_URL"], "collection": f"lrf-test-{os.getpid()}"}
    return {}


@pytest.fixture
def sparrow(tmp_path: Path) -> Iterator[str]:
    """The address of a sparrow-decider server."""
    pytest.importorskip("sparrow_decider")
    code = (
        "import http.server, sparrow_decider.cli as cli\n"
        "class Server(cli.ThreadingHTTPServer):\n"
        "    def serve_forever(self):\n"
        "        print(self.server_address[1], flush=True); super().serve_forever()\n"
        "cli.ThreadingHTTPServer = Server\n"
        "cli.main(['serve', '--port', '0'])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=tmp_path
    )
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
