"""The journal: what is committed is there, whatever happens to the process."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from lrf.errors import RunError
from lrf.prompting.expectations import Choice, Rating, Text
from lrf.prompting.requests import Reply, ReplyMode, Request, Usage
from lrf.prompting.templates import Segment
from lrf.store import database as schema
from lrf.store.cache import _open
from lrf.store.database import VERSION
from lrf.store.journal import Journal, digest, request_key
from lrf.store.spool import Spool

DOCUMENT = "A long document that hundreds of calls share. " * 50


def request(answer: str = "an answer", **changes: object) -> Request:
    prompt = (Segment("Instructions.\n"), Segment(DOCUMENT, trusted=False), Segment(answer, trusted=False))
    values = {"prompt": prompt, "expects": Rating(), "max_tokens": 512, "temperature": 0.01, **changes}
    return Request(**values)  # type: ignore[arg-type]


def commit(journal: Journal, key: bytes, reply: Reply, asked: Request | None = None) -> None:
    work = journal.commit_reply(key, "judge", asked or request(), reply, sample="s", dimension="d", seconds=0.1)
    asyncio.run(work)


def found(journal: Journal, key: bytes) -> Reply | None:
    return asyncio.run(journal.reply(key))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal.sqlite")
    yield journal
    journal.close()


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def test_the_first_reply_of_a_key_stays(journal: Journal) -> None:
    commit(journal, b"k", Reply("first"))
    commit(journal, b"k", Reply("second"))
    kept = found(journal, b"k")
    assert kept is not None
    assert kept.text == "first"


def test_a_journal_in_memory_works_without_a_file() -> None:
    journal = Journal()
    commit(journal, b"k", Reply("[[7]]"))
    assert found(journal, b"k") == Reply("[[7]]")
    journal.close()


async def test_replies_that_arrive_together_are_one_transaction(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    statements: list[str] = []
    journal.do(lambda c: c.set_trace_callback(statements.append)).result()
    await asyncio.gather(
        *(
            journal.commit_reply(bytes([i]), "j", request(), Reply("x"), sample="s", dimension="d", seconds=0)
            for i in range(200)
        )
    )
    await asyncio.to_thread(journal.close)
    assert rows(tmp_path / "j", "SELECT count(*) FROM replies") == [(200,)]
    assert statements.count("COMMIT") < 20


async def test_a_waiter_that_is_cancelled_loses_no_paid_reply(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    commits = [
        asyncio.create_task(
            journal.commit_reply(bytes([i]), "j", request(), Reply("x"), sample="s", dimension="d", seconds=0)
        )
        for i in range(50)
    ]
    await asyncio.sleep(0)
    for task in commits:
        task.cancel()
    await asyncio.gather(*commits, return_exceptions=True)
    await asyncio.to_thread(journal.close)
    assert rows(tmp_path / "j", "SELECT count(*) FROM replies") == [(50,)]


def test_a_prompt_with_half_a_surrogate_pair_is_kept_with_a_replacement(journal: Journal) -> None:
    commit(journal, b"k", Reply("[[7]]"), request("an answer with \udc80 in it"))
    assert journal.path is not None
    assert ("an answer with \ufffd in it",) in rows(journal.path, "SELECT text FROM segments")


def test_a_reply_to_a_sample_of_a_strange_name_is_kept(journal: Journal) -> None:
    strange = journal.commit_reply(b"k", "j", request(), Reply("x"), sample="\ud800", dimension="d", seconds=0)
    asyncio.run(strange)
    spool = Spool(journal)

    async def put() -> None:
        await spool.add_row("stage", 0, "\ud800", b"digest", "row", transient=False)
        await spool.flush()

    asyncio.run(put())
    assert found(journal, b"k") == Reply("x")
    assert list(spool.rows("stage")) == [(0, "row")]


def test_a_segment_that_many_prompts_share_is_stored_once(journal: Journal) -> None:
    for i in range(20):
        commit(journal, bytes([i]), Reply("x"), request(f"answer {i % 4}"))
    assert journal.path is not None
    assert rows(journal.path, "SELECT count(*) FROM segments") == [(2 + 4,)]
    assert rows(journal.path, "SELECT count(*) FROM replies") == [(20,)]


def test_a_segment_is_stored_once_across_openings(tmp_path: Path) -> None:
    for i in range(3):
        journal = Journal(tmp_path / "j")
        commit(journal, bytes([i]), Reply("x"))
        journal.close()
    assert rows(tmp_path / "j", "SELECT count(*) FROM segments") == [(3,)]


def test_no_column_holds_a_whole_prompt(journal: Journal) -> None:
    commit(journal, b"k", Reply("x"))
    assert journal.path is not None
    for (table,) in rows(journal.path, "SELECT name FROM sqlite_master WHERE type = 'table'"):
        for row in rows(journal.path, f"SELECT * FROM {table}"):
            for value in row:
                text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
                assert not ("Instructions." in text and "an answer" in text)


def test_a_prompt_can_be_put_together_again_from_its_segments(journal: Journal) -> None:
    asked = request()
    commit(journal, b"k", Reply("x"), asked)
    assert journal.path is not None
    [(hashes,)] = rows(journal.path, "SELECT prompt FROM replies")
    assert isinstance(hashes, bytes)
    stored = dict(rows(journal.path, "SELECT hash, text FROM segments"))
    parts = [stored[hashes[i : i + 16]] for i in range(0, len(hashes), 16)]
    assert parts == [s.text for s in asked.prompt]


@pytest.mark.parametrize(
    "change",
    [
        {"attempt": 1},
        {"repeat": 1},
        {"temperature": 0.95},
        {"max_tokens": 1024},
        {"seed": 7},
        {"reply_mode": "logprobs"},
        {"reply_mode": "json"},
        {"expects": Text()},
        {"expects": Rating(1, 5)},
        {"expects": Choice(("a", "b"))},
        {"prompt": (Segment("another prompt"),)},
    ],
    ids=lambda c: "-".join(c),
)
def test_a_request_that_differs_in_anything_has_another_key(change: dict[str, object]) -> None:
    assert request_key("judge", request(**change)) != request_key("judge", request())


def test_the_schema_is_part_of_the_key_only_where_it_is_sent() -> None:
    class Wide(Rating):
        @property
        def schema(self) -> dict[str, object]:
            return {"type": "object"}

    def keys(reply_mode: ReplyMode) -> set[bytes]:
        return {request_key("j", request(expects=e, reply_mode=reply_mode)) for e in (Rating(), Wide())}

    assert len(keys("json")) == 2
    assert len(keys("text")) == 1


def test_a_key_depends_on_the_text_of_each_segment_and_not_on_who_wrote_it() -> None:
    ours = request(prompt=(Segment("a"), Segment("b")))
    theirs = request(prompt=(Segment("a"), Segment("b", trusted=False)))
    other = request(prompt=(Segment("a"), Segment("c", trusted=False)))
    assert request_key("j", ours) == request_key("j", theirs) != request_key("j", other)


def test_parts_of_a_digest_do_not_run_into_each_other() -> None:
    assert digest("ab", "c") != digest("a", "bc")


async def test_vectors_come_back_and_batches_are_counted(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    await journal.commit_vectors("e", [b"a", b"b"], vectors, seconds=0.1)
    kept = await journal.vectors([b"a", b"b", b"c"])
    assert kept == {b"a": vectors[0].tobytes(), b"b": vectors[1].tobytes()}
    assert rows(tmp_path / "j", "SELECT embedder, texts FROM batches") == [("e", 2)]
    await asyncio.to_thread(journal.close)


async def test_more_vectors_than_one_query_takes_are_found() -> None:
    journal = Journal()
    keys = [i.to_bytes(2) for i in range(1300)]
    await journal.commit_vectors("e", keys, np.ones((1300, 2), np.float32), seconds=0)
    assert len(await journal.vectors(keys)) == 1300
    await asyncio.to_thread(journal.close)


def test_calls_that_may_have_been_served_without_a_reply_count_in_every_sitting(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    commit(journal, b"k", Reply("x", usage=Usage(10, 2, 4)))
    about = {"sample": "s", "dimension": "d", "reason": "judge_timed_out"}
    journal.note_unanswered("judge", **about, usage=Usage(calls=2), worst=(100, 20))
    journal.note_unanswered("judge", **about, usage=Usage(7, 1))
    journal.close()
    again = Journal(tmp_path / "j")
    (used,) = again.usage()
    again.close()
    assert (used.replies, used.calls, used.prompt_tokens, used.completion_tokens) == (1, 4, 17, 3)
    assert (used.cached_tokens, used.most_prompt, used.most_reply) == (4, 100, 20)


def test_a_full_disk_is_reported_and_nothing_of_the_group_counts(journal: Journal) -> None:
    commit(journal, b"k", Reply("x"))
    journal.do(lambda c: c.execute("PRAGMA max_page_count = 1")).result()
    pages = journal.do(lambda c: c.execute("PRAGMA page_count").fetchone()[0]).result()
    journal.do(lambda c: c.execute(f"PRAGMA max_page_count = {pages}")).result()
    with pytest.raises(RunError, match=r"can't be written.*free the disk"):
        commit(journal, b"big", Reply("x" * 1_000_000))
    assert found(journal, b"big") is None
    assert found(journal, b"k") == Reply("x")


def test_a_journal_works_again_when_the_disk_has_room(journal: Journal) -> None:
    pages = journal.do(lambda c: c.execute("PRAGMA page_count").fetchone()[0]).result()
    journal.do(lambda c: c.execute(f"PRAGMA max_page_count = {pages}")).result()
    with pytest.raises(RunError):
        commit(journal, b"big", Reply("x" * 1_000_000))
    journal.do(lambda c: c.execute("PRAGMA max_page_count = 1000000")).result()
    commit(journal, b"big", Reply("x" * 1_000_000), request("with its segments"))
    assert found(journal, b"big") == Reply("x" * 1_000_000)
    assert journal.path is not None
    assert rows(journal.path, "SELECT count(*) FROM segments") == [(3,)]


def test_a_journal_that_can_only_be_read_is_reported(journal: Journal) -> None:
    commit(journal, b"k", Reply("x"))
    journal.do(lambda c: c.execute("PRAGMA query_only = 1")).result()
    with pytest.raises(RunError, match="can't be written"):
        commit(journal, b"l", Reply("y"))


def test_a_closed_journal_says_so_instead_of_waiting_for_ever(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.close()
    with pytest.raises(RunError, match="closed"):
        found(journal, b"k")
    journal.close()  # twice does no harm


@pytest.mark.parametrize("version", [1, VERSION - 1])
def test_a_journal_of_an_older_lrf_is_refused_with_what_to_do_and_left_alone(tmp_path: Path, version: int) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "j")) as connection:
        connection.execute("CREATE TABLE replies (way TEXT)")
        connection.execute(f"PRAGMA user_version = {version}")
        connection.commit()
    content = (tmp_path / "j").read_bytes()
    with pytest.raises(RunError, match=r"older lrf \(version .*new run directory"):
        Journal(tmp_path / "j")
    assert (tmp_path / "j").read_bytes() == content


def test_a_journal_that_a_newer_lrf_adds_to_meanwhile_takes_replies_as_before(journal: Journal) -> None:
    assert journal.path is not None
    with contextlib.closing(sqlite3.connect(journal.path)) as newer:
        newer.execute("ALTER TABLE replies ADD COLUMN later INTEGER NOT NULL DEFAULT 0")
    commit(journal, b"k", Reply("x", usage=Usage(1, 2, 3, 4, 5)))
    assert found(journal, b"k") == Reply("x", usage=Usage(1, 2, 3, 4, 5))


def test_several_threads_make_one_journal_at_once(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with ThreadPoolExecutor(8) as pool:
        journals = list(pool.map(lambda _: _open(path), range(8)))
    for i, journal in enumerate(journals):
        commit(journal, b"%d" % i, Reply("x"))
    for journal in journals:
        journal.close()
    assert rows(path, "SELECT count(*) FROM replies") == [(8,)]


def test_a_journal_of_a_newer_lrf_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "j")
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    with pytest.raises(RunError, match="newer lrf"):
        Journal(tmp_path / "j")


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    content = b"this is a shopping list\n" * 100
    (tmp_path / "j").write_bytes(content)
    with pytest.raises(RunError, match="can't be used as a journal"):
        Journal(tmp_path / "j")
    assert (tmp_path / "j").read_bytes() == content


def test_somebody_elses_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "j")
    connection.execute("CREATE TABLE customers (name TEXT)")
    connection.commit()
    connection.close()
    content = (tmp_path / "j").read_bytes()
    with pytest.raises(RunError, match="no journal"):
        Journal(tmp_path / "j")
    assert (tmp_path / "j").read_bytes() == content


def test_a_damaged_journal_is_reported_as_such(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    for i in range(50):
        commit(journal, bytes([i]), Reply("x" * 2000))
    journal.close()
    data = bytearray((tmp_path / "j").read_bytes())
    data[100:-100] = b"\xff" * (len(data) - 200)
    (tmp_path / "j").write_bytes(data)
    with pytest.raises(RunError), contextlib.closing(Journal(tmp_path / "j")) as damaged:
        found(damaged, bytes([7]))


@pytest.mark.parametrize(("network", "mode"), [(True, "truncate"), (False, "wal")])
def test_a_network_filesystem_gets_a_journal_mode_that_works_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: bool, mode: str
) -> None:
    monkeypatch.setattr(schema, "on_network_filesystem", lambda folder: network)
    journal = Journal(tmp_path / "j")
    commit(journal, b"k", Reply("x"))
    assert journal.do(lambda c: c.execute("PRAGMA journal_mode").fetchone()[0]).result() == mode
    assert (tmp_path / "j-wal").exists() != network
    journal.close()


class KillAndResume(RuleBasedStateMachine):
    """Whatever is committed, cancelled, killed and resumed: a committed reply is never lost or changed.

    A kill is the file and its write-ahead log as they lie on disk at that moment, opened by another journal, while
    the first still has them open.
    """

    keys = Bundle("keys")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="lrf-journal-"))
        self.lives = 0
        self.journal = Journal(self.folder / "0")
        self.committed: dict[bytes, Reply] = {}
        self.old: list[Journal] = []

    @rule(target=keys, number=st.integers(0, 30))
    def key(self, number: int) -> bytes:
        return digest(str(number))

    @rule(key=keys, text=st.text(max_size=300), tokens=st.integers(0, 1000))
    def commit_one(self, key: bytes, text: str, tokens: int) -> None:
        reply = Reply(text.encode("utf-8", "replace").decode(), usage=Usage(tokens, 1, 0))
        commit(self.journal, key, reply, request(text[:3] or "a"))
        self.committed.setdefault(key, reply)

    @rule(first=consumes(keys), others=st.lists(st.integers(100, 140), min_size=1, max_size=10))
    def commit_many_at_once_and_cancel_some(self, first: bytes, others: list[int]) -> None:
        many = [first, *(digest(str(n)) for n in others)]

        async def work() -> None:
            tasks = [
                asyncio.create_task(
                    self.journal.commit_reply(
                        k, "j", request(), Reply(f"many {k.hex()}"), sample="s", dimension="d", seconds=0
                    )
                )
                for k in many
            ]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run(work())
        self.journal.do(lambda _: None).result()  # all jobs before this one are committed
        for k in many:
            self.committed.setdefault(k, Reply(f"many {k.hex()}"))

    @rule()
    def kill_and_resume(self) -> None:
        self.lives += 1
        for suffix in ("", "-wal"):
            file = self.folder / f"{self.lives - 1}{suffix}"
            if file.exists():
                shutil.copy(file, self.folder / f"{self.lives}{suffix}")
        self.old.append(self.journal)
        self.journal = Journal(self.folder / str(self.lives))

    @rule()
    def close_and_resume(self) -> None:
        self.journal.close()
        self.journal = Journal(self.folder / str(self.lives))

    @invariant()
    def every_committed_reply_is_there_unchanged(self) -> None:
        for key, reply in self.committed.items():
            assert found(self.journal, key) == reply
        assert sum(used.calls for used in self.journal.usage()) == len(self.committed)

    def teardown(self) -> None:
        for journal in (*self.old, self.journal):
            journal.close()
        shutil.rmtree(self.folder)


TestKillAndResume = KillAndResume.TestCase
TestKillAndResume.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)
