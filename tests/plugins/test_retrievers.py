"""The contract of the built-in retrievers: the same tests wherever chunks are kept (memory, a folder, a server)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lrf.testing import check_retriever
from lrf.types import Document
from lrf_retrieval.retriever import ChunkRetriever
from retrieval import WORDS, WordCounts, paragraphs, retriever_of


def retriever_at(place: dict[str, Any], embed: WordCounts | None = None, **settings: Any) -> ChunkRetriever:
    return retriever_of(place, embed or WordCounts(), **{"top_k": 2, **settings})


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
async def test_it_passes_the_check_of_retrievers(place: dict[str, Any], mode: str) -> None:
    retriever = retriever_at(place, mode=mode)
    await check_retriever(retriever)
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
async def test_nothing_to_search_gives_no_chunks_and_embeds_nothing(
    place: dict[str, Any], documents: list[Document]
) -> None:
    embed = WordCounts()
    retriever = retriever_at(place, embed)
    index = await retriever.index(documents)
    assert await index.search(["harbour", "lamp"]) == [[], []]
    assert await index.search([]) == []
    assert embed.calls == []
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
