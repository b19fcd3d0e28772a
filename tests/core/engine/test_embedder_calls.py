"""Calls to an embedder: each text once a run, in full batches."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pytest

from lrf.engine.budget import BudgetLedger
from lrf.engine.embedder_calls import EmbedderCalls
from lrf.errors import (
    JudgeMisconfiguredError,
    RejectedError,
    RunInterruptedError,
    StageError,
    UnavailableError,
    UnscorableError,
)
from lrf.protocols import EmbedKind
from lrf.store.journal import Journal
from lrf.testing import HashEmbedder

if TYPE_CHECKING:
    from lrf.protocols import Vectors


@asynccontextmanager
async def calls_to(embedder: HashEmbedder, journal: Journal | None = None) -> AsyncIterator[EmbedderCalls]:
    kept = journal or Journal()
    calls = EmbedderCalls("main", embedder, kept, BudgetLedger())
    try:
        yield calls
    finally:
        await calls.aclose()
        if journal is None:
            await asyncio.to_thread(kept.close)


def texts_of(embedder: HashEmbedder) -> list[str]:
    return [text for batch in embedder.batches for text in batch]


async def test_thousands_of_texts_come_in_their_order_and_each_is_embedded_once() -> None:
    embedder = HashEmbedder(batch_size=30)
    texts = [f"text number {i % 700}" for i in range(1_000)]
    async with calls_to(embedder) as calls:
        vectors = await calls.embed(texts, "document")
        again = await calls.embed(texts, "document")
    assert np.array_equal(vectors, await HashEmbedder().embed(texts, "document"))
    assert np.array_equal(vectors, again)
    assert sorted(texts_of(embedder)) == sorted(set(texts))


async def test_as_a_query_a_text_is_another_than_as_a_document() -> None:
    embedder = HashEmbedder()
    async with calls_to(embedder) as calls:
        await calls.embed(["a"], "document")
        await calls.embed(["a"], "query")
    assert embedder.batches == [("a",), ("a",)]


async def test_what_is_asked_at_once_goes_in_full_batches() -> None:
    embedder = HashEmbedder(batch_size=8)
    async with calls_to(embedder) as calls:
        await asyncio.gather(*(calls.embed([f"{i}", f"{i + 1}"], "query") for i in range(20)))
    assert [len(batch) for batch in embedder.batches] == [8, 8, 5]
    assert len(set(texts_of(embedder))) == 21


async def test_another_process_takes_vectors_from_the_journal(tmp_path: Path) -> None:
    first = Journal(tmp_path / "j")
    async with calls_to(HashEmbedder(), first) as calls:
        before = await calls.embed(["a", "b"], "document")
    await asyncio.to_thread(first.close)
    second, embedder = Journal(tmp_path / "j"), HashEmbedder()
    async with calls_to(embedder, second) as calls:
        assert np.array_equal(await calls.embed(["b", "a"], "document"), before[::-1])
    await asyncio.to_thread(second.close)
    assert not embedder.batches


async def test_a_lone_surrogate_reaches_no_embedder() -> None:
    embedder = HashEmbedder()
    async with calls_to(embedder) as calls:
        vectors = await calls.embed(["a\ud800b", "a\ufffdb", "\ud83d\ude00"], "document")
    assert np.array_equal(vectors[0], vectors[1])
    assert texts_of(embedder) == ["a\ufffdb", "\U0001f600"]


async def test_no_text_gives_no_vector_and_no_call() -> None:
    embedder = HashEmbedder()
    async with calls_to(embedder) as calls:
        assert len(await calls.embed([], "query")) == 0
    assert not embedder.batches


class PendingBatch(HashEmbedder):
    """Waits before it answers."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.release = asyncio.Event(), asyncio.Event()

    async def embed(self, texts: Sequence[str], kind: EmbedKind) -> Vectors:
        vectors = await super().embed(texts, kind)
        self.asked.set()
        await self.release.wait()
        return vectors


async def test_a_text_that_is_under_way_is_waited_for_even_if_it_arrives_while_others_are_looked_up() -> None:
    journal, embedder = Journal(), PendingBatch()
    async with calls_to(embedder, journal) as calls:
        first = asyncio.create_task(calls.embed(["shared"], "document"))
        await embedder.asked.wait()
        # The second request begins while "shared" is under way, and is still looking for "other" when it arrives.
        look_up = journal.vectors

        async def slow(keys: Sequence[bytes]) -> dict[bytes, bytes]:
            found = await look_up(keys)
            embedder.release.set()
            await first
            return found

        journal.vectors = slow  # type: ignore[method-assign]
        await calls.embed(["shared", "other"], "document")
    await asyncio.to_thread(journal.close)
    assert sorted(texts_of(embedder)) == ["other", "shared"]


