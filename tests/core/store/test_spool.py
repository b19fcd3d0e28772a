"""The rows of a stage that is under way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from lrf.store.journal import Journal
from lrf.store.spool import Spool


@pytest.fixture
def spool() -> Iterator[Spool]:
    journal = Journal()
    yield Spool(journal)
    journal.close()


async def test_rows_come_in_the_order_of_positions_whatever_the_order_of_writing(spool: Spool) -> None:
    for position in [*range(150, 0, -1), 0]:
        await spool.put_row("st", position, "s", b"d", f"row {position}", transient=position == 3)
    read = await asyncio.to_thread(lambda: list(spool.rows("st")))
    assert read == [(int(i == 3), f"row {i}") for i in range(151)]


async def test_a_row_counts_only_for_the_same_sample_and_when_it_is_final(spool: Spool) -> None:
    await spool.put_row("st", 0, "s", b"digest", "row", transient=False)
    await spool.put_row("st", 1, "t", b"digest", "row", transient=True)
    assert await spool.has_row("st", 0, b"digest")
    assert not await spool.has_row("st", 0, b"changed")
    assert not await spool.has_row("other", 0, b"digest")
    assert not await spool.has_row("st", 1, b"digest")
    assert [await spool.last_position(stage) for stage in ("st", "other")] == [1, -1]


async def test_rows_of_other_stages_are_forgotten(spool: Spool) -> None:
    await spool.put_row("old", 0, "s", b"d", "row", transient=False)
    await spool.put_row("new", 0, "s", b"d", "row", transient=False)
    await spool.drop_rows(keep="new")
    assert not await spool.has_row("old", 0, b"d")
    assert await spool.has_row("new", 0, b"d")


async def test_the_room_of_forgotten_rows_is_given_back(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    spool = Spool(journal)
    for position in range(100):
        await spool.put_row("st", position, "s", b"d", "a long row " * 1000, transient=False)
    await spool.drop_rows()
    await asyncio.to_thread(journal.close)
    assert (tmp_path / "j").stat().st_size < 100_000
