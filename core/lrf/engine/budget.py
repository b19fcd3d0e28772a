"""What a run takes while it runs (calls, tokens, reuse, by dimension), and the budget that bounds it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

from lrf.errors import BudgetError
from lrf.prices import Price, amount
from lrf.prompting.requests import Usage
from lrf.types import JSON


@dataclass(slots=True)
class Line:
    """The counts of one dimension, or of all.

    Attributes
    ----------
    calls: calls that brought a reply.
    reused: replies that came from the journal or from an equal call under way, and cost nothing.
    faults: calls that brought no usable reply.
    asked_again: replies that couldn't be read, so that another attempt was made.
    prompt_tokens, completion_tokens, cached_tokens: as servers reported them.
    spared: questions that an earlier judge of a cascade answered, so that the later ones weren't asked.
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
    """Ceilings for what a run pays; None where there is no ceiling.

    ``money`` is in units of money (see ``lrf.prices``), ``currency`` the name that messages use for it.
    """

    calls: int | None = None
    tokens: int | None = None
    money: int | None = None
    currency: str = "money"

    @property
    def limited(self) -> bool:
        """Whether there is any ceiling."""
        return (self.calls, self.tokens, self.money) != (None, None, None)


class Reservation(NamedTuple):
    """What is set aside of a budget for one call, at its worst case. ``money`` is in units of money."""

    calls: int = 0
    tokens: int = 0
    money: int = 0


NOTHING = Reservation()


@dataclass(slots=True)
class BudgetLedger:
    """Counts every call where it happens. A budget is reserved at the worst case and settled afterwards.

    A call that may have been served although no usable reply came stays counted at its worst case.
    """

    budget: Budget = field(default_factory=Budget)
    lines: dict[str, Line] = field(default_factory=lambda: defaultdict(Line))
    embedding_calls: int = 0
    embedded_texts: int = 0
    _used: Reservation = NOTHING
    _reserved: Reservation = NOTHING
    _settled: asyncio.Event = field(default_factory=asyncio.Event)

    def total(self) -> Line:
        total = Line()
        for line in list(self.lines.values()):  # may be called from another thread
            for name, n in asdict(line).items():
                setattr(total, name, getattr(total, name) + n)
        return total

    @property
    def used(self) -> tuple[int, int, int]:
        """Calls, tokens and units of money that count against the budget, those of earlier sittings included."""
        return self._used

    def carry(self, calls: int, tokens: int, money: int) -> None:
        """Count this against the budget, and in no dimension: what earlier sittings of the run paid, for instance."""
        self._used = _sum(self._used, Reservation(calls, tokens, money))

    async def admit(self, reservation: Reservation) -> None:
        """:meth:`reserve`, after waiting as long as only calls in flight leave no room for it."""
        while True:
            try:
                return self.reserve(reservation)
            except BudgetError:
                if not self._reserved.calls:
                    raise
            self._settled.clear()
            await self._settled.wait()

    def reserve(self, wanted: Reservation) -> None:
        """Set aside the worst case of a call. Raises :class:`lrf.errors.BudgetError` if the budget could be overrun."""
        budget, used, reserved = self.budget, self._used, self._reserved
        if budget.calls is not None and used.calls + reserved.calls + wanted.calls > budget.calls:
            raise BudgetError(f"the budget of {budget.calls} calls is reached ({used.calls} made)")
        if budget.tokens is not None and used.tokens + reserved.tokens + wanted.tokens > budget.tokens:
            raise BudgetError(
                f"the budget of {budget.tokens} tokens could be overrun by the next call "
                f"({used.tokens} used, {reserved.tokens} set aside, {wanted.tokens} needed at most)"
            )
        if budget.money is not None and used.money + reserved.money + wanted.money > budget.money:
            raise BudgetError(
                f"the budget of {amount(budget.money):g} {budget.currency} could be overrun by the next call "
                f"({amount(used.money):.6g} spent, {amount(reserved.money):.6g} set aside, "
                f"{amount(wanted.money):.6g} needed at most)"
            )
        self._reserved = _sum(reserved, wanted)

    def release(self, reservation: Reservation) -> None:
        """Give back what was set aside for a call that took nothing."""
        calls, tokens, money = self._reserved
        self._reserved = Reservation(calls - reservation.calls, tokens - reservation.tokens, money - reservation.money)
        self._settled.set()

    def settle(
        self,
        dimension: str,
        reservation: Reservation,
        usages: Sequence[Usage],
        price: Price | None = None,
        *,
        dimensions: Sequence[str] = (),
    ) -> None:
        """Replace what was set aside by what the call's replies took.

        ``dimensions``: that of each reply, where they are not all ``dimension``'s.

        Where the server reported no tokens at all, the worst case counts against the budget: it can't be more.
        """
        self.release(reservation)
        calls = tokens = money = 0
        for one, usage in zip(dimensions or [dimension] * len(usages), usages, strict=True):
            calls += usage.calls
            tokens += usage.prompt_tokens + usage.completion_tokens
            money += self._book(one, usage, price)
        if tokens:
            self.carry(calls, tokens, money)
        else:
            self.carry(calls, reservation.tokens, money + reservation.money)

    def fail(
        self,
        dimension: str,
        reservation: Reservation,
        *,
        served: bool,
        usage: Usage | None = None,
        price: Price | None = None,
    ) -> None:
        """Replace what was set aside for a call that brought no usable reply.

        ``served``: whether the server may have worked on it. Then ``usage`` counts where the server reported it, and
        else the worst case.
        """
        self.lines[dimension].faults += 1
        if not served:
            self.release(reservation)
        elif usage is not None and usage.told:
            self.settle(dimension, reservation, [usage], price)
        else:
            self.release(reservation)
            self.carry(*reservation)

    def _book(self, dimension: str, usage: Usage, price: Price | None) -> int:
        """Count a reply in its dimension's line; returns what it cost."""
        line = self.lines[dimension]
        line.calls += usage.calls
        line.prompt_tokens += usage.prompt_tokens
        line.completion_tokens += usage.completion_tokens
        line.cached_tokens += usage.cached_tokens
        if price is None:
            return 0
        return price.cost(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, usage.written_tokens)

    def as_json(self) -> Mapping[str, JSON]:
        return {
            **asdict(self.total()),
            "embedding_calls": self.embedding_calls,
            "embedded_texts": self.embedded_texts,
            "by_dimension": {name: asdict(line) for name, line in sorted(self.lines.items())},
        }


def _sum(one: Reservation, other: Reservation) -> Reservation:
    return Reservation(one.calls + other.calls, one.tokens + other.tokens, one.money + other.money)
