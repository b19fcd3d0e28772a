"""What a run has paid, over all its sittings: made of the journal, with the prices of today."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lrf.config.prices import SAMPLING, Prices
from lrf.engine.calls import JudgeCalls
from lrf.engine.ledger import Ledger
from lrf.errors import ConfigError
from lrf.prices import Price, amount
from lrf.store.journal import Journal
from lrf.types import JSON


@dataclass(slots=True)
class Paid:
    """Replies, their tokens and what they cost. ``money`` has units of money by currency (see ``lrf.prices``)."""

    calls: int = 0
    tokens: int = 0
    money: Counter[str] = field(default_factory=Counter)
    money_by_dimension: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    unpriced: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    asked_again: Counter[str] = field(default_factory=Counter)

    def as_json(self, prices: Prices) -> Mapping[str, JSON]:
        """``money`` of the summary: by currency, in all and by dimension; and calls of models without a price."""
        return {
            "spent": {currency: amount(money) for currency, money in sorted(self.money.items())},
            "by_dimension": {
                dimension: {currency: amount(money) for currency, money in sorted(spent.items())}
                for dimension, spent in sorted(self.money_by_dimension.items())
            },
            "unpriced_calls": dict(sorted(self.unpriced.items())),
            "prices": prices.version,
        }

    def carry_into(self, ledger: Ledger, prices: Iterable[Price]) -> None:
        """Hold it against the ledger's budget, which is in the currency of these prices.

        Raises :class:`lrf.errors.ConfigError` when the budget is one of money and something has no price.
        """
        money = sum(self.money.values())
        known = not self.unpriced and set(self.money) <= {price.currency for price in prices}
        if ledger.budget.money is not None and not known:
            models = ", ".join(self.unpriced) or " and ".join(sorted(self.money))
            raise ConfigError(
                f"the run has replies whose price is not known in the budget's currency ({models}): give one in a "
                "file that `prices:` names, or take `budget.money` out"
            )
        ledger.carry(self.calls, self.tokens, money)


def paid(journal: Journal, judges: Iterable[JudgeCalls], prices: Prices, sampling: Price | None = None) -> Paid:
    """What the journal holds, the sampler's replies at the price ``sampling``. Blocks."""
    by_identity = {judge.identity: judge.price for judge in judges}
    found = Paid()
    for judge, dimension, replies, again, prompt, completion, cached, calls, written in journal.usage():
        found.calls += calls
        found.tokens += prompt + completion
        found.asked[dimension] += replies
        found.asked_again[dimension] += again
        model = str(json.loads(judge).get("model") or json.loads(judge).get("type") or "unnamed")
        if dimension == SAMPLING and sampling is not None:
            price: Price | None = sampling
        else:
            price = by_identity[judge] if judge in by_identity else prices.of_model(model)
        if price is None:
            found.unpriced[model] += calls
        else:
            cost = price.cost(prompt, completion, cached, written)
            found.money[price.currency] += cost
            found.money_by_dimension[dimension][price.currency] += cost
    return found
