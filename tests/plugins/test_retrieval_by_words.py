"""The retrievers by words, and by words and meaning together."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

import lrf
from lrf.config import parse_pipeline
from lrf.engine.budget import BudgetLedger
from lrf.engine.embedder_calls import EmbedderCalls
from lrf.errors import ConfigError, StageError, UnscorableError
from lrf.plugin.catalog import load_catalog
from lrf.store.journal import Journal
from lrf.testing import HashEmbedder, ScriptedJudge
from lrf.text.unicode import without_invisible
from lrf.types import Chunk, Document, Judgement
from lrf_retrieval.bm25 import Bm25, terms
from lrf_retrieval.fusion import fuse
from lrf_retrieval.quoted import Quoted
from lrf_retrieval.retriever import ChunkIndex, ChunkRetriever
from lrf_retrieval.settings import MemorySettings
from qdrant_server import LocalServer
from retrieval import retriever_of

SENTENCES = (
    "The harbour was rebuilt in 1904.",
    "Its two moles are of granite, and the lamp on the northern one is still lit by hand.",
    "The town pays 1,250 crowns a year for the oil.",
    "海港在一九〇四年重建，两条防波堤都是花岗岩的。",
    "北边的灯至今由人工点燃，油钱由镇上付。",
    "A storm took the ledger in March 1911, and nobody has seen it since.",
    "The keeper's daughter (born 1898) kept the ledger from then on.",
    "Цены на нефть выросли в марте.",
)


def retriever_at(place: dict[str, Any], **settings: Any) -> ChunkRetriever:
    return retriever_of(place, HashEmbedder().embed, **{"mode": "lexical", **settings})


async def best(text: str, queries: Sequence[str], most: int = 1, **settings: Any) -> list[list[str]]:
    """The texts of the best chunks, best first."""
    retriever = retriever_at({}, **settings)
    index = await retriever.index([Document("d", text)])
    found = [[index.chunks[n].text for n in numbers] for numbers in await index.ranked(queries, most)]
    await index.aclose()
    await retriever.aclose()
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Harbour, THE harbour!", ["the", "harbour", "the", "harbour"]),
        ("1,250 crowns, 3.14 and B2B", ["1,250", "crowns", "3.14", "and", "b2b"]),
        ("海港重建", ["海港", "港重", "重建"]),
        ("在1904年重建", ["在", "1904", "年重", "重建"]),
        ("１９０４ Ｈａｒｂｏｕｒ", ["1904", "harbour"]),
        ("Straße STRASSE", ["strasse", "strasse"]),
        ("cafe\u0301 café", ["café", "café"]),
        ("港のあかり", ["港の", "のあ", "あか", "かり"]),
        ("किताब पढ़ो।", ["किताब", "पढ\u093cो"]),
        ("סֵפֶר טוֹב", ["סֵפֶר", "טוֹב"]),
        ("har\u00adbour har\u00ad\nbour \ufeffhar\u200bbour", ["harbour", "harbour", "harbour"]),
        ("海\u200b港\ufe0f重建", ["海港", "港重", "重建"]),
        ("T\u0336h\u0336e\u0336 end", ["t\u0336h\u0336e\u0336", "end"]),
        ("!? … \0", []),
    ],
)
def test_terms_are_words_and_numbers_and_pairs_of_characters_where_no_spaces_are(
    text: str, expected: list[str]
) -> None:
    assert terms(text) == expected


@given(st.text())
def test_any_text_has_terms_and_they_are_the_same_in_capitals_and_small(text: str) -> None:
    assert all(terms(text))
    assert terms(text.lower()) == terms(text.lower().casefold())


@given(st.lists(st.lists(st.sampled_from(["oil", "lamp", "灯油", "1904", "a"]), max_size=6).map(" ".join), max_size=8))
def test_sparse_vectors_give_the_scores_that_the_index_gives(texts: list[str]) -> None:
    bm25 = Bm25(texts)
    numbers, weights = bm25.query("oil lamp oil 灯油 unknown")
    rows = [dict(zip(*vector, strict=True)) for vector in bm25.documents()]
    scores = [round(sum(w * row.get(n, 0) for n, w in zip(numbers, weights, strict=True)), 6) for row in rows]
    expected = [i for i in sorted(range(len(texts)), key=lambda i: (-scores[i], i)) if scores[i] > 0]
    assert bm25.best((numbers, weights), 10) == expected
    assert all(0 <= score <= 1 for score in scores)


def test_scores_are_those_of_bm25s() -> None:
    bm25s = pytest.importorskip("bm25s")
    texts, query = list(SENTENCES) * 2, "the lamp of the ledger in 1904 海港"
    reference = bm25s.BM25(method="lucene", k1=1.2, b=0.75)
    reference.index([terms(text) for text in texts], show_progress=False)
    theirs = reference.get_scores(terms(query))
    bm25 = Bm25(texts)
    numbers, weights = bm25.query(query)
    ours = np.array([sum(w * dict(zip(*d, strict=True)).get(n, 0) for n, w in zip(numbers, weights, strict=True))
                     for d in bm25.documents()])  # fmt: skip
    shown = theirs > 0
    ratios = theirs[shown] / ours[shown]
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-4)  # ours are divided by what a perfect text would score
    assert np.array_equal(shown, ours > 0)


TEXTS = st.one_of(
    st.lists(st.sampled_from([*SENTENCES, "\n\n", "!", "Lamp lamp lamp."]), min_size=1, max_size=30).map(" ".join),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=400),
    st.text(st.sampled_from("ab .!?\n\r。\u0301\u200d👩🏽שלום中文é１٣"), min_size=1, max_size=300),
)


@given(TEXTS, st.data())
@example("Lamp. " + "The lamp of the harbour is lit by hand, and so it was in the years before the storm. " * 3, None)
def test_what_was_copied_from_the_document_is_found_at_rank_1(text: str, data: st.DataObject | None) -> None:
    start = data.draw(st.integers(0, len(text) - 1)) if data else 0
    stop = data.draw(st.integers(start + 1, min(len(text), start + 120))) if data else 5
    copied = text[start:stop]
    if not copied.strip():
        return
    retriever = retriever_at({}, chunk_tokens=16)

    async def first() -> tuple[ChunkIndex, int]:
        index = await retriever.index([Document("other", "Lamp. Oil."), Document("d", text)])
        [[number]] = await index.ranked([copied], 1)
        await index.aclose()
        await retriever.aclose()
        return index, number

    index, number = asyncio.run(first())
    chunk, words = index.chunks[number], copied.strip()
    if words in chunk.text:
        return
    # It stands across two chunks or more: then none holds more of an occurrence than the best.
    places = [i for i in range(len(text)) if text.startswith(words, i)]

    def held(start: int, end: int) -> int:
        return max(min(end, p + len(words)) - max(start, p) for p in places)

    assert chunk.document == "d"
    assert held(chunk.start, chunk.end) == max(held(c.start, c.end) for c in index.chunks if c.document == "d")


@given(st.text("ab", min_size=1, max_size=60), st.sets(st.integers(1, 59), max_size=6), st.data())
def test_how_much_of_a_quotation_each_chunk_holds_is_exact(text: str, cuts: set[int], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    words = text[start : data.draw(st.integers(start + 1, len(text)))]
    ends = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    chunks = [Chunk("d", a, b, text[a:b]) for a, b in pairwise(ends)]
    places = [i for i in range(len(text)) if text.startswith(words, i)]
    held = [max(min(c.end, p + len(words)) - max(c.start, p) for p in places) for c in chunks]
    most = max(held)
    expected = {number: characters for number, characters in enumerate(held) if 2 * characters >= most}
    assert Quoted([Document("d", text)], [chunks]).holding(words) == expected


HIDDEN = "\u00ad\u200b\u200c\u2060\ufeff\ufe0e"


@given(st.integers(0, len(SENTENCES) - 1), st.lists(st.sampled_from(HIDDEN), min_size=1, max_size=9), st.randoms())
def test_characters_that_cannot_be_seen_hide_no_chunk(number: int, hidden: list[str], drawn: random.Random) -> None:
    sentence = SENTENCES[number]
    shown = list(sentence)
    for character in hidden:
        shown.insert(drawn.randrange(1, len(shown)), character)
    others = [other for other in SENTENCES if other != sentence] * 3
    [[found]] = asyncio.run(best("\n".join([*others, "".join(shown), *others]), [sentence], chunk_tokens=32))
    visible, plain = ("".join(without_invisible(text).split()) for text in (found, sentence))
    assert plain[:8] in visible or plain[-8:] in visible


async def test_words_parted_at_a_pdfs_line_ends_are_found() -> None:
    other = "The har\nbour was built, and re\nbuilt it was by the masters of the town who had seen it.\n"
    text = other * 20 + "The har\u00ad\nbour mas\u00ad\nter re\u00adsigned.\n" + other * 7
    [found] = await best(text, ["The harbour master resigned."], chunk_tokens=16)
    assert "mas\u00ad\nter" in found[0]


async def test_a_sentence_is_found_in_both_languages_among_many() -> None:
    filler = "The minutes say nothing more of it, and so the matter rested until the spring of the year after. "
    text = "".join(filler + sentence + "\n" for sentence in SENTENCES * 3)
    for sentence, [found] in zip(SENTENCES, await best(text, SENTENCES, chunk_tokens=64), strict=True):
        assert sentence in found


async def test_a_shorter_chunk_with_the_same_words_does_not_come_before_the_one_that_was_copied() -> None:
    text = (
        "The ledger was lost in the storm of March, which also took the roof of the keeper's house and the bell.\n"
        "Ledger, storm. Ledger, storm. Ledger, storm.\n"
    )
    [found] = await best(text, ["ledger was lost in the storm"])
    assert "was lost" in found[0]


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
async def test_every_place_finds_what_memory_finds(place: dict[str, Any], mode: str) -> None:
    drawn = random.Random(7)
    text = "\n".join(" ".join(drawn.choices(SENTENCES, k=2)) for _ in range(60))
    queries = ["the lamp", "who pays for the oil", "海港的灯", "1904", "no such words: qwertz", "", SENTENCES[5]]
    answers = []
    for where in (place, {}):
        retriever = retriever_at(where, mode=mode)
        index = await retriever.index([Document("d", text)])
        answers.append([await index.ranked(queries, k) for k in (1, 5, 20)])
        await index.aclose()
        await retriever.aclose()
    assert answers[0] == answers[1]


async def test_by_words_only_chunks_that_share_one_are_found(place: dict[str, Any]) -> None:
    retriever = retriever_at(place)
    index = await retriever.index([Document("d", "\n".join(SENTENCES[:3]))])
    [granite, nothing, chinese] = await index.search(["granite", "qwertz", "花岗岩"], top_k=5)
    assert [chunk.text.count("granite") for chunk in granite] == [1]
    assert nothing == []
    assert chinese == []  # a query in another language than the document shares no word with it
    await index.aclose()
    await retriever.aclose()


async def test_a_query_in_another_language_finds_what_the_embedder_finds_in_hybrid() -> None:
    retriever, dense = retriever_at({}, mode="hybrid"), retriever_at({}, mode="dense")
    document = Document("d", "\n".join(SENTENCES[:3] * 4))
    for query in ("花岗岩的防波堤", "granite moles"):
        found = []
        for each in (retriever, dense):
            index = await each.index([document])
            found.append(await index.search([query], top_k=2))
            await index.aclose()
        if query.isascii():
            assert any("granite" in chunk.text for chunk in found[0][0])
        else:
            assert found[0] == found[1]
    await retriever.aclose()
    await dense.aclose()


async def test_a_blank_document_has_nothing_to_find_in_any_mode(place: dict[str, Any]) -> None:
    for mode in ("lexical", "hybrid"):
        retriever = retriever_at(place, mode=mode)
        index = await retriever.index([Document("d", " \n ")])
        assert await index.search(["harbour"]) == [[]]
        await index.aclose()
        await retriever.aclose()


ODD = ("\0\0lamp\0", "\u202eשלום עולם", "e\u0301\u0301\u0327 lamp", "a\ud800b", "👩🏽\u200d👧 \ufeff", "漢\U00020000字")


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
async def test_odd_characters_are_indexed_and_found_where_they_are(place: dict[str, Any], mode: str) -> None:
    journal = Journal()
    calls = EmbedderCalls("main", HashEmbedder(), journal, BudgetLedger())
    retriever = retriever_of(place, calls.embed, chunk_tokens=16, mode=mode)
    text = "\n".join(odd + " and some words of filler that nobody asks for in the end." for odd in ODD)
    index = await retriever.index([Document("d", text)])
    for odd, found in zip(ODD, await index.search(ODD, top_k=2), strict=True):
        assert all(chunk.text == text[chunk.start : chunk.end] for chunk in found)
        if mode == "lexical":
            assert any(odd.strip() in chunk.text for chunk in found)
    await index.aclose()
    await retriever.aclose()
    await calls.aclose()
    await asyncio.to_thread(journal.close)


async def test_a_document_of_one_long_line_is_searched_like_any_other() -> None:
    line = "".join(random.Random(1).choices("abcdefghij ", k=2_000_000))
    [[found]] = await best(line, [line[1_000_000:1_000_200]], chunk_tokens=512)
    assert line[1_000_050:1_000_100] in found


def test_fusion_adds_reciprocal_ranks() -> None:
    assert fuse([[1, 2, 3], [3, 2, 4]], 10) == [3, 2, 1, 4]
    assert fuse([[1, 2], []], 10) == [1, 2]
    assert fuse([[1], [2]], 1) == [1]
    assert fuse([], 3) == []


@given(st.permutations(range(12)), st.permutations(range(12)), st.integers(1, 12), st.integers(1, 12))
def test_fusion_is_that_of_qdrant_but_for_the_order_of_equals(
    one: list[int], two: list[int], first: int, second: int
) -> None:
    from qdrant_client.hybrid.fusion import reciprocal_rank_fusion
    from qdrant_client.models import ScoredPoint

    rankings = [one[:first], two[:second]]
    theirs = reciprocal_rank_fusion(
        [[ScoredPoint(id=n, version=0, score=0) for n in ranking] for ranking in rankings], 12, ranking_constant_k=61
    )
    scores = {point.id: round(point.score, 12) for point in theirs}
    ours = fuse(rankings, 12)
    assert [scores[n] for n in ours] == [round(point.score, 12) for point in theirs]


async def test_a_server_holds_nothing_of_closed_samples_nor_of_runs_killed_long_ago(serve: Any) -> None:
    from qdrant_client import models

    server = LocalServer()
    place = {"url": await serve(server.answer)}
    retriever = retriever_at(place, mode="hybrid")
    await (await retriever.index([Document("d", SENTENCES[0])])).aclose()
    await retriever.aclose()
    names = {c.name for c in server.client.get_collections().collections}
    assert names == {"lrf-256", "lrf-lexical"}
    assert [server.client.count(name).count for name in sorted(names)] == [0, 0]

    for age_s in (10 * 86_400, 3_600):
        payload = {"tenant": "gone", "number": 0, "written": int(time.time()) - age_s}
        server.client.upsert("lrf-256", [models.PointStruct(id=age_s, vector=[1.0] * 256, payload=payload)])
    retriever = retriever_at(place, mode="hybrid")
    await (await retriever.index([Document("d", SENTENCES[0])])).aclose()
    await retriever.aclose()
    assert [point.id for point in server.client.scroll("lrf-256")[0]] == [3_600]


async def test_queries_go_to_a_server_together(serve: Any) -> None:
    server = LocalServer()
    retriever = retriever_at({"url": await serve(server.answer)}, mode="hybrid")
    index = await retriever.index([Document("d", "\n".join(SENTENCES))])
    server.requests.clear()
    await index.search([f"query {i} of the lamp" for i in range(50)], top_k=3)
    assert [line.rsplit("/", 3)[-3:] for line in server.requests] == [["points", "query", "batch"]] * 2
    await index.aclose()
    await retriever.aclose()


async def test_a_server_that_is_away_when_a_sample_is_done_stops_nothing(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lrf_retrieval.qdrant.client._PAUSES_S", ())
    server, away = LocalServer(), False

    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=503) if away else await server.answer(request)

    retriever = retriever_at({"url": await serve(answer)}, mode="hybrid")
    index = await retriever.index([Document("d", "\n".join(SENTENCES))])
    away = True
    await index.aclose()
    away = False
    await (await retriever.index([Document("d", "\n".join(SENTENCES))])).aclose()
    await retriever.aclose()


async def test_vectors_that_are_gone_from_the_server_leave_candidates_unscored(serve: Any) -> None:
    server = LocalServer()
    retriever = retriever_at({"url": await serve(server.answer)}, mode="dense")
    index = await retriever.index([Document("d", "\n".join(SENTENCES))])
    from qdrant_client import models

    server.client.delete("lrf-256", models.FilterSelector(filter=models.Filter()))
    with pytest.raises(UnscorableError, match="vectors are gone from lrf-256") as caught:
        await index.search(["lamp"])
    assert caught.value.transient
    await index.aclose()
    await retriever.aclose()


async def test_a_collection_of_another_kind_on_the_server_is_an_error_that_names_it(serve: Any) -> None:
    from qdrant_client import models

    server = LocalServer()
    server.client.create_collection("lrf-lexical", vectors_config=models.VectorParams(size=3, distance="Dot"))
    retriever = retriever_at({"url": await serve(server.answer)})
    with pytest.raises(StageError, match=r"lrf-lexical .* holds no sparse vectors.*another `collection`"):
        await retriever.index([Document("d", "The lamp.")])
    await retriever.aclose()


PIPELINE = "name: p\nembedders: {e: usem3}\nretrievers: {main: {type: memory, mode: MODE}}\n"


@pytest.mark.parametrize(
    ("mode", "needs"), [("lexical", {}), ("dense", {"embedder": "e"}), ("hybrid", {"embedder": "e"})]
)
def test_by_words_alone_no_embedder_is_needed(mode: str, needs: dict[str, str]) -> None:
    pipeline = parse_pipeline(PIPELINE.replace("MODE", mode), load_catalog())
    assert pipeline.retrievers["main"].needs == needs
    again = parse_pipeline(dict(pipeline.resolved), load_catalog())
    assert again.retrievers["main"].needs == needs


def test_without_embedders_only_lexical_works() -> None:
    text = "name: p\nretrievers: {main: {type: memory, mode: MODE}}\n"
    assert parse_pipeline(text.replace("MODE", "lexical"), load_catalog()).retrievers["main"].needs == {}
    with pytest.raises(ConfigError, match="memory needs an embedder; add one under `embedders:`"):
        parse_pipeline(text.replace("MODE", "hybrid"), load_catalog())


def test_an_embedder_that_would_not_be_asked_is_a_mistake() -> None:
    text = PIPELINE.replace("MODE", "lexical, embedder: e")
    with pytest.raises(ConfigError, match=r"main\.embedder: with these settings no embedder is asked; leave it out"):
        parse_pipeline(text, load_catalog())


def test_chunks_repeat_half_of_the_one_before_at_most() -> None:
    with pytest.raises(ValidationError, match="at most half of chunk_tokens, 32"):
        MemorySettings(chunk_tokens=64, chunk_overlap=33)


async def test_overlapping_chunks_are_searched_like_others() -> None:
    text = "\n".join(SENTENCES) * 3
    [few] = await best(text, ["lamp"], 50, mode="dense", chunk_tokens=64)
    [many] = await best(text, ["lamp"], 50, mode="dense", chunk_tokens=64, chunk_overlap=32)
    assert len(many) > len(few)


async def test_chunks_are_of_the_tokens_of_the_named_tokenizer(tmp_path: Path) -> None:
    text = "\n".join(SENTENCES) * 3
    [default] = await best(text, ["the"], 50, chunk_tokens=16)
    [other] = await best(text, ["the"], 50, chunk_tokens=16, tokenizer="cl100k_base")
    assert default != other
    with pytest.raises(ConfigError, match=r"no file .*tokenizer\.json"):
        retriever_at({}, tokenizer=tmp_path)


async def test_a_reward_model_finds_evidence_by_words_without_an_embedder() -> None:
    retriever = {"type": "memory", "mode": "lexical", "chunk_tokens": 16}
    async with lrf.RewardModel(ScriptedJudge(), ["faithfulness"], retriever=retriever) as model:
        context = " ".join(SENTENCES)
        reward = await model.score(context=context, query="Who pays for the oil?", answer="The town pays.")
    judgement = reward.judgements["faithfulness"]
    assert isinstance(judgement, Judgement)
    spans = [span for statement in judgement.statements for span in statement.evidence]
    assert all(0 <= span.start < span.end <= len(context) for span in spans)
    assert reward.reward is not None
