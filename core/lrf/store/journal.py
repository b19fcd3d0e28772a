"""The journal: every reply that was paid for, committed before anything is made of it.

Resuming a run is asking it again for the same keys. Prompts are kept as lists of segments, each stored once, so a
document shared by hundreds of calls is stored once. Long values are in tables in the order in which they came, with an
index of their hashes: a table that is itself ordered by hashes would rewrite pages all over the file for each of them.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from lrf.errors import DamagedJournalError, RunError
from lrf.prompting.requests import Reply, Request, Usage
from lrf.prompting.templates import Segment
from lrf.store.added import Added
from lrf.store.ahead import ReadAhead
from lrf.store.checksums import DamagedRowError, check_usage, checksum, take_out_damaged, vector_checksum
from lrf.store.database import Database
from lrf.store.files import dump
from lrf.store.kept import reply_of, select_replies, select_vectors, written
from lrf.text.redaction import redact
from lrf.text.unicode import storable
from lrf.types import JSON

if TYPE_CHECKING:
    from lrf.protocols import Vectors

T = TypeVar("T")

KNOWN_SEGMENTS = 4096
HASH = 16  # bytes of a segment's hash
SEGMENTS = "segments "
"""What the text of a segment begins with that lists others, in hexadecimal: material that many questions share."""


class Used(NamedTuple):
    """What a judge's calls for a dimension took; ``judge`` is its identity as the journal has it.

    ``replies`` were kept, ``asked_again`` of them are those of further attempts. ``calls`` and tokens are also of calls
    without a usable reply. ``most_prompt`` and ``most_reply`` are the most tokens that calls may have taken whose
    server reported none.
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


class Kept(NamedTuple):
    """A reply to keep: what :meth:`Journal.commit_reply` takes."""

    key: bytes
    judge: str
    request: Request
    reply: Reply
    sample: str
    dimension: str
    seconds: float
    worst: tuple[int, int] = (0, 0)


def digest(*parts: bytes | str) -> bytes:
    """A 16-byte hash of parts that can't run into each other."""
    return _digest(_joined(*parts))


def _joined(*parts: bytes | str) -> bytes:
    encoded = [part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part for part in parts]
    return b"".join([b"%d:%b" % (len(data), data) for data in encoded])


def _digest(joined: bytes) -> bytes:
    return hashlib.blake2b(joined, digest_size=16).digest()


_known_joined = lru_cache(256)(_joined)
"""What requests have in common: the judge, and what is expected of it."""


def identity_text(identity: Mapping[str, JSON]) -> str:
    """What a component's replies depend on, in the form in which the journal keeps it.

    Nested values and those with a secret in them are kept as a hash.
    """

    def hashed(value: JSON) -> bool:
        nested = bool(value) and isinstance(value, dict | list)
        return nested or (isinstance(value, str) and redact(value) != value)

    return dump({k: digest(dump(v)).hex() if hashed(v) else v for k, v in identity.items()})


def request_key(identity: str, request: Request) -> bytes:
    """What a reply is kept under: the judge's identity and all that was asked. Equal keys mean an equal request."""
    options = "\0".join(request.options)
    schema = dump(request.schema) if request.schema else ""
    settings = f"{request.max_tokens} {request.temperature!r} {request.seed} {request.reply_mode}"
    numbers = f"{settings} {request.attempt} {request.repeat} {request.round}"
    prompt = b"".join([segment.digest for segment in request.prompt])
    return _digest(_known_joined(identity, request.expects.kind, options, schema) + _joined(numbers, prompt))


def vector_key(identity: str, kind: str, text: str) -> bytes:
    """What the vector of a text is kept under: the embedder's identity, "document" or "query", and the text."""
    return digest(identity, kind, text)


