"""What a run is expected to ask for: replies come from its journal, or are made up at the usual length, and counted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from lrf.engine.judge_calls import JudgeCalls
from lrf.engine.packed_calls import question_tokens
from lrf.engine.paid_call import Caller
from lrf.errors import ParseError
from lrf.planning.schema import instance
from lrf.prices import Price
from lrf.prompting.expectations import NO_STATEMENTS
from lrf.prompting.questions import asked_of, material_of
from lrf.prompting.requests import Reply, Request, Usage
from lrf.prompting.templates import Prompt
from lrf.store.files import dump
from lrf.store.kept import KeptReplies
from lrf.text.chunking import count_tokens

REPLY_TOKENS = {"rating": 180, "verdict": 60, "verdicts": 480, "choice": 60, "text": 120}
OTHER_TOKENS = 100
TOKENS_A_STATEMENT = 25
_SENTENCE = re.compile(r"[^.!?。！？\n]{4,}[.!?。！？\n]?")
_NOTE = "What the judge will note. " * 20


Question = tuple[bytes, str, Request]
"""A question of a request that has several: its key, its dimension, and the request for it."""


@dataclass(slots=True)
class ExpectedCounts:
    """What one dimension asks for; money is in units of money (see ``lrf.prices``), of calls that have a price.

    ``shared_tokens`` of the prompts' tokens are the beginning of an earlier prompt of the same judge. ``kept`` calls
    have a reply in a journal; ``left_money`` is what the others cost.
    """

    calls: int = 0
    prompt_tokens: int = 0
    shared_tokens: int = 0
    reply_tokens: int = 0
    money: int = 0
    kept: int = 0
    left_money: int = 0
    unpriced: bool = False


@dataclass(slots=True)
class Tally:
    """The requests that were counted, by dimension, and the replies that they got."""

    kept: KeptReplies
    dimensions: dict[str, ExpectedCounts] = field(default_factory=dict)
    statements: int = 0
    _replies: dict[bytes, Reply] = field(default_factory=dict)
    _prefixes: SharedPrefixes = field(default_factory=lambda: SharedPrefixes())

    def known(self, key: bytes) -> Reply | None:
        """The reply to an equal request that was counted before."""
        return self._replies.get(key)

    def count_several(
        self, questions: Sequence[Question], replies: Sequence[Reply], *, judge: str, price: Price | None, kept: bool
    ) -> None:
        """Add the questions of one request with their replies: (key, dimension, request) of each."""
        _, _, first = questions[0]
        texts: Prompt = (*material_of(first), *(s for _, _, request in questions for s in asked_of(request)))
        tokens, shared = self._prefixes.add(judge, texts)
        tokens += sum(question_tokens(request.options) for _, _, request in questions)
        usages = Usage(tokens, 0, shared).shared(len(replies))
        for (key, dimension, _), reply, expected in zip(questions, replies, usages, strict=True):
            self._replies[key] = reply
            usage = reply.usage if kept else expected
            self._add(dimension, usage, 0 if kept else usage.cached_tokens, price, kept=kept)

    def count(
        self, key: bytes, request: Request, reply: Reply, *, judge: str, dimension: str, price: Price | None, kept: bool
    ) -> None:
        """Add a request and its reply. ``judge`` is the judge's identity."""
        self._replies[key] = reply
        tokens, shared = self._prefixes.add(judge, request.prompt)
        usage = reply.usage if kept and reply.usage.told else Usage(tokens, reply.usage.completion_tokens, shared)
        self._add(dimension, replace(usage, calls=1), shared, price, kept=kept)

    def _add(self, dimension: str, usage: Usage, shared: int, price: Price | None, *, kept: bool) -> None:
        """Add what a reply takes. ``shared``: how many of its prompt's tokens an earlier prompt begins with."""
        counts = self.dimensions.setdefault(dimension, ExpectedCounts())
        counts.calls += usage.calls
        counts.prompt_tokens += usage.prompt_tokens
        counts.shared_tokens += shared
        counts.reply_tokens += usage.completion_tokens
        counts.kept += usage.calls if kept else 0
        if price is None:
            counts.unpriced = True
            return
        cached = usage.cached_tokens if kept or shared >= price.cached_from else 0
        money = price.cost(usage.prompt_tokens, usage.completion_tokens, cached, usage.written_tokens)
        counts.money += money
        counts.left_money += 0 if kept else money


