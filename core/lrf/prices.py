"""Prices of tokens. Usage is stored as the judge reported it, and priced afterwards.

Money is counted in whole trillionths (10⁻¹²) of a currency: a price of one million tokens with up to six decimals is
a whole number of them a token, so sums are exact and a budget is never crossed by rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

UNITS = 10**12
"""Units of money in one unit of the currency."""


@dataclass(frozen=True, slots=True)
class Price:
    """The price of one token, in units of money (see :data:`UNITS`).

    ``written``: of a prompt, where the server puts it into its cache; None: as any other.

    ``cached_from``: a prompt that shares fewer tokens than this with an earlier one is paid for in full; only
    estimates need it, since a reply's usage says what was cached.
    """

    currency: str
    prompt: int
    cached: int
    completion: int
    cached_from: int = 0
    written: int | None = None

    def cost(self, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0, written_tokens: int = 0) -> int:
        """The cost of these tokens. Cached and written ones are among ``prompt_tokens`` and counted once."""
        cached = min(cached_tokens, prompt_tokens)
        written = min(written_tokens, prompt_tokens - cached)
        of_prompt = (prompt_tokens - cached - written) * self.prompt + cached * self.cached + written * self._written
        return of_prompt + completion_tokens * self.completion

    def most(self, prompt_tokens: int, completion_tokens: int) -> int:
        """The highest cost of these tokens, whichever of them are cached."""
        dearest = max(self.prompt, self.cached, self._written)
        return prompt_tokens * dearest + completion_tokens * self.completion

    @property
    def _written(self) -> int:
        return self.prompt if self.written is None else self.written


def amount(money: int) -> float:
    """Units of money as an amount of the currency."""
    return money / UNITS