async def test_who_gives_up_takes_nothing_from_the_others() -> None:
    embedder = PendingBatch()
    async with calls_to(embedder) as calls:
        first, second = (asyncio.create_task(calls.embed(["a"], "document")) for _ in range(2))
        await embedder.asked.wait()
        first.cancel()
        embedder.release.set()
        assert len(await second) == 1
    assert texts_of(embedder) == ["a"]


class Failing(HashEmbedder):
    """Raises, or gives, what it is told to before it works."""

    def __init__(self, *outcomes: BaseException | Vectors) -> None:
        super().__init__()
        self.outcomes = list(outcomes)

    async def embed(self, texts: Sequence[str], kind: EmbedKind) -> Vectors:
        if self.outcomes:
            outcome = self.outcomes.pop(0)
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome
        return await super().embed(texts, kind)


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrf.http.backoff.FIRST_S", 0.0)


@pytest.mark.parametrize(
    "bad",
    [
        UnavailableError("503"),
        np.full((1, 4), np.nan, np.float32),
        np.ones((2, 4), np.float32),
        np.ones((0, 4), np.float32),
        np.ones(4, np.float32),
    ],
    ids=["unavailable", "not-finite", "too-many", "too-few", "one-dimension"],
)
async def test_a_fault_or_a_useless_array_is_asked_again(no_pauses: None, bad: BaseException | Vectors) -> None:
    async with calls_to(Failing(bad)) as calls:
        assert (await calls.embed(["a"], "document")).shape == (1, 256)


async def test_five_faults_reach_every_waiting_caller(no_pauses: None) -> None:
    async with calls_to(Failing(*(UnavailableError("503") for _ in range(15)))) as calls:
        outcomes = await asyncio.gather(
            *(calls.embed([text], "document") for text in ("a", "b")), return_exceptions=True
        )
        assert all(isinstance(o, UnscorableError) and o.transient for o in outcomes)
        assert len(await calls.embed(["a"], "document")) == 1


async def test_an_embedder_that_can_not_work_stops_the_run() -> None:
    async with calls_to(Failing(JudgeMisconfiguredError("wrong key"))) as calls:
        with pytest.raises(JudgeMisconfiguredError):
            await calls.embed(["a"], "document")


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, 0.3], ids=["nan", "inf", "zero", "constant"])
async def test_useless_vectors_leave_candidates_unscored_and_are_not_kept(no_pauses: None, bad: float) -> None:
    async with calls_to(Failing(*(np.full((1, 256), bad, np.float32) for _ in range(5)))) as calls:
        with pytest.raises(UnscorableError, match=r"embedders\.main .*gave .*(not finite|useless vectors)") as caught:
            await calls.embed(["a"], "document")
        assert (caught.value.reason, caught.value.transient) == ("embedder_bad_vectors", True)
        assert (await calls.embed(["a"], "document")).shape == (1, 256)  # and nothing of it was kept


async def test_zeros_are_right_for_a_text_without_a_word_and_for_no_other() -> None:
    zeros = np.zeros((2, 256), np.float32)
    async with calls_to(Failing(zeros)) as calls:
        assert not (await calls.embed(["…", "-- !"], "query")).any()
        assert (await calls.embed(["…", "two words"], "query"))[1].any()


async def test_the_same_vector_for_several_different_texts_is_not_kept(no_pauses: None) -> None:
    same = np.tile(np.arange(256, dtype=np.float32), (4, 1))
    async with calls_to(Failing(*(same for _ in range(5)), *(same[:2] for _ in range(10)))) as calls:
        with pytest.raises(UnscorableError, match="useless vectors"):
            await calls.embed([f"text {i}" for i in range(4)], "document")
        assert len(await calls.embed([f"text {i}" for i in range(4)], "document")) == 4


class Refusing(HashEmbedder):
    """Refuses every batch with a text that contains POISON, and gives zeros for one that contains ZERO."""

    async def embed(self, texts: Sequence[str], kind: EmbedKind) -> Vectors:
        if any("POISON" in text for text in texts):
            self.batches.append(tuple(texts))
            raise RejectedError("status 400: maximum context length is 512 tokens")
        vectors = await super().embed(texts, kind)
        vectors[["ZERO" in text for text in texts]] = 0
        return vectors


@pytest.mark.parametrize(("word", "reason"), [("POISON", "embedder_refused"), ("ZERO", "embedder_bad_vectors")])
async def test_one_text_that_fails_fails_alone(no_pauses: None, word: str, reason: str) -> None:
    embedder = Refusing(batch_size=64)
    texts = [f"text {i}" for i in range(62)]
    culprits = [f"{word} one", f"{word} two"]

    async with calls_to(embedder) as calls:

        async def one(text: str) -> str:
            try:
                return str((await calls.embed([text], "document")).shape)
            except UnscorableError as error:
                return (
                    error.reason if {"embedders.main", word} <= set(re.findall(r"[\w.]+", str(error))) else str(error)
                )

        outcomes = await asyncio.gather(*map(one, [culprits[0], *texts, culprits[1]]))
    assert outcomes == [reason, *["(1, 256)"] * 62, reason]
    assert len(embedder.batches) < 40


