"""Judges that take several questions in a request, in a plan: what they are expected to be asked, and at most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lrf.engine.packed_calls import PackedCalls, PackedQuestion, worst_of_pack
from lrf.errors import UnscorableError
from lrf.planning.expected import ExpectedCalls, expected_reply
from lrf.planning.upper_bound import BoundCalls
from lrf.prompting.requests import Reply, Usage


@dataclass(slots=True, eq=False)
class ExpectedPackedCalls(PackedCalls, ExpectedCalls):
    """A judge that is never called: replies of a journal are used as they are, others made up; both count."""

    async def kept(self, packed: PackedQuestion) -> Reply | None:
        if (known := self.tally.known(packed.key)) is not None:
            return known
        reply = self.tally.kept.reply(packed.key)
        if reply is not None:
            self._count([packed], [reply], kept=True)
        return reply

    async def replies(self, request: Sequence[PackedQuestion]) -> Sequence[Reply | UnscorableError]:
        replies = [expected_reply(packed.request) for packed in request]
        self._count(request, replies, kept=False)
        return replies

    def _count(self, request: Sequence[PackedQuestion], replies: Sequence[Reply], *, kept: bool) -> None:
        questions = [(packed.key, packed.question.caller.dimension, packed.request) for packed in request]
        self.tally.count_several(questions, replies, judge=self.identity, price=self.price, kept=kept)


@dataclass(slots=True, eq=False)
class BoundPackedCalls(PackedCalls, BoundCalls):
    """A judge that is never called: what it could be asked for is added up, as in :class:`BoundCalls`.

    Of a request that is refused and sent again in parts only the first try counts: servers don't bill refusals.
    """

    async def kept(self, packed: PackedQuestion) -> Reply | None:
        return None

    async def replies(self, request: Sequence[PackedQuestion]) -> Sequence[Reply | UnscorableError]:
        times = max(1 + packed.question.caller.again for packed in request)
        calls, prompt, written = worst_of_pack(self.judge, [packed.request for packed in request])
        shares = Usage(prompt, written, calls=calls).shared(len(request))
        for packed, share in zip(request, shares, strict=True):
            self.upper_bounds[packed.question.caller.dimension].add(
                times * share.calls, times * share.prompt_tokens, times * share.completion_tokens, self.price
            )
        return [self.weighed(packed.request) for packed in request]
