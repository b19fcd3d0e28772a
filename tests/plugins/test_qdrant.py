"""The retriever ``qdrant``: in memory, in a folder, by HTTP, and on a real server where QDRANT_URL names one."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from aiohttp import web
from pydantic import ValidationError

from lrf.errors import StageError, UnscorableError
from lrf.protocols import EmbedKind, Retriever
from lrf.types import Document
from lrf_qdrant.retriever import QdrantRetriever
from lrf_qdrant.settings import QdrantSettings

if TYPE_CHECKING:
    from lrf.protocols import Vectors

Serve = Callable[[Callable[[web.Request], Awaitable[web.StreamResponse]]], Awaitable[str]]

WORDS = ("harbour", "lamp", "granite", "oil", "keeper", "town", "storm", "ledger")


class WordCounts:
    """Embeds a text by how often each of a few words stands in it, and remembers what it was asked."""

    def __init__(self, words: Sequence[str] = WORDS) -> None:
        self.words = words
        self.calls: list[tuple[EmbedKind, int]] = []

    async def __call__(self, texts: Sequence[str], kind: EmbedKind) -> Vectors:
        self.calls.append((kind, len(texts)))
        rows = [[text.lower().count(word) for word in self.words] for text in texts]
        return np.array(rows, dtype=np.float32).reshape(len(texts), len(self.words))


def paragraphs(*words: str) -> Document:
    """A document with a chunk of about thirty tokens for each word."""
    filler = "It was written down with care by those who had been there at the time and saw all of it happen. "
    return Document("doc", "\n".join(f"The {word} and the {word}. {filler}" for word in words))


def retriever_at(place: dict[str, Any], embed: WordCounts | None = None, **settings: Any) -> QdrantRetriever:
    return QdrantRetriever(
        QdrantSettings(**{"chunk_tokens": 32, "top_k": 2, **place, **settings}), embed or WordCounts()
    )


async def test_it_satisfies_the_protocol(place: dict[str, Any]) -> None:
    retriever = retriever_at(place)
    assert isinstance(retriever, Retriever)
    await retriever.aclose()


async def test_the_nearest_chunks_come_back_in_document_order(place: dict[str, Any]) -> None:
    retriever = retriever_at(place)
    index = await retriever.index([paragraphs("oil", "harbour", "lamp", "harbour", "storm")])
    [found, other] = await index.search(["who paid for the harbour", "the lamp"], top_k=2)
    assert [chunk.text.split()[1] for chunk in found] == ["harbour", "harbour"]
    assert found[0].start < found[1].start
    assert any("lamp" in chunk.text for chunk in other)
    await index.aclose()
    await retriever.aclose()


async def test_chunks_are_exact_slices_of_the_document_they_name(place: dict[str, Any]) -> None:
    retriever = retriever_at(place)
    one, two = Document("one", paragraphs("oil", "storm").text), Document("two", paragraphs("keeper").text)
    index = await retriever.index([one, two])
    [found] = await index.search(["keeper storm oil"], top_k=50)
    texts = {"one": one.text, "two": two.text}
    assert {chunk.document for chunk in found} == {"one", "two"}
    assert all(chunk.text == texts[chunk.document][chunk.start : chunk.end] for chunk in found)
    await index.aclose()
    await retriever.aclose()


async def test_documents_are_embedded_in_one_call_and_queries_in_another(place: dict[str, Any]) -> None:
    embed = WordCounts()
    retriever = retriever_at(place, embed)
    index = await retriever.index([paragraphs(*WORDS)])
    await index.search(["harbour", "lamp", "oil"])
    assert [kind for kind, _ in embed.calls] == ["document", "query"]
    assert embed.calls[1] == ("query", 3)
    await index.aclose()
    await retriever.aclose()


async def test_samples_do_not_see_each_others_chunks(place: dict[str, Any]) -> None:
    retriever = retriever_at(place)
    first = await retriever.index([Document("first", "The harbour was rebuilt.")])
    second = await retriever.index([Document("second", "The harbour was flooded.")])
    [[found]] = await first.search(["harbour"], top_k=5)
    assert found.document == "first"
    await first.aclose()
    [[found]] = await second.search(["harbour"], top_k=5)
    assert found.document == "second"
    await second.aclose()
    await retriever.aclose()


async def test_chunks_of_equal_similarity_are_taken_from_the_front(place: dict[str, Any]) -> None:
    retriever = retriever_at(place)
    index = await retriever.index([paragraphs(*["harbour"] * 60)])
    [every] = await index.search(["harbour"], top_k=1_000)
    best = [chunk for chunk in every if "harbour" in chunk.text]
    for _ in range(3):
        assert await index.search(["harbour"], top_k=4) == [best[:4]]
    await index.aclose()
    await retriever.aclose()


async def test_vectors_of_zeros_are_found_last_and_asked_for_without_harm(place: dict[str, Any]) -> None:
    retriever = retriever_at(place)
    index = await retriever.index([paragraphs("nothing", "harbour", "nothing")])
    [found, of_nothing] = await index.search(["harbour", "no known word"], top_k=1)
    assert "harbour" in found[0].text
    assert of_nothing[0].start == 0
    await index.aclose()
    await retriever.aclose()


@pytest.mark.parametrize("documents", [[], [Document("d", "")], [Document("d", " \n ")]])
async def test_nothing_to_search_gives_no_chunks_and_embeds_nothing(documents: list[Document]) -> None:
    embed = WordCounts()
    retriever = retriever_at({}, embed)
    index = await retriever.index(documents)
    assert await index.search(["harbour", "lamp"]) == [[], []]
    assert embed.calls == []
    await index.aclose()
    await retriever.aclose()


async def test_no_queries_give_no_answers() -> None:
    retriever = retriever_at({})
    index = await retriever.index([paragraphs("oil")])
    assert await index.search([]) == []
    await index.aclose()
    await retriever.aclose()


async def test_many_samples_at_once_are_kept_apart(place: dict[str, Any]) -> None:
    retriever = retriever_at(place)

    async def one(number: int) -> str:
        index = await retriever.index([Document(str(number), paragraphs(*WORDS).text)])
        [[found]] = await index.search([WORDS[number % len(WORDS)]], top_k=1)
        await index.aclose()
        return found.document

    assert await asyncio.gather(*(one(n) for n in range(12))) == [str(n) for n in range(12)]
    await retriever.aclose()


async def test_qdrant_is_used_from_one_thread_that_is_not_the_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    retriever = retriever_at({})
    threads: set[int] = set()
    for name in ("add", "search", "drop", "close"):
        original: Callable[..., Any] = getattr(retriever.store, name)

        def watched(*args: Any, original: Callable[..., Any] = original) -> Any:
            threads.add(threading.get_ident())
            return original(*args)

        monkeypatch.setattr(retriever.store, name, watched)
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
    busy = asyncio.get_running_loop().create_task(retriever.run(release.wait))
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
    monkeypatch.setattr("lrf_qdrant.client._PAUSES_S", (0.01,))
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
    monkeypatch.setattr("lrf_qdrant.client._PAUSES_S", (0.01, 0.01))
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
        "import lrf_qdrant.plugin, lrf_qdrant.settings, sys\n"
        "assert not {'qdrant_client', 'numpy', 'aiohttp'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