async def test_texts_that_are_all_refused_stop_the_run() -> None:
    async with calls_to(Refusing()) as calls:
        with pytest.raises(StageError, match=r"refused each of the first 9 texts.*maximum context length"):
            await calls.embed([f"POISON {i}" for i in range(9)], "document")


async def test_vectors_without_numbers_are_a_bad_reply(no_pauses: None) -> None:
    async with calls_to(Failing(*(np.ones((1, 0), np.float32) for _ in range(5)))) as calls:
        with pytest.raises(UnscorableError, match=r"shape \(1, 0\) for 1 texts"):
            await calls.embed(["a"], "document")


async def test_another_dimension_than_before_stops_the_run_and_is_not_kept(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    async with calls_to(Failing(np.eye(1, 4, dtype=np.float32)), journal) as calls:
        await calls.embed(["a"], "document")
        with pytest.raises(StageError, match=r"embedders\.main gave vectors of 4 and of 256 dimensions.*new run"):
            await calls.embed(["b"], "query")
    async with calls_to(HashEmbedder(), journal) as calls:
        await calls.embed(["b"], "query")
    await asyncio.to_thread(journal.close)


async def test_kept_vectors_of_another_dimension_stop_the_run(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    async with calls_to(Failing(np.eye(1, 4, dtype=np.float32)), journal) as calls:
        await calls.embed(["a"], "document")
    async with calls_to(HashEmbedder(), journal) as calls:
        with pytest.raises(StageError, match="dimensions"):
            await calls.embed(["a", "b"], "document")
    await asyncio.to_thread(journal.close)


async def test_a_drain_ends_calls_that_were_not_sent() -> None:
    async with calls_to(HashEmbedder()) as calls:
        calls.server.queue.stop.set()
        with pytest.raises(RunInterruptedError):
            await calls.embed(["a"], "document")


@pytest.mark.parametrize("seconds", [0, 0.01, 0.05])  # before the look-up, and before and after the texts were sent
async def test_a_caller_waiting_for_vectors_at_closing_gets_an_error(seconds: float) -> None:
    class Silent(HashEmbedder):
        async def embed(self, texts: Sequence[str], kind: EmbedKind) -> Vectors:
            await asyncio.Event().wait()
            raise AssertionError

    async with calls_to(Silent()) as calls:
        waiting = asyncio.create_task(calls.embed(["a text"], "document"))
        await asyncio.sleep(seconds)
        await calls.aclose()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(waiting, 5)


async def test_queries_go_before_the_chunks_of_a_long_document() -> None:
    class Kinds(HashEmbedder):
        kinds: ClassVar[list[EmbedKind]] = []

        async def embed(self, texts: Sequence[str], kind: EmbedKind) -> Vectors:
            self.kinds.append(kind)
            await asyncio.sleep(0.01)
            return await super().embed(texts, kind)

    async with calls_to(Kinds(batch_size=1, max_concurrency=1)) as calls:
        document = asyncio.create_task(calls.embed([f"chunk {i}" for i in range(20)], "document"))
        await asyncio.sleep(0.005)
        await calls.embed(["a query"], "query")
        assert Kinds.kinds.count("document") < 20
        await document
    assert len(Kinds.kinds) == 21


@pytest.mark.parametrize("by_itself", [False, True])
async def test_an_embedder_that_cancels_its_call_fails_for_the_text_that_made_it(by_itself: bool) -> None:
    class Cancelling(HashEmbedder):
        async def embed(self, texts: Sequence[str], kind: EmbedKind) -> Vectors:
            if "poison" in texts and by_itself and (task := asyncio.current_task()) is not None:
                task.cancel()
                await asyncio.sleep(1)
            if "poison" in texts:
                raise asyncio.CancelledError
            return await super().embed(texts, kind)

    async with calls_to(Cancelling(batch_size=3)) as calls:
        outcomes = await asyncio.gather(
            *(calls.embed([text], "document") for text in ("one", "poison", "two")), return_exceptions=True
        )
    assert [type(outcome).__name__ for outcome in outcomes] == ["ndarray", "FaultError", "ndarray"]
    assert "its code cancelled its own task" in str(outcomes[1])


def test_an_event_loop_that_ends_asks_the_embedder_for_nothing_more() -> None:
    asked: list[int] = []
    begun = asyncio.Event()

    class Slow(HashEmbedder):
        async def embed(self, texts: Sequence[str], kind: EmbedKind) -> Vectors:
            asked.append(len(texts))
            begun.set()
            await asyncio.sleep(0 if len(asked) > 1 else 60)
            return await super().embed(texts, kind)

    async def leave_it() -> None:
        calls = EmbedderCalls("main", Slow(batch_size=2), Journal(), BudgetLedger())
        waiting = asyncio.create_task(calls.embed(["one", "two"], "document"))
        await begun.wait()
        assert not waiting.done()

    asyncio.run(leave_it())
    assert asked == [2]
