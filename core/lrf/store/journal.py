"""The journal: every reply that was paid for, committed before anything is made of it.

One SQLite file, one thread that owns the connection. Callers hand it small jobs; whatever has come in since the last
group is one transaction, so a busy run commits in groups and an idle one at once. A caller goes on only after its
group is committed. Resuming a run is asking it again for the same keys.

Prompts are kept as lists of segments, each stored once, so a document shared by hundreds of calls stands there once.
Long values stand in tables in the order in which they came, with an index of their hashes: in a table that is itself
ordered by hashes each of them would rewrite pages all over the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import queue
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from lrf.errors import RunError
from lrf.prompting.requests import Reply, Request
from lrf.store.database import open_database, unusable
from lrf.store.files import dump, storable
from lrf.store.kept import select_reply
from lrf.store.keys import PerhapsThere
from lrf.types import JSON

if TYPE_CHECKING:
    from lrf.protocols import Vectors

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], Any]
Waiter = Future[Any] | asyncio.Future[Any]
Part = list[tuple[Job, Waiter, bool]]  # the bool: whether the job writes
Outcome = tuple[Waiter, Any, BaseException | None]


class Used(NamedTuple):
    """What a judge's replies to a dimension took; ``judge`` is its identity as the journal has it.

    ``replies`` were kept, ``asked_again`` of them are those of further attempts. ``most_prompt`` and ``most_reply`` are
    the most tokens that replies may have taken of which the server told none.
    """

    judge: str
    dimension: str
    replies: int
    asked_again: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    calls: int
    written_tokens: int
    most_prompt: int
    most_reply: int


def digest(*parts: bytes | str) -> bytes:
    """A 16-byte hash of parts that can't run into each other."""
    h = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        h.update(b"%d:%b" % (len(data), data))
    return h.digest()


def identity_text(identity: Mapping[str, JSON]) -> str:
    """What a component's replies depend on, as it stands in the journal.

    Nested values are kept as a hash: they may be what a user sends along from the environment, a key for instance.
    """
    return dump({k: digest(dump(v)).hex() if v and isinstance(v, dict | list) else v for k, v in identity.items()})


def request_key(identity: str, request: Request) -> bytes:
    """What a reply is kept under: the judge's identity and all that was asked. Equal keys mean an equal request."""
    options = "\0".join(request.options)
    schema = dump(request.schema) if request.schema else ""
    numbers = f"{request.max_tokens} {request.temperature!r} {request.seed} {request.attempt} {request.repeat} {request.reply_mode}"
    if request.round:
        numbers += f" {request.round}"
    prompt = "".join(s.text for s in request.prompt)
    return digest(identity, request.expects.kind, options, schema, numbers, prompt)


def vector_key(identity: str, kind: str, text: str) -> bytes:
    """What the vector of a text is kept under: the embedder's identity, "document" or "query", and the text."""
    return digest(identity, kind, text)


_of_segment = lru_cache(4096)(digest)
"""The digest of a segment that many prompts share, made once."""


# with names, since a newer lrf may add columns while this one has the file open
_COLUMNS = (
    "key, judge, sample, dimension, kind, way, prompt, attempt, draw, temperature, max_tokens, seed, text, finish,"
    " probabilities, model, reasoning, prompt_tokens, completion_tokens, cached_tokens, seconds, at, calls,"
    " written_tokens, most_prompt, most_reply"
)
_KEEP = f"INSERT OR IGNORE INTO replies ({_COLUMNS}) VALUES ({', '.join('?' * len(_COLUMNS.split(',')))})"  # noqa: S608

SLICE = 4
GROUP_S = 0.02
"""Seconds from one transaction that writes to the next: what comes in meanwhile is committed together."""


def _settle(outcomes: Sequence[Outcome], loop: asyncio.AbstractEventLoop | None = None) -> None:
    """Tell the waiters, a loop's a few at a time: what else it has to do need not wait until all have gone on."""
    for waiter, value, error in outcomes[: SLICE if loop else None]:
        if waiter.done():  # cancelled in the meantime
            continue
        if error is None:
            waiter.set_result(value)
        else:
            waiter.set_exception(error)
    if loop and len(outcomes) > SLICE:
        loop.call_soon(_settle, outcomes[SLICE:], loop)


def _row_key(stage: str, position: int, sample_digest: bytes) -> bytes:
    return b"%b %d %b" % (stage.encode(), position, sample_digest)


def _writes(parts: Sequence[Part | None]) -> bool:
    return any(writes for part in parts if part for _, _, writes in part)


