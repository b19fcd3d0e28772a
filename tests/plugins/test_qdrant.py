"""The retriever ``qdrant``: how it uses a Qdrant in a folder and on a server, and its errors.

What it finds is tested in test_retrievers.py, together with the other retrievers.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from lrf.errors import StageError, UnscorableError
from lrf_retrieval.qdrant.retriever import QdrantRetriever, QdrantStore
from lrf_retrieval.settings import QdrantSettings
from retrieval import WORDS, WordCounts, paragraphs
from serving import Serve


def retriever_at(place: dict[str, Any], **settings: Any) -> QdrantRetriever:
    return QdrantRetriever(QdrantSettings(**{"chunk_tokens": 32, "top_k": 2, **place, **settings}), WordCounts())


def store_of(retriever: QdrantRetriever) -> QdrantStore:
    assert isinstance(retriever.store, QdrantStore)
    return retriever.store


@pytest.mark.parametrize("place", [{}, {"location": ":memory:"}])
async def test_without_a_place_chunks_are_kept_in_memory_and_no_qdrant_is_opened(
    place: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "qdrant_client", None)
    retriever = retriever_at(place)
    index = await retriever.index([paragraphs("oil", "harbour")])
    [[chunk]] = await index.search(["harbour"], top_k=1)
    assert "harbour" in chunk.text
    await index.aclose()
    await retriever.aclose()


async def test_qdrant_is_used_from_one_thread_that_is_not_the_loops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    retriever = retriever_at({"path": tmp_path})
    collections = store_of(retriever).collections
    threads: set[int] = set()
    for name in ("add", "search", "drop", "close"):
        original: Callable[..., Any] = getattr(collections, name)

        def watched(*args: Any, original: Callable[..., Any] = original) -> Any:
            threads.add(threading.get_ident())
            return original(*args)

        monkeypatch.setattr(collections, name, watched)
    index = await retriever.index([paragraphs(*WORDS)])
    await index.search(["oil"])
    await index.aclose()
    await retriever.aclose()
    assert len(threads) == 1
    assert threading.get_ident() not in threads


async def test_a_closed_index_leaves_nothing_behind(tmp_path: Path) -> None:
    retriever = retriever_at({"path": tmp_path})
    index = await retriever.index([paragraphs(*WORDS)])
    await index.aclose()
    await retriever.aclose()
    assert json.loads((tmp_path / "meta.json").read_text())["collections"] == {}


async def test_an_index_given_up_half_way_leaves_nothing_behind(tmp_path: Path) -> None:
    retriever = retriever_at({"path": tmp_path})
    await (await retriever.index([paragraphs("oil")])).aclose()
    release = threading.Event()
    busy = asyncio.get_running_loop().create_task(store_of(retriever).run(release.wait))
    task = asyncio.create_task(retriever.index([paragraphs(*WORDS)]))
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    release.set()
    await busy
    await retriever.aclose()
    assert json.loads((tmp_path / "meta.json").read_text())["collections"] == {}


async def test_what_a_killed_run_left_in_the_folder_is_removed_and_other_collections_are_not(tmp_path: Path) -> None:
    script = (
        "import os, sys; from qdrant_client import QdrantClient, models\n"
        "client = QdrantClient(path=sys.argv[1])\n"
        "for name in ('lrf-' + 'a' * 32, 'lrf-mine', 'mine'):\n"
        "    client.create_collection(name, vectors_config=models.VectorParams(size=2, distance='Cosine'))\n"
        "os._exit(9)"
    )
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", script, str(tmp_path)], check=False)
    retriever = retriever_at({"path": tmp_path})
    await (await retriever.index([paragraphs("oil")])).aclose()
    await retriever.aclose()
    assert set(json.loads((tmp_path / "meta.json").read_text())["collections"]) == {"lrf-mine", "mine"}


async def test_a_folder_in_use_by_another_process_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    script = (
        "import sys; from qdrant_client import QdrantClient\n"
        "client = QdrantClient(path=sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    )
    pipe = asyncio.subprocess.PIPE
    holder = await asyncio.create_subprocess_exec(sys.executable, "-c", script, tmp_path, stdin=pipe, stdout=pipe)
    assert holder.stdout is not None
    assert await holder.stdout.readline() == b"open\n"
    retriever = retriever_at({"path": tmp_path})
    with pytest.raises(StageError, match=r"in use by another process.*give another path") as caught:
        await retriever.index([paragraphs("oil")])
    assert str(tmp_path) in str(caught.value)
    await holder.communicate(b"")  # closes its stdin, at which it ends
    await retriever.aclose()


async def test_a_path_that_is_a_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    retriever = retriever_at({"path": tmp_path / "file"})
    with pytest.raises(StageError, match=r"file \(`path`\) can't hold a Qdrant"):
        await retriever.index([paragraphs("oil")])
    await retriever.aclose()


async def test_a_server_that_is_not_there_is_an_error_that_names_the_address(
    unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lrf_retrieval.qdrant.client._PAUSES_S", (0.01,))
    retriever = retriever_at({"url": f"http://127.0.0.1:{unused_tcp_port}"})
    with pytest.raises(StageError, match=rf"no Qdrant server answers at http://127.0.0.1:{unused_tcp_port}.*start it"):
        await retriever.index([paragraphs("oil")])
    await retriever.aclose()


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
async def test_a_refused_key_is_an_error_that_names_the_variable_and_not_the_key(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_QDRANT_KEY", "very-secret")
    seen: list[str | None] = []

    async def refuse(request: web.Request) -> web.Response:
        seen.append(request.headers.get("api-key"))
        return web.Response(status=403, text="forbidden")

    url = await serve(refuse)
    retriever = retriever_at({"url": url}, api_key_env="MY_QDRANT_KEY")
    with pytest.raises(StageError, match="MY_QDRANT_KEY") as caught:
        await retriever.index([paragraphs("oil")])
    assert "very-secret" not in str(caught.value)
    assert seen == ["very-secret"]
    await retriever.aclose()


async def test_a_server_that_fails_for_good_leaves_candidates_unscored_for_another_run(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lrf_retrieval.qdrant.client._PAUSES_S", (0.01, 0.01))
    calls = 0

    async def fail_later(request: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        if calls == 1:
            return web.json_response({"result": {"collections": []}, "status": "ok", "time": 0})
        return web.Response(status=503, text="overloaded")

    url = await serve(fail_later)
    retriever = retriever_at({"url": url})
    with pytest.raises(UnscorableError, match="503") as caught:
        await retriever.index([paragraphs("oil")])
    assert caught.value.transient
    assert caught.value.reason == "retriever_unavailable"
    assert calls >= 4
    await retriever.aclose()


async def test_a_collection_of_another_dimension_on_the_server_is_an_error_that_names_it(serve: Serve) -> None:
    params = {"vectors": {"size": 3, "distance": "Cosine"}}
    config = {
        "params": params,
        "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 1000},
        "optimizer_config": {
            "deleted_threshold": 0.2,
            "vacuum_min_vector_number": 1000,
            "default_segment_number": 0,
            "flush_interval_sec": 5,
        },
    }
    info = {"status": "green", "optimizer_status": "ok", "segments_count": 1, "config": config, "payload_schema": {}}

    async def answer(request: web.Request) -> web.Response:
        results: dict[str, Any] = {"exists": {"exists": True}, "collections": {"collections": []}}
        return web.json_response({"result": results.get(request.path.rsplit("/", 1)[-1], info), "status": "ok"})

    url = await serve(answer)
    retriever = retriever_at({"url": url})
    with pytest.raises(StageError, match=r"lrf-8 .* holds vectors of 3 dimensions.*8.*another `collection`"):
        await retriever.index([paragraphs("oil")])
    await retriever.aclose()


def test_several_places_at_once_are_refused() -> None:
    with pytest.raises(ValidationError, match="one of location, path and url"):
        QdrantSettings(location=":memory:", url="http://localhost:6333")


def test_settings_and_plugin_import_neither_qdrant_nor_numpy() -> None:
    script = (
        "import lrf_retrieval.plugin, lrf_retrieval.settings, sys\n"
        "assert not {'qdrant_client', 'numpy', 'aiohttp'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
