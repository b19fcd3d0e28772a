"""Judges that take several questions in a request, in a plan: what they are expected to be asked, and at most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lrf.engine.packed_calls import PackedCalls, worst_of_pack
from lrf.engine.packing import GatheredQuestion
from lrf.errors import UnscorableError
from lrf.planning.expected import ExpectedCalls, expected_reply
from lrf.planning.upper_bound import BoundCalls
from lrf.prompting.questions import decided
from lrf.prompting.requests import Reply, Usage


@dataclass(slots=True, eq=False)
class ExpectedPackedCalls(PackedCalls, ExpectedCalls):
    """A judge that is never called: replies of a journal are used as they are, others made up; both count."""

    async def kept(self, questions: Sequence[GatheredQuestion]) -> dict[bytes, Reply]:
        kept: dict[bytes, Reply] = {}
        for question in questions:
            if (known := self.tally.known(question.key)) is not None:
                kept[question.key] = known
            elif (reply := self.tally.kept.reply(question.key)) is not None:
                self._count([question], [reply], kept=True)
                kept[question.key] = reply
        return kept

    async def replies(self, request: Sequence[GatheredQuestion]) -> Sequence[Reply | UnscorableError]:
        replies = decided([expected_reply(question.request) for question in request])
        self._count(request, replies, kept=False)
        return replies

    def _count(self, request: Sequence[GatheredQuestion], replies: Sequence[Reply], *, kept: bool) -> None:
        questions = [(question.key, question.caller.dimension, question.request) for question in request]
        self.tally.count_several(questions, replies, judge=self.identity, price=self.price, kept=kept)


@dataclass(slots=True, eq=False)
class BoundPackedCalls(PackedCalls, BoundCalls):
    """A judge that is never called: what it could be asked for is added up, as in :class:`BoundCalls`.

    Of a request that is refused and sent again in parts only the first try counts: servers don't bill refusals.
    """

    async def kept(self, questions: Sequence[GatheredQuestion]) -> dict[bytes, Reply]:
        return {}

    async def replies(self, request: Sequence[GatheredQuestion]) -> Sequence[Reply | UnscorableError]:
        times = max(1 + question.caller.again for question in request)
        calls, prompt, written = worst_of_pack(self.judge, [question.request for question in request])
        shares = Usage(prompt, written, calls=calls).shared(len(request))
        for question, share in zip(request, shares, strict=True):
            self.upper_bounds[question.caller.dimension].add(
                times * share.calls, times * share.prompt_tokens, times * share.completion_tokens, self.price
            )
        return decided([self.weighed(question.request) for question in request])
