"""The upper bound of what a pipeline can ask for: judges that are as talkative and as unclear as can be.

Every question is asked as often as the engine asks at most, every reply is as long as its limit allows, and each limit
is doubled as after replies that were cut off. What later prompts repeat of a reply (notes, statements) has the length
that the longest readable reply allows. Texts count a token a byte, which no tokenizer exceeds; what a judge wrote is
therefore made of as many bytes as it could have tokens.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lrf.engine.judge_calls import ATTEMPTS, JudgeCalls
from lrf.engine.paid_call import Caller
from lrf.engine.worst_case import next_limit, worst_of_tries
from lrf.planning.schema import instance
from lrf.prices import Price
from lrf.prompting.expectations import Verdict, Verdicts, YesOrNo
from lrf.prompting.requests import Reply, Request
from lrf.store.files import dump

_DENSE = "q~"  # as many tokens as bytes

ASSUMED_STATEMENTS = 100
"""Statements an answer of a dimension that says no ``max_statements``."""


@dataclass(slots=True)
class UpperBound:
    """The most that one dimension can ask for. ``money`` is in units of money (see ``lrf.prices``)."""

    calls: int = 0
    prompt_tokens: int = 0
    reply_tokens: int = 0
    money: int = 0

    def add(self, calls: int, prompt: int, written: int, price: Price | None) -> None:
        """Add calls and the most tokens of all of them."""
        self.calls += calls
        self.prompt_tokens += prompt
        self.reply_tokens += written
        self.money += price.most(prompt, written) if price else 0


@dataclass(slots=True)
class BoundCalls(JudgeCalls):
    """A judge that is never called: what it could be asked for is added up in ``upper_bounds``, by dimension.

    Parameters
    ----------
    statements: the most statements of an answer, by dimension, of those dimensions that say it.
    assumed: the other dimensions that asked for statements.
    """

    statements: Mapping[str, int] = field(default_factory=dict)
    upper_bounds: dict[str, UpperBound] = field(default_factory=lambda: defaultdict(UpperBound))
    assumed: set[str] = field(default_factory=set)
    _number: Any = field(default_factory=itertools.count)

    async def _once(self, request: Request, caller: Caller, paid: list[Request]) -> Reply:
        limits = [request.max_tokens]
        while len(limits) < ATTEMPTS:
            limits.append(next_limit(limits[-1]))
        if request.expects.kind == "statements" and caller.dimension not in self.statements:
            self.assumed.add(caller.dimension)
        if request.attempt == 0:
            self.upper_bounds[caller.dimension].add(*worst_of_tries(self.judge, request, limits), self.price)
        return self._longest(request, limits[-1], self.statements.get(caller.dimension, ASSUMED_STATEMENTS))

    def _longest(self, request: Request, tokens: int, statements: int) -> Reply:
        """The readable reply after which the most is asked, of up to ``tokens`` tokens."""
        kind, reply_mode = request.expects.kind, request.reply_mode
        if kind == "verdicts":
            return Reply("")  # unreadable, so that each verdict is asked for by itself, too
        if kind == "statements":
            texts = [f"{next(self._number)}".ljust(tokens // statements, "x") for _ in range(statements)]
            if reply_mode == "json":
                return Reply(dump({"statements": texts}))
            return Reply("".join(f"<statement>{t}</statement>" for t in texts))
        worst = self._worst_option(request)
        if reply_mode == "json":
            value = instance(request.schema or {})
            return Reply(dump({**value, "verdict": worst[2:-2]} if kind == "verdict" else value))
        if not request.options:
            return Reply((f"{next(self._number)}" + _DENSE * tokens)[:tokens])
        return self.weighed(request) if reply_mode == "logprobs" else Reply(worst)

    def weighed(self, request: Request) -> Reply:
        """A reply with probabilities of the options, the worst one's a little above the others'."""
        worst = self._worst_option(request)
        weights = {option: 1 + 0.01 * (option == worst) for option in request.options}
        total = sum(weights.values())
        return Reply(worst, probabilities={o: w / total for o, w in weights.items()})

    def _worst_option(self, request: Request) -> str:
        """The mark after which the most is asked: that of the least support, since that may be judged or explained."""
        if isinstance(request.expects, YesOrNo):
            return request.options[-1]
        labels = request.expects.labels if isinstance(request.expects, Verdict | Verdicts) else {}
        options = [f"[[{label}]]" for label in sorted(labels, key=lambda label: labels[label])] or request.options
        return options[0] if options else ""
