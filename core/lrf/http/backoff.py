"""How long to wait before the next attempt, where the server doesn't say."""

from __future__ import annotations

import random

FIRST_S, LONGEST_S = 0.5, 60.0


def backoff_s(attempts: int) -> float:
    """Seconds to wait after this many failed attempts, 1 or more.

    At most half a second, doubled with each attempt up to a minute; spread over the upper half of that, so that calls
    which failed together don't come back together.
    """
    longest: float = min(LONGEST_S, FIRST_S * 2.0 ** min(attempts - 1, 20))
    return longest * random.uniform(0.5, 1.0)
