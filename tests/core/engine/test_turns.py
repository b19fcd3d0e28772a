"""Few questions are made up in one turn of the event loop."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from lrf.engine.turns import Turns


@given(sizes=st.lists(st.integers(0, 20), max_size=6), cancelled=st.sets(st.integers(0, 60)))
def test_all_get_their_turn_and_only_a_few_at_once(sizes: list[int], cancelled: set[int]) -> None:
    begun: list[tuple[int, int]] = []
    turn = 0

    async def one(turns: Turns, number: int) -> None:
        await turns.wait()
        begun.append((turn, number))

    async def main() -> None:
        nonlocal turn
        turns, tasks = Turns(), []
        for size in sizes:
            tasks += [asyncio.create_task(one(turns, len(tasks) + n)) for n in range(size)]
            turn += 1
            await asyncio.sleep(0)
        for number in cancelled & set(range(len(tasks))):
            tasks[number].cancel()
        while not all(task.done() for task in tasks):
            turn += 1
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(main(), 30))
    numbers = [number for _, number in begun]
    assert len(numbers) == len(set(numbers))
    assert set(range(sum(sizes))) - set(numbers) <= cancelled
    for now in range(turn + 1):
        assert sum(at == now for at, _ in begun) <= 2 * Turns.FEW  # those of this turn, and those woken by the last
