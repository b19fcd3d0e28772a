"""What tests of several plugins use."""

from __future__ import annotations

import os
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
