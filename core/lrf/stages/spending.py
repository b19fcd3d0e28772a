"""What a run has paid, over all its sittings: computed from the journal, with the prices of today."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lrf.build import prices_of
from lrf.config.prices import SAMPLING, Prices, read_prices
from lrf.engine.budget import BudgetLedger
from lrf.engine.judge_calls import JudgeCalls
from lrf.errors import ConfigError
from lrf.prices import Price, amount
from lrf.stages.stage import AllSittings, Money
from lrf.store.journal import Journal

if TYPE_CHECKING:
    from lrf.config import Pipeline


@dataclass(slots=True)
class Spending:
    """Replies, their tokens and what they cost.

    Parameters
    ----------
    calls, tokens, asked, asked_again: paid calls, their tokens, replies, and replies that were asked for once more, by
        dimension; the sampler's are under :data:`lrf.config.prices.SAMPLING`.
    money: units of money by currency (see ``lrf.prices``).
    unpriced: calls of models without a price.
    untold_tokens, untold_money: the most that replies may have taken whose server reports no usage. Only a budget
        counts them, as it did while the calls were made.
    """

    calls: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    money: Counter[str] = field(default_factory=Counter)
    money_by_dimension: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    unpriced: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    asked_again: Counter[str] = field(default_factory=Counter)
    untold_tokens: int = 0
    untold_money: int = 0

    def money_at(self, prices: Prices) -> Money:
        """What was paid, by currency: in all and by dimension; and the calls of models without a price."""
        return Money(
            spent={currency: amount(money) for currency, money in sorted(self.money.items())},
            by_dimension={
                dimension: {currency: amount(money) for currency, money in sorted(spent.items())}
                for dimension, spent in sorted(self.money_by_dimension.items())
            },
            unpriced_calls=dict(sorted(self.unpriced.items())),
            prices=prices.version,
        )

    def all_sittings(self, *, sampling: bool) -> AllSittings:
        """Calls and their tokens of stage *sample*, or of all dimensions."""
        names = [name for name in self.calls if (name == SAMPLING) is sampling]
        return AllSittings(
            calls=sum(self.calls[name] for name in names), tokens=sum(self.tokens[name] for name in names)
        )

    def carry_into(self, ledger: BudgetLedger, prices: Iterable[Price]) -> None:
        """Count it against the ledger's budget, which is in the currency of these prices.

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
        ledger.carry(self.calls.total(), self.tokens.total() + self.untold_tokens, money + self.untold_money)


def paid(journal: Journal, pipeline: Pipeline, judges: Mapping[str, JudgeCalls] | None = None) -> Spending:
    """What all replies in the journal cost at the prices of today. ``judges`` are the pipeline's, by name. Blocks."""
    spending, price_of = Spending(), _prices_of_replies(pipeline, judges or {})
    for used in journal.usage():
        spending.calls[used.dimension] += used.calls
        spending.tokens[used.dimension] += used.prompt_tokens + used.completion_tokens
        spending.untold_tokens += used.most_prompt + used.most_reply
        spending.asked[used.dimension] += used.replies
        spending.asked_again[used.dimension] += used.asked_again
        identity = json.loads(used.judge)
        model = str(identity.get("model") or identity.get("type") or "unnamed")
        price = price_of(used.dimension, used.judge, model)
        if price is None:
            spending.unpriced[model] += used.calls
        else:
            cost = price.cost(used.prompt_tokens, used.completion_tokens, used.cached_tokens, used.written_tokens)
            spending.money[price.currency] += cost
            spending.money_by_dimension[used.dimension][price.currency] += cost
            spending.untold_money += price.most(used.most_prompt, used.most_reply)
    return spending


def _prices_of_replies(pipeline: Pipeline, judges: Mapping[str, JudgeCalls]) -> Callable[[str, str, str], Price | None]:
    """The price of what a dimension was replied, by judge's identity and model.

    One model may be two judges, one of them by batches. So what counts is the judge that the dimension asks: the one
    of this identity, else, where it isn't at hand, of this model (of several the dearest), else any with this model.
    """
    prices, known = read_prices(pipeline.prices), prices_of(pipeline)
    asked = {b.name: b.judges for b in pipeline.dimensions} | {SAMPLING: (SAMPLING,)}
    blocks = {**pipeline.judges, **({SAMPLING: pipeline.sample} if pipeline.sample else {})}
    models = {name: r.name for name, block in blocks.items() if (r := block.settings.model_reference)}
    exact = {(d, judges[n].identity): judges[n].price for d, names in asked.items() for n in names if n in judges}

    def price_of(dimension: str, identity: str, model: str) -> Price | None:
        if (dimension, identity) in exact:
            return exact[dimension, identity]
        for names in (asked.get(dimension, ()), models):
            if fits := [known[name] for name in names if name in known and models.get(name) == model]:
                return max(fits, key=lambda price: price.most(1, 1))
        return prices.of_model(model)

    return price_of
