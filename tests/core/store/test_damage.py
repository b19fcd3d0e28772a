"""What a disk or another program changed in a journal is noticed when it is read, and never used."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lrf.errors import DamagedJournalError, RunError
from lrf.prompting.expectations import Rating
from lrf.prompting.requests import Reply, Request, Usage
from lrf.prompting.templates import Segment
from lrf.store.journal import Journal
from lrf.store.spool import Spool

REPLY = Reply("A good answer. [[7]]", usage=Usage(100, 20, 60), probabilities={"[[7]]": 1.0}, model="m", reasoning="so")
OTHER = Reply("[[3]]", usage=Usage(10, 2))


async def commit(journal: Journal, key: bytes, reply: Reply) -> None:
    request = Request((Segment("Rate it."),), Rating(), 64, 0.01)
    await journal.commit_reply(key, "{}", request, reply, sample=f"s-{key.decode()}", dimension="d", seconds=1.0)


def fill(path: Path) -> None:
    async def work() -> None:
        journal = Journal(path)
        await commit(journal, b"one", REPLY)
        await commit(journal, b"two", OTHER)
        await journal.commit_vectors("e", [b"one", b"two"], np.ones((2, 4), dtype=np.float32), seconds=1.0)
        spool = Spool(journal)
        await spool.add_row("stage", 0, "s", b"digest", "the row", transient=False)
        await spool.flush()
        journal.note_unanswered("{}", sample="s", dimension="d", reason="judge_timed_out", usage=Usage(5, 0))
        await asyncio.to_thread(journal.close)

    asyncio.run(work())


def change(path: Path, statement: str, *values: object) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        assert connection.execute(statement, values).rowcount == 1


READS: dict[str, Callable[[Journal], object]] = {
    "reply": lambda journal: asyncio.run(journal.reply(b"one")),
    "vector": lambda journal: asyncio.run(journal.vectors([b"one"])),
    "row": lambda journal: list(Spool(journal).rows("stage")),
    "usage": lambda journal: journal.usage(),
}


@pytest.mark.parametrize(
    ("read", "statement", "value", "told"),
    [
        (
            "reply",
            "UPDATE replies SET text = ? WHERE key = x'6f6e65'",
            "A good answer. [[9]]",
            "'s-one', dimension 'd'",
        ),
        ("reply", "UPDATE replies SET text = ? WHERE key = x'6f6e65'", b"\xff\xfe", "'s-one', dimension 'd'"),
        ("reply", "UPDATE replies SET finish = ? WHERE key = x'6f6e65'", "length", "'s-one', dimension 'd'"),
        ("reply", "UPDATE replies SET probabilities = ? WHERE key = x'6f6e65'", "{", "'s-one', dimension 'd'"),
        ("usage", "UPDATE replies SET prompt_tokens = ? WHERE key = x'6f6e65'", 101, "'s-one', dimension 'd'"),
        ("usage", "UPDATE replies SET judge = ? WHERE key = x'6f6e65'", "no JSON", "'s-one', dimension 'd'"),
        ("usage", "UPDATE unanswered SET calls = ?", 0, "1 notes of calls"),
        ("vector", "UPDATE vectors SET vector = ? WHERE key = x'6f6e65'", b"\0" * 16, "1 vectors"),
        ("vector", "UPDATE vectors SET vector = ? WHERE key = x'6f6e65'", "a text", "1 vectors"),
        ("row", "UPDATE rows SET row = ?", "the cow", "1 rows of a stage"),
        ("row", "UPDATE rows SET transient = ?", 1, "1 rows of a stage"),
    ],
)
def test_a_changed_row_is_reported_once_taken_out_and_asked_for_again(
    tmp_path: Path, read: str, statement: str, value: object, told: str
) -> None:
    fill(tmp_path / "j")
    change(tmp_path / "j", statement, value)
    with contextlib.closing(Journal(tmp_path / "j")) as journal:
        with pytest.raises(DamagedJournalError, match=r"changed after it was written.*same command again") as error:
            READS[read](journal)
        assert told in str(error.value)
        assert str(tmp_path / "j") in str(error.value)
        for again in READS.values():
            again(journal)
        assert asyncio.run(journal.reply(b"two")) == OTHER
        if read == "reply":
            asyncio.run(commit(journal, b"one", REPLY))
            assert asyncio.run(journal.reply(b"one")) == REPLY


def test_a_damaged_reply_still_counts_as_paid(tmp_path: Path) -> None:
    fill(tmp_path / "j")
    change(tmp_path / "j", "UPDATE replies SET text = ? WHERE key = x'6f6e65'", "[[9]]")
    with contextlib.closing(Journal(tmp_path / "j")) as journal:
        (before,) = journal.usage()
        with pytest.raises(DamagedJournalError):
            asyncio.run(journal.reply(b"one"))
        (after,) = journal.usage()
    assert (after.calls, after.prompt_tokens, after.completion_tokens) == (3, 115, 22)
    assert (before.calls, before.prompt_tokens, before.completion_tokens) == (3, 115, 22)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_whatever_bit_of_the_file_is_changed_no_other_reply_vector_or_row_is_ever_read(
    tmp_path: Path, place: float, bit: int
) -> None:
    path = tmp_path / "j"
    for old in tmp_path.iterdir():
        old.unlink()
    fill(path)
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    path.write_bytes(data)
    true: dict[str, object] = {
        "reply": REPLY,
        "vector": {b"one": np.ones(4, dtype="<f4").tobytes()},
        "row": [(0, "the row")],
        "usage": 115,
    }
    try:
        with contextlib.closing(Journal(path)) as journal:
            for name, read in READS.items():
                try:
                    found = read(journal)
                except RunError:
                    continue
                if name == "usage":
                    found = sum(used.prompt_tokens for used in journal.usage())
                assert found == true[name] or not found or name == "usage"
    except RunError:  # it can't be opened
        pass
