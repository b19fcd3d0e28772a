"""How many calls may be in flight."""

from __future__ import annotations

import pytest

from lrf.engine.limiter import Limiter


def test_a_single_refusal_changes_nothing() -> None:
    limiter = Limiter(64)
    for i in range(200):
        limiter.refused() if i % 8 == 0 else limiter.served()
    assert limiter.limit == 64


def test_refusals_that_go_on_shrink_the_limit_and_service_lets_it_grow_again() -> None:
    limiter = Limiter(64)
    for _ in range(Limiter.WINDOW):
        limiter.refused()
    assert limiter.limit == pytest.approx(64 * Limiter.SHRINK)
    for _ in range(10_000):
        limiter.served()
    assert limiter.limit == 64


def test_the_limit_never_falls_below_one() -> None:
    limiter = Limiter(4)
    for _ in range(50 * Limiter.WINDOW):
        limiter.refused()
    assert limiter.limit == 1.0
