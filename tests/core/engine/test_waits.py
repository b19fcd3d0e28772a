"""What is shown of calls that wait before another try."""

from __future__ import annotations

import asyncio
import time

from lrf.engine.limiter import Limiter
from lrf.engine.retries import Retries
from lrf.engine.waits import WORDS, Wait, one_line, summed
from lrf.errors import RateLimitedError


async def test_a_wait_has_the_servers_words_and_its_end_for_as_long_as_it_lasts() -> None:
    retries = Retries("judges.main", Limiter(4))
    refusals = [RateLimitedError("429 Too Many Requests:\n slow down", 0.2)]

    async def call() -> str:
        if refusals:
            raise refusals.pop()
        return "served"

    began = time.monotonic()
    running = asyncio.create_task(retries.run(call))
    for _ in range(5):
        await asyncio.sleep(0)
    (wait,) = retries.waits
    assert (wait.name, wait.status, wait.calls) == ("judges.main", "429 Too Many Requests: slow down", 1)
    assert wait.until_s >= began + 0.2
    assert await running == "served"
    assert (retries.waits, retries.count) == ((), 1)


def test_many_waiting_calls_of_a_server_are_one_wait_that_ends_last() -> None:
    waits = [Wait("a", "first", 5.0), Wait("b", "other", 1.0), Wait("a", "last", 9.0), Wait("a", "early", 2.0)]
    assert summed(waits) == (Wait("a", "last", 9.0, 3), Wait("b", "other", 1.0))


def test_a_servers_words_are_one_short_line() -> None:
    assert one_line(ValueError("a\n\nb")) == "a b"
    assert one_line(ValueError()) == "ValueError"
    assert len(one_line(ValueError("x" * 1000))) == WORDS