# with names, since a newer lrf may add columns while this one has the file open
_USAGE = "prompt_tokens, completion_tokens, cached_tokens, calls, written_tokens"
_COLUMNS = (
    "key, judge, sample, dimension, kind, reply_mode, prompt, attempt, repeat, temperature, max_tokens, seed, text,"
    f" finish, probabilities, model, reasoning, seconds, at, {_USAGE}, most_prompt, most_reply,"
    " usage_checksum, checksum"
)
_KEEP = f"INSERT OR IGNORE INTO replies ({_COLUMNS}) VALUES ({', '.join('?' * len(_COLUMNS.split(',')))})"  # noqa: S608
_UNANSWERED = f"judge, sample, dimension, reason, at, {_USAGE}, most_prompt, most_reply, usage_checksum"
_NOTED_REQUESTS = (
    "SELECT sample, rowid, calls, most_prompt, most_reply FROM unanswered"
    " WHERE reason = 'in_flight' AND sample <> '' AND judge = ?"
)
_KEEP_UNANSWERED = f"INSERT INTO unanswered ({_UNANSWERED}) VALUES ({', '.join('?' * len(_UNANSWERED.split(',')))})"  # noqa: S608
_USED = f"""
SELECT judge, dimension, total(replies), total(asked_again), total(prompt_tokens), total(completion_tokens),
    total(min(cached_tokens, prompt_tokens)), total(calls), total(written_tokens), total(most_prompt), total(most_reply)
FROM (
    SELECT judge, dimension, 1 AS replies, attempt > 0 AS asked_again, {_USAGE}, most_prompt, most_reply FROM replies
    UNION ALL SELECT judge, dimension, 0, 0, {_USAGE}, most_prompt, most_reply FROM unanswered
)
GROUP BY judge, dimension ORDER BY dimension, judge
"""  # noqa: S608

_HAS_REPLIES = "SELECT EXISTS (SELECT 1 FROM replies)"
_UNKNOWN_ENDINGS = """
SELECT judge, dimension, substr(finish, 7), count(*) FROM replies WHERE finish LIKE 'other:%' GROUP BY 1, 2, 3
"""


