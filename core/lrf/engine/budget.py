"""The books of a run while it goes: calls, tokens, reuse, by dimension; and the budget they are held against."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from lrf.errors import BudgetError
from lrf.prices import Price, amount
from lrf.prompting.requests import Usage
from lrf.types import JSON


@dataclass(slots=True)
class Line:
    """What one dimension (or all) cost. ``reused`` replies came from the journal and cost nothing.

    ``spared`` are questions that a judge of a cascade answered, so that the later ones weren't asked.
    """

    calls: int = 0
    reused: int = 0
    faults: int = 0
    asked_again: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    spared: int = 0


@dataclass(frozen=True, slots=True)
class Budget:
    """Ceilings for what a run pays; None means none. ``money`` is in units of money (see ``lrf.prices``).

    ``currency`` is what messages call it by.
    """

    calls: int | None = None
    tokens: int | None = None
    money: int | None = None
    currency: str = "money"

    @property
    def limited(self) -> bool:
        """Whether there is any ceiling."""
        return (self.calls, self.tokens, self.money) != (None, None, None)


@dataclass(slots=True)
class BudgetLedger:
    """Counts every call where it happens. A budget is reserved at the worst case and settled afterwards."""

    budget: Budget = field(default_factory=Budget)
    lines: dict[str, Line] = field(default_factory=lambda: defaultdict(Line))
    embedding_calls: int = 0
    embedded_texts: int = 0
    reused_texts: int = 0
    _calls: int = 0
    _tokens: int = 0
    _money: int = 0
    _reserved_calls: int = 0
    _reserved_tokens: int = 0
    _reserved_money: int = 0
    _settled: asyncio.Event = field(default_factory=asyncio.Event)

    def total(self) -> Line:
        total = Line()
        for line in self.lines.values():
            for name, n in asdict(line).items():
                setattr(total, name, getattr(total, name) + n)
        return total

    @property
    def used(self) -> tuple[int, int, int]:
        """Calls, tokens and units of money that count against the budget, those of earlier sittings included."""
        return self._calls, self._tokens, self._money

    def carry(self, calls: int, tokens: int, money: int) -> None:
        """Count what earlier sittings of the run paid against the budget."""
        self._calls += calls
        self._tokens += tokens
        self._money += money

    async def admit(self, tokens: int, money: int = 0, *, calls: int = 1) -> None:
        """:meth:`reserve`, after waiting where only what is set aside for calls in flight stands in the way."""
        while True:
            try:
                return self.reserve(tokens, money, calls=calls)
            except BudgetError:
                if not self._reserved_calls:
                    raise
            self._settled.clear()
            await self._settled.wait()

    def reserve(self, tokens: int, money: int = 0, *, calls: int = 1) -> None:
        """Set aside calls of at most ``tokens`` and ``money`` together.

        Raises :class:`lrf.errors.BudgetError` if it could overrun.
        """
        budget = self.budget
        if budget.calls is not None and self._calls + self._reserved_calls + calls > budget.calls:
            raise BudgetError(f"the budget of {budget.calls} calls is reached ({self._calls} made)")
        if budget.tokens is not None and self._tokens + self._reserved_tokens + tokens > budget.tokens:
            raise BudgetError(
                f"the budget of {budget.tokens} tokens could be overrun by the next call "
                f"({self._tokens} used, {self._reserved_tokens} set aside, {tokens} needed at most)"
            )
        if budget.money is not None and self._money + self._reserved_money + money > budget.money:
            raise BudgetError(
                f"the budget of {amount(budget.money):g} {budget.currency} could be overrun by the next call "
                f"({amount(self._money):.6g} spent, {amount(self._reserved_money):.6g} set aside, "
                f"{amount(money):.6g} needed at most)"
            )
        self._reserved_calls += calls
        self._reserved_tokens += tokens
        self._reserved_money += money

    def release(self, tokens: int, money: int = 0, *, calls: int = 1) -> None:
        """Give a reservation back."""
        self._reserved_calls -= calls
        self._reserved_tokens -= tokens
        self._reserved_money -= money
        self._settled.set()

    def settle(
        self,
        dimension: str,
        tokens: int,
        usage: Usage | None,
        money: int = 0,
        price: Price | None = None,
        *,
        calls: int = 1,
    ) -> None:
        """Replace a reservation by what it really took; ``usage`` is None when no reply came.

        Of a reply whose server tells no usage, what was set aside counts against the budget: it can't be more.
        """
        self.release(tokens, money, calls=calls)
        self.book(dimension, usage, price)
        if usage is not None and not usage.told:
            self.carry(0, tokens, money)

    def book(self, dimension: str, usage: Usage | None, price: Price | None = None) -> None:
        """Count a reply, or, without its usage, a call that brought none."""
        line = self.lines[dimension]
        if usage is None:
            line.faults += 1
            return
        self._calls += usage.calls
        self._tokens += usage.prompt_tokens + usage.completion_tokens
        if price is not None:
            self._money += price.cost(
                usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, usage.written_tokens
            )
        line.calls += usage.calls
        line.prompt_tokens += usage.prompt_tokens
        line.completion_tokens += usage.completion_tokens
        line.cached_tokens += usage.cached_tokens

    def as_json(self) -> Mapping[str, JSON]:
        return {
            **asdict(self.total()),
            "embedding_calls": self.embedding_calls,
            "embedded_texts": self.embedded_texts,
            "by_dimension": {name: asdict(line) for name, line in sorted(self.lines.items())},
        }