@dataclass(slots=True)
class ExpectedCalls(JudgeCalls):
    """A judge that is never called: a reply that a journal has is used as it is, any other is made up; both count."""

    tally: Tally = field(default_factory=lambda: Tally(KeptReplies()))

    async def _kept(self, key: bytes, caller: Caller) -> Reply | None:
        return self.tally.known(key)

    async def _fetch(
        self, key: bytes, request: Request, caller: Caller, paid: list[Request], *, look: bool = True
    ) -> Reply:
        if (known := self.tally.known(key)) is not None:
            return known
        kept = self.tally.kept.reply(key)
        if kept is None:
            await self._check_window(request)
        reply = kept or expected_reply(request)
        if request.expects.kind == "statements":
            self.tally.statements += _statements(request, reply)
        self.tally.count(
            key,
            request,
            reply,
            judge=self.identity,
            dimension=caller.dimension,
            price=self.price,
            kept=kept is not None,
        )
        return reply


def expected_reply(request: Request) -> Reply:
    """A reply of the expected form and the assumed length. Statements are the sentences of what is judged."""
    kind, tokens = request.expects.kind, REPLY_TOKENS.get(request.expects.kind, OTHER_TOKENS)
    if kind == "statements":
        sentences = _sentences(request)
        tokens = TOKENS_A_STATEMENT * max(1, len(sentences))
        text = "\n".join(f"<statement>{s}</statement>" for s in sentences) or NO_STATEMENTS
        if request.reply_mode == "json":
            text = dump({"statements": sentences})
    elif kind == "text":
        text = _NOTE
    elif request.reply_mode == "json" and request.schema:
        text = dump(instance(request.schema))
    else:
        text = f"Analysis. {request.options[len(request.options) // 2] if request.options else ''}"
    probabilities = None
    if request.reply_mode == "logprobs":
        probabilities = dict.fromkeys(request.options, 1 / len(request.options))
    return Reply(text, "stop", Usage(0, min(tokens, request.max_tokens)), probabilities)


def _statements(request: Request, reply: Reply) -> int:
    """The number of statements in a reply; 0 for an unreadable one."""
    try:
        return len(request.expects.read(reply, request.reply_mode))
    except ParseError:
        return 0


def _sentences(request: Request) -> list[str]:
    """The sentences of the last text of the prompt that isn't lrf's own: the answer."""
    answer = next((s.original for s in reversed(request.prompt) if not s.trusted), "")
    return [s.strip() for s in _SENTENCE.findall(answer)]


class SharedPrefixes:
    """How many tokens of a prompt are the beginning of an earlier prompt of the same judge, in whole segments."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[int, bytes], int] = {}
        self._roots: dict[str, int] = {}
        self._sizes: dict[bytes, int] = {}

    def add(self, judge: str, prompt: Prompt) -> tuple[int, int]:
        """(tokens of the prompt, how many of them are shared with an earlier one). Blocks: it counts tokens."""
        node = self._roots.setdefault(judge, -1 - len(self._roots))
        tokens = shared = 0
        known = True
        for segment in prompt:
            step = (node, segment.digest)
            known = known and step in self._nodes
            size = self._size(step[1], segment.text)
            tokens += size
            shared += size if known else 0
            node = self._nodes.setdefault(step, len(self._nodes))
        return tokens, shared

    def _size(self, key: bytes, text: str) -> int:
        if key not in self._sizes:
            self._sizes[key] = count_tokens(text)
        return self._sizes[key]