class Journal:
    """The journal of one run (or of one :class:`lrf.RewardModel`, in memory).

    Parameters
    ----------
    path: the SQLite file, made if it isn't there; None for a journal in memory.
    shared: other processes may add replies meanwhile.

    Raises :class:`lrf.errors.RunError` when the file is no journal, is damaged, or was written by another version.
    """

    def __init__(self, path: Path | None = None, *, shared: bool = False) -> None:
        self.path = path
        self.database = Database(path)
        self._added = None if shared or self._has_replies() else Added()
        self._ahead = ReadAhead()
        self._stored: OrderedDict[bytes, None] = OrderedDict()  # segments that are surely stored, newest last

    def _has_replies(self) -> bool:
        if self.path is None:
            return False
        try:
            return bool(self.do(lambda connection: connection.execute(_HAS_REPLIES).fetchone()[0]).result())
        except BaseException:
            self.database.close()
            raise

    def do(self, job: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Run a job that only reads, after everything that was handed in before it is committed."""
        return self.database.do(job)

    async def read(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """The result of a job that reads and compares checksums.

        Raises :class:`lrf.errors.DamagedJournalError` for what was changed after it was written; it is taken out.
        """
        try:
            return await self.database.read(job)
        except DamagedRowError as error:
            raise await self.database.write(self._take_out_damaged) from error

    def read_now(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """:meth:`read` after everything that was handed in before it is committed. Blocks."""
        try:
            return self.do(job).result()
        except DamagedRowError as error:
            raise self.database.write_later(self._take_out_damaged).result() from error

    def _take_out_damaged(self, connection: sqlite3.Connection) -> DamagedJournalError:
        return take_out_damaged(connection, self.path)

    def close(self) -> None:
        """Commit what has come in and close the file."""
        self.database.close()

    # --- replies -----------------------------------------------------------------------------------------------

    async def reply(self, key: bytes) -> Reply | None:
        """The committed reply under this key, if there is one. Raises as :meth:`read` does."""
        self.database.check_usable()
        if self._added is not None and key not in self._added:
            return None
        stored = self._ahead.take(key)
        if stored is None:
            stored = await self.database.read(lambda connection: self._ahead.look_up(connection, key))
        try:
            return None if stored is None else reply_of(key, *stored)
        except DamagedRowError as error:
            raise await self.database.write(self._take_out_damaged) from error

    async def replies(self, keys: Sequence[bytes]) -> dict[bytes, Reply]:
        """The committed replies among those asked for. Raises as :meth:`read` does."""
        self.database.check_usable()
        if (added := self._added) is not None:
            keys = [key for key in keys if key in added]
        return await self.read(lambda connection: select_replies(connection, keys)) if keys else {}

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
        worst: tuple[int, int] = (0, 0),
    ) -> None:
        """Keep a reply. Returns when it is committed. A key that is there already keeps its first reply.

        ``worst``: of a reply without usage, the most tokens of prompt and reply that it may have taken.
        """
        await self.commit_replies([Kept(key, judge, request, reply, sample, dimension, seconds, worst)])

    async def commit_replies(self, replies: Sequence[Kept]) -> None:
        """Keep replies, as :meth:`commit_reply` does, in one group."""
        at = time.time()
        new: dict[bytes, str] = {}
        lists: dict[bytes, bytes] = {}
        rows = [self._row(kept, at, new, lists) for kept in replies]
        if self._added is not None:  # before: who waits may be cancelled, and the replies are kept all the same
            for kept in replies:
                self._added.add(kept.key)

        def job(c: sqlite3.Connection) -> None:
            c.executemany("INSERT OR IGNORE INTO segments VALUES (?, ?)", new.items())
            c.executemany(_KEEP, rows)

        await self.database.write(job)
        for h in new:
            self._stored[h] = None
        while len(self._stored) > KNOWN_SEGMENTS:
            self._stored.popitem(last=False)

    def _row(self, kept: Kept, at: float, new: dict[bytes, str], lists: dict[bytes, bytes]) -> tuple[object, ...]:
        """A reply's row; the texts of its prompt that aren't stored yet are added to ``new``."""
        key, judge, request, reply, sample, dimension, seconds, worst = kept
        prompt = self._prompt(request, new, lists)
        usage = _numbers(reply.usage)
        numbers = (*usage, *worst)
        probabilities = written(reply.probabilities) if reply.probabilities is not None else None
        ended = f"{reply.finish}:{reply.finish_word}" if reply.finish_word else reply.finish
        read_back = (reply.text, ended, *usage, probabilities, reply.model, reply.reasoning)
        return (
            key, judge, storable(sample), dimension, request.expects.kind, request.reply_mode, prompt,
            request.attempt, request.repeat, request.temperature, request.max_tokens, request.seed,
            reply.text, ended, probabilities, reply.model, reply.reasoning, seconds, at, *numbers,
            checksum(judge, dimension, *numbers), checksum(key, *read_back),
        )  # fmt: skip

    def _prompt(self, request: Request, new: dict[bytes, str], lists: dict[bytes, bytes]) -> bytes:
        """The hashes that stand for a prompt; the texts that aren't stored yet are added to ``new``.

        A question on material has two: that of the list of the material's hashes, and that of its own words.
        ``lists``: the first of these hashes, by the material's own.
        """
        if not request.material:
            return self._hashed(request.prompt, new)
        material = b"".join([segment.digest for segment in request.prompt[: request.material]])
        if material not in lists:
            hashes = self._hashed(request.prompt[: request.material], new)
            listed = " ".join(hashes[i : i + HASH].hex() for i in range(0, len(hashes), HASH))
            lists[material] = self._hashed([Segment(SEGMENTS + listed)], new)
        own = request.prompt[request.material :]
        text = own[0] if len(own) == 1 else Segment("".join([segment.text for segment in own]))
        return lists[material] + self._hashed([text], new)

    def _hashed(self, segments: Sequence[Segment], new: dict[bytes, str]) -> bytes:
        """The hashes of the segments; the texts that aren't stored yet are added to ``new``."""
        hashes = [segment.digest for segment in segments]
        for h, segment in zip(hashes, segments, strict=True):
            if h in self._stored:
                self._stored.move_to_end(h)
            elif h not in new:
                new[h] = redact(storable(segment.text))
        return b"".join(hashes)

    def note_unanswered(
        self, judge: str, *, sample: str, dimension: str, reason: str, usage: Usage, worst: tuple[int, int] = (0, 0)
    ) -> Future[object]:
        """Keep that a call may have been served although no usable reply came, so that later sittings count it, too.

        ``usage`` is what the server reported for it; where it reported no tokens, ``worst`` is the most tokens of
        prompt and reply that the call may have taken. Returns at once; the row is committed with the next group,
        and the future then done.
        """
        numbers = (*_numbers(usage), *worst)
        about = (judge, storable(sample), dimension, reason, time.time())
        row = (*about, *numbers, checksum(judge, dimension, *numbers))
        return self.database.write_later(lambda connection: connection.execute(_KEEP_UNANSWERED, row))

    async def note_in_flight(
        self, row: int | None, judge: str, *, dimension: str, calls: int, worst: tuple[int, int], key: str = ""
    ) -> int:
        """Note that this many calls may be in flight, in place of the note in this row; returns the new note's row.

        It counts as calls without a usable reply do, until :meth:`forget_in_flight` removes it. ``worst``: the most
        tokens of their prompts and replies. ``key``: whose request it is, where a later sitting may ask for it.
        """
        numbers = (*_numbers(Usage(calls=calls)), *worst)
        values = (judge, key, dimension, "in_flight", time.time(), *numbers, checksum(judge, dimension, *numbers))

        def job(c: sqlite3.Connection) -> int:
            c.execute("DELETE FROM unanswered WHERE rowid = ?", (row,))
            return int(c.execute(_KEEP_UNANSWERED, values).lastrowid or 0)

        return await self.database.write(job)

    async def forget_in_flight(self, row: int) -> None:
        """Remove a note of :meth:`note_in_flight`."""
        await self.database.write(lambda c: c.execute("DELETE FROM unanswered WHERE rowid = ?", (row,)))

    def forget_later(self, row: int) -> None:
        """As :meth:`forget_in_flight`, with the next group that is written; without effect on a closed journal."""
        with suppress(RunError):
            self.database.write_later(lambda c: c.execute("DELETE FROM unanswered WHERE rowid = ?", (row,)))

    async def noted_requests(self, judge: str) -> dict[str, tuple[int, int, int, int]]:
        """The notes of requests that may be in flight, by key: the row, its calls, and the most of prompt and reply."""
        notes = await self.read(lambda c: c.execute(_NOTED_REQUESTS, (judge,)).fetchall())
        return {key: (row, calls, prompt, reply) for key, row, calls, prompt, reply in notes}

    # --- vectors -----------------------------------------------------------------------------------------------

    async def vectors(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The committed vectors (float32, little endian) among those asked for. Raises as :meth:`read` does."""
        return await self.read(lambda connection: select_vectors(connection, keys))

    async def commit_vectors(self, embedder: str, keys: Sequence[bytes], vectors: Vectors, *, seconds: float) -> None:
        """Keep one batch of embeddings, shape (len(keys), dimensions)."""
        rows = [(k, v.astype("<f4", copy=False).tobytes()) for k, v in zip(keys, vectors, strict=True)]

        def job(c: sqlite3.Connection) -> None:
            batch = c.execute(
                "INSERT INTO batches (embedder, texts, seconds, at) VALUES (?, ?, ?, ?)",
                (embedder, len(rows), seconds, time.time()),
            ).lastrowid
            stored = [(key, batch, vector, vector_checksum(key, vector)) for key, vector in rows]
            c.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?, ?, ?)", stored)

        await self.database.write(job)

    # --- looking back ------------------------------------------------------------------------------------------

    def usage(self) -> list[Used]:
        """What was paid over the journal's whole life, by judge and dimension. Blocks. Raises as :meth:`read` does."""

        def job(c: sqlite3.Connection) -> list[Used]:
            check_usage(c)
            return [Used(judge, dimension, *map(int, numbers)) for judge, dimension, *numbers in c.execute(_USED)]

        return self.read_now(job)

    def unknown_endings(self) -> list[tuple[str, str, str, int]]:
        """The words of replies' ends that lrf doesn't know: judge, dimension, word, and in how many replies. Blocks."""
        return self.read_now(lambda c: c.execute(_UNKNOWN_ENDINGS).fetchall())


def _numbers(usage: Usage) -> tuple[int, ...]:
    """The values of the columns that :data:`_USAGE` names."""
    return (
        usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, usage.calls, usage.written_tokens,
    )  # fmt: skip
