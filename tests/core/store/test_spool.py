"""The rows of a stage that is under way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from lrf.errors import RunError
from lrf.store.journal import Journal
from lrf.store.spool import GROUP_CHARACTERS, PAGE, Spool


@pytest.fixture
def spool() -> Iterator[Spool]:
    journal = Journal()
    yield Spool(journal)
    journal.close()


async def test_rows_come_in_the_order_of_positions_whatever_the_order_of_writing(spool: Spool) -> None:
    for position in [*range(150, 0, -1), 0]:
        await spool.add_row("st", position, "s", b"d", f"row {position}", transient=position == 3)
    await spool.flush()
    read = await asyncio.to_thread(lambda: list(spool.rows("st")))
    assert read == [(int(i == 3), f"row {i}") for i in range(151)]


async def test_a_row_counts_only_for_the_same_stage_and_when_it_is_final(spool: Spool) -> None:
    for position, transient in ((0, False), (1, True), (PAGE - 1, False), (PAGE, False)):
        await spool.add_row("st", position, "s", b"digest %d" % position, "row", transient=transient)
    await spool.flush()
    assert await spool.finished("st", 0) == {n: b"digest %d" % n for n in (0, PAGE - 1)}
    assert await spool.finished("st", PAGE) == {PAGE: b"digest %d" % PAGE}
    assert await spool.finished("other", 0) == {}
    assert [await spool.last_position(stage) for stage in ("st", "other")] == [PAGE, -1]


async def test_a_single_row_is_committed_soon_without_another(spool: Spool) -> None:
    await spool.add_row("st", 0, "s", b"d", "row", transient=False)
    assert spool._later is not None
    await spool._later
    assert await spool.finished("st", 0)


async def test_rows_that_can_not_be_kept_are_told_to_whoever_adds_or_flushes_next() -> None:
    journal = Journal()
    spool = Spool(journal)
    await spool.add_row("st", 0, "s", b"d", "row", transient=False)
    await asyncio.to_thread(journal.close)
    for _ in range(2):
        with pytest.raises(RunError, match="closed"):
            await spool.flush()
    await spool.add_row("st", 1, "s", b"d", "row", transient=False)
    with pytest.raises(RunError, match="closed"):
        await spool.add_row("st", 2, "s", b"d", "r" * GROUP_CHARACTERS, transient=False)
    assert spool._later is not None
    await spool._later  # the rows that wait for others meet the same error, which was told


async def test_rows_of_other_stages_are_forgotten(spool: Spool) -> None:
    await spool.add_row("old", 0, "s", b"d", "row", transient=False)
    await spool.add_row("new", 0, "s", b"d", "row", transient=False)
    await spool.flush()
    await spool.drop_rows(keep="new")
    assert not await spool.finished("old", 0)
    assert await spool.finished("new", 0)


async def test_the_room_of_forgotten_rows_is_given_back(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    spool = Spool(journal)
    for position in range(100):
        await spool.add_row("st", position, "s", b"d", "a long row " * 1000, transient=False)
    await spool.flush()
    await spool.drop_rows()
    await asyncio.to_thread(journal.close)
    assert (tmp_path / "j").stat().st_size < 100_000
