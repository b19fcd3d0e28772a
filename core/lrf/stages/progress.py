"""What a stage reports while it works: one message type, which travels as JSON from a child process to the display."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from lrf.prices import amount

if TYPE_CHECKING:
    from lrf.engine.budget import BudgetLedger
    from lrf.engine.waits import Wait
    from lrf.types import JSON

Event = Literal["", "begins", "skipped", "stopping"]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A server with calls that wait before they are tried again.

    ``status`` is why, in the server's words; ``for_s`` are the seconds until the next try; ``calls`` wait for it.
    """

    name: str
    status: str
    for_s: float
    calls: int = 1


@dataclass(frozen=True, slots=True)
class Stall:
    """No reply for ``seconds``. The other fields describe the oldest call in flight.

    Without one, ``sample`` and ``dimension`` are those of the dimension that has been at work for longest, if any.

    ``computing``: a model in this process works on the call, so the silence is no sign of trouble.
    """

    seconds: int
    judge: str = ""
    sample: str = ""
    dimension: str = ""
    kind: str = ""
    computing: bool = False


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """How much of one ceiling of the budget is used. ``unit`` is "calls", "tokens" or a currency."""

    unit: str
    used: float
    limit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a stage is. Fields that a stage has no use for keep their defaults.

    Parameters
    ----------
    stage: "data", "sample", "score", "pairs" or "train".
    event: "begins", "skipped" (finished by an earlier run) or "stopping"; empty for a report on the way.
    note: a sentence for people, shown once.
    samples, of_samples: samples finished, and all samples of the data.
    candidates, of_candidates: candidates scored or sampled, and all of them.
    unscored, left_out, bad_rows, pairs: counts of the stage's outcomes so far.
    calls, reused, retried: paid calls of this sitting, replies taken from the journal, and calls made once more.
    in_flight, tokens: calls sent and not answered; tokens read and written in this sitting.
    budget: the use of each ceiling, over all sittings of the run.
    waits: servers with calls that wait for their next try.
    stall: set when no reply has come for long.
    figures: what a trainer reports, by name.
    """

    stage: str
    event: Event = ""
    note: str = ""
    samples: int | None = None
    of_samples: int | None = None
    candidates: int | None = None
    of_candidates: int | None = None
    unscored: int = 0
    left_out: int = 0
    bad_rows: int = 0
    pairs: int | None = None
    calls: int | None = None
    reused: int = 0
    retried: int = 0
    in_flight: int = 0
    tokens: int = 0
    budget: tuple[BudgetUse, ...] = ()
    waits: tuple[Waiting, ...] = ()
    stall: Stall | None = None
    figures: Mapping[str, JSON] = field(default_factory=dict)

    def as_json(self) -> dict[str, JSON]:
        """The fields that differ from their default."""
        return {
            f.name: value
            for f, value in zip(fields(self), asdict(self).values(), strict=True)
            if value != f.default and value not in ((), {})
        }

    @classmethod
    def from_json(cls, message: Mapping[str, Any]) -> Progress:
        """The message of :meth:`as_json`. Names that are no field are passed over."""
        known = {f.name for f in fields(cls)}
        values = {name: value for name, value in message.items() if name in known}
        return cls(
            **values
            | {
                "budget": tuple(BudgetUse(**use) for use in values.get("budget", ())),
                "waits": tuple(Waiting(**wait) for wait in values.get("waits", ())),
                "stall": Stall(**stall) if (stall := values.get("stall")) else None,
            }
        )


def waiting(waits: Iterable[Wait]) -> tuple[Waiting, ...]:
    """The engine's waits, with the seconds from now until their end."""
    now = time.monotonic()
    return tuple(Waiting(w.name, w.status, round(max(0.0, w.until_s - now), 1), w.calls) for w in waits)


def budget_use(ledger: BudgetLedger) -> tuple[BudgetUse, ...]:
    """The use of each ceiling of the ledger's budget."""
    budget = ledger.budget
    calls, tokens, money = ledger.used
    ceilings = (
        ("calls", calls, budget.calls),
        ("tokens", tokens, budget.tokens),
        (budget.currency, amount(money), None if budget.money is None else amount(budget.money)),
    )
    return tuple(BudgetUse(unit, used, limit) for unit, used, limit in ceilings if limit is not None)