class Journal:
    """The journal of one run (or of one :class:`lrf.RewardModel`, in memory).

    Parameters
    ----------
    path: the SQLite file, made if it isn't there; None for a journal in memory.
    shared: whether other processes add to the file meanwhile.

    Raises :class:`lrf.errors.RunError` when the file is no journal, is damaged, or is of a newer lrf.
    """

    def __init__(self, path: Path | None = None, *, shared: bool = False) -> None:
        self.path = path
        self._keys = None if shared else PerhapsThere()
        self._closed = False
        self._jobs: queue.SimpleQueue[Part | None] = queue.SimpleQueue()
        self._gathered: dict[asyncio.AbstractEventLoop, Part] = {}
        self._known: OrderedDict[bytes, None] = OrderedDict()  # segments that are surely stored, newest last
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._work, args=(ready,), name="lrf-journal", daemon=True)
        self._thread.start()
        ready.result()

    # --- the thread --------------------------------------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        connection = open_database(self.path)
        try:
            if self._keys is not None:
                for (key,) in connection.execute("SELECT key FROM replies"):
                    self._keys.add(key)
                for row in connection.execute("SELECT stage, position, digest FROM rows"):
                    self._keys.add(_row_key(*row))
        except sqlite3.DatabaseError as error:
            connection.close()
            raise unusable(self.path, error) from error
        return connection

    def _work(self, ready: Future[None]) -> None:
        try:
            connection = self._connect()
        except BaseException as error:
            ready.set_exception(error)
            return
        ready.set_result(None)
        open_, ended = True, 0.0
        while open_:
            parts = [self._jobs.get()]
            if self.path and _writes(parts) and (soon_s := ended + GROUP_S - time.monotonic()) > 0 and not self._closed:
                time.sleep(soon_s)
            with contextlib.suppress(queue.Empty):
                while len(parts) < 512:
                    parts.append(self._jobs.get_nowait())
            open_ = None not in parts
            writes = _writes(parts)
            self._commit(connection, [job for part in parts if part for job in part], writes=writes)
            if writes:
                ended = time.monotonic()
        connection.close()

    @staticmethod
    def _commit(connection: sqlite3.Connection, group: Part, *, writes: bool) -> None:
        """Do the jobs in one transaction. A job is done even if its caller has gone: what was paid for is kept."""
        outcomes: list[Outcome] = []
        try:
            connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
            for job, waiter, _ in group:
                try:
                    outcomes.append((waiter, job(connection), None))
                except sqlite3.Error:
                    raise  # the disk is full or gone, or the file damaged: nothing of the group counts
                except Exception as error:
                    outcomes.append((waiter, None, error))
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            failure = RunError(
                f"the journal can't be written: {error}; free the disk (or move a damaged journal away) and run the same "
                "command again"
            )
            outcomes = [(waiter, None, failure) for _, waiter, _ in group]
        by_loop: dict[asyncio.AbstractEventLoop, list[Outcome]] = {}
        for outcome in outcomes:
            waiter = outcome[0]
            if isinstance(waiter, Future):
                _settle([outcome])
            else:
                by_loop.setdefault(waiter.get_loop(), []).append(outcome)
        for loop, part in by_loop.items():  # each loop is woken once for the whole group
            with contextlib.suppress(RuntimeError):  # it is closed: nobody waits any more
                loop.call_soon_threadsafe(_settle, part, loop)

    def _check_open(self) -> None:
        if self._closed:
            raise RunError("the journal is closed")

    def do(self, job: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Run a job that only reads on the journal's thread, after all jobs that came before it."""
        self._check_open()
        future: Future[T] = Future()
        self._jobs.put([(job, future, False)])
        return future

    async def _await(self, job: Callable[[sqlite3.Connection], T], *, writes: bool = False) -> T:
        self._check_open()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        gathered = self._gathered.setdefault(loop, [])
        gathered.append((job, future, writes))
        if len(gathered) == 1:  # what else comes up in this turn of the loop goes with it: the thread wakes once
            loop.call_soon(self._hand_over, loop)
        return await future

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        if gathered := self._gathered.pop(loop, None):
            self._jobs.put(gathered)

    def close(self) -> None:
        """Commit what has come in and let go of the file."""
        if not self._closed:
            self._closed = True
            for loop in list(self._gathered):
                self._hand_over(loop)
            self._jobs.put(None)
            self._thread.join()

    # --- replies -----------------------------------------------------------------------------------------------

    async def reply(self, key: bytes) -> Reply | None:
        """The committed reply under this key, if there is one."""
        self._check_open()
        if self._keys is not None and key not in self._keys:
            return None
        return await self._await(lambda connection: select_reply(connection, key))

    async def commit_reply(
        self,
        key: bytes,
        judge: str,
        request: Request,
        reply: Reply,
        *,
        sample: str,
        dimension: str,
        seconds: float,
        most: tuple[int, int] = (0, 0),
    ) -> None:
        """Keep a reply. Returns when it is on disk. A key that is there already keeps its first reply.

        ``most``: of a reply without usage, the tokens of prompt and reply that it may have taken.
        """
        hashes, new = [], []
        for segment in request.prompt:
            h = _of_segment(segment.text) if segment.trusted else digest(segment.text)
            hashes.append(h)
            if h in self._known:
                self._known.move_to_end(h)
            else:
                new.append((h, storable(segment.text)))
        usage = reply.usage
        row = (
            key, judge, storable(sample), dimension, request.expects.kind, request.reply_mode, b"".join(hashes),
            request.attempt, request.repeat, request.temperature, request.max_tokens, request.seed,
            reply.text, reply.finish,
            dump(dict(reply.probabilities)) if reply.probabilities is not None else None, reply.model, reply.reasoning,
            usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, seconds, time.time(),
            usage.calls, usage.written_tokens, *most,
        )  # fmt: skip

        def job(c: sqlite3.Connection) -> None:
            c.executemany("INSERT OR IGNORE INTO segments VALUES (?, ?)", new)
            c.execute(_KEEP, row)

        if self._keys is not None:
            self._keys.add(key)  # before: who waits may be cancelled, and the reply is kept all the same
        await self._await(job, writes=True)
        for h, _ in new:
            self._known[h] = None
        while len(self._known) > 4096:
            self._known.popitem(last=False)

    # --- vectors -----------------------------------------------------------------------------------------------

    async def vectors(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The committed vectors (float32, little endian) among those asked for."""

        def job(c: sqlite3.Connection) -> dict[bytes, bytes]:
            found: dict[bytes, bytes] = {}
            for i in range(0, len(keys), 500):
                part = keys[i : i + 500]
                marks = ",".join("?" * len(part))
                found.update(c.execute(f"SELECT key, vector FROM vectors WHERE key IN ({marks})", part))  # noqa: S608
            return found

        return await self._await(job)

    async def commit_vectors(self, embedder: str, keys: Sequence[bytes], vectors: Vectors, *, seconds: float) -> None:
        """Keep one batch of embeddings, shape (len(keys), dimensions)."""
        rows = [(k, v.astype("<f4", copy=False).tobytes()) for k, v in zip(keys, vectors, strict=True)]

        def job(c: sqlite3.Connection) -> None:
            batch = c.execute(
                "INSERT INTO batches (embedder, texts, seconds, at) VALUES (?, ?, ?, ?)",
                (embedder, len(rows), seconds, time.time()),
            ).lastrowid
            c.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?, ?)", [(k, batch, v) for k, v in rows])

        await self._await(job, writes=True)

    # --- rows of a stage that is under way ---------------------------------------------------------------------

    async def put_row(
        self, stage: str, position: int, sample: str, sample_digest: bytes, row: str, *, transient: bool
    ) -> None:
        """Keep what a stage made of the sample at this position until the stage's files are written."""
        values = (stage, position, storable(sample), sample_digest, int(transient), row)
        if self._keys is not None:
            self._keys.add(_row_key(stage, position, sample_digest))
        query = "INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, ?, ?)"
        await self._await(lambda c: c.execute(query, values), writes=True)

    async def has_row(self, stage: str, position: int, sample_digest: bytes) -> bool:
        """Whether a final row of this sample is kept; a transient failure's row doesn't count."""
        self._check_open()
        if self._keys is not None and _row_key(stage, position, sample_digest) not in self._keys:
            return False
        query = "SELECT 1 FROM rows WHERE stage = ? AND position = ? AND digest = ? AND NOT transient"
        return await self._await(lambda c: c.execute(query, (stage, position, sample_digest)).fetchone() is not None)

    def rows(self, stage: str) -> Iterator[tuple[int, str]]:
        """(transient, row) of a stage by position. Blocks: not for the event loop."""
        query = "SELECT position, transient, row FROM rows WHERE stage = ? AND position > ? ORDER BY position LIMIT 64"

        def after(position: int) -> Job:
            return lambda c: c.execute(query, (stage, position)).fetchall()

        position = -1
        while part := self.do(after(position)).result():
            for _, transient, row in part:
                yield transient, row
            position = part[-1][0]

    async def drop_rows(self, *, keep: str | None = None) -> None:
        """Forget the rows of every stage but one."""
        await self._await(lambda c: c.execute("DELETE FROM rows WHERE stage IS NOT ?", (keep,)), writes=True)

    # --- looking back ------------------------------------------------------------------------------------------

    def usage(self) -> list[Used]:
        """What was paid over the journal's whole life, by judge and dimension. Blocks."""
        query = (
            "SELECT judge, dimension, count(*), total(attempt > 0), total(prompt_tokens), total(completion_tokens),"
            " total(min(cached_tokens, prompt_tokens)), total(calls), total(written_tokens), total(most_prompt),"
            " total(most_reply) FROM replies GROUP BY judge, dimension ORDER BY dimension, judge"
        )

        def job(c: sqlite3.Connection) -> list[Used]:
            return [Used(judge, dimension, *map(int, numbers)) for judge, dimension, *numbers in c.execute(query)]

        return self.do(job).result()

    def totals(self) -> Mapping[str, int]:
        """Replies and their tokens, embedding batches and texts, over the journal's whole life. Blocks."""

        def job(c: sqlite3.Connection) -> dict[str, int]:
            calls = c.execute(
                "SELECT total(calls), total(prompt_tokens), total(completion_tokens), total(cached_tokens) FROM replies"
            ).fetchone()
            batches = c.execute("SELECT count(*), total(texts) FROM batches").fetchone()
            names = (
                "calls",
                "prompt_tokens",
                "completion_tokens",
                "cached_tokens",
                "embedding_calls",
                "embedded_texts",
            )
            return {name: int(n) for name, n in zip(names, (*calls, *batches), strict=True)}

        return self.do(job).result()
