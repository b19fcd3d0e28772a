"""Questions on one material travel together; each has its own reply, key and failure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lrf.engine.budget import Budget, BudgetLedger
from lrf.engine.engine import Engine, judge_calls
from lrf.engine.observers import Observers
from lrf.engine.panel import NamedDimension, PanelSettings
from lrf.engine.rescoring import RescoringRounds
from lrf.errors import ContextTooSmallError, RejectedError, UnavailableError
from lrf.prompting.expectations import Rating, Text, Verdict, YesOrNo
from lrf.prompting.questions import Question, asked_of, material_of
from lrf.prompting.requests import Reply, Request, Usage
from lrf.prompting.templates import Segment, prompt_text
from lrf.protocols import Capabilities, Context
from lrf.store.journal import Journal
from lrf.testing import ScriptedJudge
from lrf.testing.judge import valid_reply
from lrf.types import Candidate, Document, Judgement, Sample, Unscored
from lrf_aggregators.mean import Mean
from lrf_aggregators.settings import MeanSettings

DECIDES = Capabilities(probabilities=True, questions=400, kinds=("rating", "verdict", "yes_or_no"))
SAMPLE = Sample(
    "s", "q", (Document("d", "It rained. " * 40),), tuple(Candidate(str(n), f"answer {n}") for n in range(3))
)


def text(words: str) -> Any:
    return (Segment(words, trusted=False),)


class OnDocument:
    """Asks yes or no on the document alone, for each of a few claims of the answer."""

    def __init__(self, claims: int = 4, wait: Callable[[Candidate], int] = lambda _: 0) -> None:
        self.claims, self.wait = claims, wait

    async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        for _ in range(self.wait(candidate)):
            await ctx.once(f"wait {_}", lambda: asyncio.sleep(0))
        questions = [Question(text(f"{candidate.id} claim {n}"), YesOrNo()) for n in range(self.claims)]
        answers = await ctx.ask_many(text(sample.context), questions)
        shares = [a.value for a in answers if not isinstance(a, Exception)]
        failed = [str(a) for a in answers if isinstance(a, Exception)]
        return Judgement(10 * sum(shares) / self.claims, extra={"failed": failed})


class OnAnswer:
    """Asks for a rating on document and answer."""

    async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        material = (*text(sample.context), *text(candidate.text))
        (answer,) = await ctx.ask_many(material, [Question(text("how good?"), Rating())])
        if isinstance(answer, Exception):
            raise answer
        return Judgement(answer.value, spread=None)


class Parts:
    """An engine of parts that several scorings may share."""

    def __init__(self, judge: ScriptedJudge, *dimensions: Any, **parts: Any) -> None:
        self.journal: Journal = parts.get("journal") or Journal()
        self.ledger: BudgetLedger = parts.get("ledger") or BudgetLedger()
        observers, asking = Observers(None, lambda *_: None), parts.get("asking", PanelSettings())
        self.engine = Engine(
            dimensions=[NamedDimension(f"d{n}", d, "main", asking=asking) for n, d in enumerate(dimensions)],
            judges=judge_calls({"main": judge}, self.journal, self.ledger, observers, seed=0),
            retrievers={},
            embedders={},
            aggregator=Mean(MeanSettings()),
            journal=self.journal,
            ledger=self.ledger,
            observers=observers,
            rounds=parts.get("rounds", RescoringRounds()),
        )


def sizes(judge: ScriptedJudge) -> list[int]:
    return [len(pack) for pack in judge.packs]


async def test_questions_of_all_dimensions_and_candidates_on_equal_material_are_one_request() -> None:
    judge = ScriptedJudge(capabilities=DECIDES)
    parts = Parts(judge, OnDocument(), OnAnswer(), OnAnswer())
    rewards = await parts.engine.score(SAMPLE)
    assert all(reward.reward is not None for reward in rewards)
    assert sizes(judge) == [12, 1, 1, 1]  # the two equal dimensions asked the same, once
    assert all(len({material_of(r) for r in pack}) == 1 for pack in judge.packs)
    assert parts.ledger.total().calls == 4
    assert parts.ledger.lines["d2"].reused == 3


@pytest.mark.parametrize("order", [(0, 1, 2), (9, 4, 1), (2, 7, 0)])
async def test_what_is_packed_together_does_not_depend_on_who_asks_first(order: tuple[int, ...]) -> None:
    judge = ScriptedJudge(capabilities=replace(DECIDES, questions=5))
    await Parts(judge, OnDocument(wait=lambda c: order[int(c.id)]), OnAnswer()).engine.score(SAMPLE)
    packs = [[prompt_text(asked_of(r)) for r in pack] for pack in judge.packs]
    claims = [f"{c} claim {n}" for c in range(3) for n in range(4)]
    assert [p for p in packs if p != ["how good?"]] == [claims[:5], claims[5:10], claims[10:]]


async def test_the_request_that_others_wait_for_goes_before_those_of_earlier_samples() -> None:
    judge = ScriptedJudge(capabilities=replace(DECIDES, questions=4), max_concurrency=1)
    engine = Parts(judge, OnDocument()).engine
    samples = [replace(SAMPLE, id=name, documents=(Document("d", name * 100),)) for name in "abc"]
    await asyncio.gather(*(engine.score(sample, place) for place, sample in enumerate(samples)))
    assert "".join(prompt_text(material_of(pack[0]))[0] for pack in judge.packs) == "abcaabbcc"


async def test_requests_keep_within_the_judges_window() -> None:
    material = 4 + 256 + len("It rained. " * 40) // 3
    judge = ScriptedJudge(capabilities=replace(DECIDES, context_window=material + 120))
    await Parts(judge, OnDocument()).engine.score(SAMPLE)
    assert sum(sizes(judge)) == 12
    assert 2 <= len(judge.packs) <= 6
    tight = ScriptedJudge(capabilities=replace(DECIDES, context_window=100))
    (reward, *_) = await Parts(tight, OnAnswer()).engine.score(SAMPLE)
    assert isinstance(outcome := reward.judgements["d0"], Unscored)
    assert (outcome.reason, tight.packs) == ("context_too_small", [])


@pytest.mark.parametrize(
    ("finish", "reason"), [("missing", "left"), ("filter", "refused"), ("cut", "dropped"), ("length", "cut")]
)
async def test_a_question_without_an_answer_concerns_no_other_and_is_not_paid_for_again(
    finish: Any, reason: str
) -> None:
    def script(request: Request) -> Reply:
        failed = prompt_text(asked_of(request)) == "1 claim 2"
        return Reply("", finish) if failed else valid_reply(request)

    judge, journal = ScriptedJudge(script, capabilities=DECIDES), Journal()
    for sitting in range(2):
        rewards = await Parts(judge, OnDocument(), journal=journal).engine.score(SAMPLE)
        failed = [r.judgements["d0"].extra["failed"] for r in rewards]  # type: ignore[union-attr]
        assert [len(f) for f in failed] == [0, 1, 0], sitting
        assert sizes(judge) == [12]
    rounds = RescoringRounds(failed={"s": {"1": 1}})
    await Parts(judge, OnDocument(), journal=journal, rounds=rounds).engine.score(SAMPLE)
    assert sizes(judge) == [12, 1]  # asked again when that is wished for


async def test_a_refused_request_is_halved_down_to_the_question_that_is_to_blame() -> None:
    def script(request: Request) -> Any:
        return valid_reply(request)

    class Refusing(ScriptedJudge):
        async def complete_several(self, requests: Any) -> Any:
            if any(prompt_text(asked_of(r)) == "2 claim 0" for r in requests):
                self.packs.append(list(requests))
                raise RejectedError("422: not this one")
            return await super().complete_several(requests)

    judge = Refusing(script, capabilities=DECIDES)
    parts = Parts(judge, OnAnswer(), OnDocument())  # the ratings are served first
    rewards = await parts.engine.score(SAMPLE)
    failed = [r.judgements["d1"].extra["failed"] for r in rewards]  # type: ignore[union-attr]
    assert [len(f) for f in failed] == [0, 0, 1]
    assert len(judge.packs) <= 12


async def test_before_anything_was_served_a_refusal_is_not_halved_and_too_long_a_request_is() -> None:
    class Refuses(ScriptedJudge):
        error: Exception = RejectedError("422: wrong form")

        async def complete_several(self, requests: Any) -> Any:
            self.packs.append(list(requests))
            if len(requests) > 3:
                raise self.error
            return [valid_reply(r) for r in requests]

    judge = Refuses(capabilities=DECIDES)
    await Parts(judge, OnDocument()).engine.score(SAMPLE)
    assert sizes(judge) == [12]
    judge = Refuses(capabilities=DECIDES)
    judge.error = ContextTooSmallError("413: too large")
    rewards = await Parts(judge, OnDocument()).engine.score(SAMPLE)
    assert sorted(sizes(judge)) == [3, 3, 3, 3, 6, 6, 12]
    assert all(r.reward == 10 * 0.0 or r.reward is not None for r in rewards)


async def test_usage_is_shared_exactly_and_a_resumed_run_counts_what_the_first_one_did() -> None:
    def script(request: Request) -> Reply:
        return replace(valid_reply(request), usage=Usage(1003, 5, 17))

    journal = Journal()
    parts = Parts(ScriptedJudge(script, capabilities=DECIDES), OnDocument(), OnAnswer(), journal=journal)
    await parts.engine.score(SAMPLE)
    total = parts.ledger.total()
    assert (total.calls, total.prompt_tokens, total.completion_tokens, total.cached_tokens) == (4, 4012, 20, 68)
    used = journal.usage()
    assert [sum(getattr(u, n) for u in used) for n in ("calls", "prompt_tokens", "completion_tokens")] == [4, 4012, 20]
    again = ScriptedJudge(script, capabilities=DECIDES)
    resumed = Parts(again, OnDocument(), OnAnswer(), journal=journal)
    await resumed.engine.score(SAMPLE)
    assert (again.packs, resumed.ledger.total().calls, resumed.ledger.total().reused) == ([], 0, 15)


async def test_a_budget_bounds_requests_and_not_questions() -> None:
    ledger = BudgetLedger(Budget(calls=4))
    rewards = await Parts(ScriptedJudge(capabilities=DECIDES), OnDocument(), OnAnswer(), ledger=ledger).engine.score(
        SAMPLE
    )
    assert all(r.reward is not None for r in rewards)
    assert ledger.used[0] == 4


async def test_a_request_is_tried_again_after_a_fault_of_the_server() -> None:
    class Flaky(ScriptedJudge):
        async def complete_several(self, requests: Any) -> Any:
            if len(self.packs) == 0:
                self.packs.append([])
                raise UnavailableError("503")
            return await super().complete_several(requests)

    judge = Flaky(capabilities=DECIDES)
    rewards = await Parts(judge, OnDocument()).engine.score(SAMPLE)
    assert all(r.reward is not None for r in rewards)
    assert sizes(judge) == [0, 12]


async def test_a_judge_that_takes_one_question_gets_each_after_the_material_with_how_to_reply() -> None:
    judge = ScriptedJudge(lambda r: "It is so. [[yes]]")
    rewards = await Parts(judge, OnDocument(claims=2)).engine.score(SAMPLE)
    assert [r.reward for r in rewards] == [10.0] * 3
    assert len(judge.requests) == 6
    prompt = prompt_text(judge.requests[0].prompt)
    assert prompt.startswith("It rained.")
    assert "0 claim 0" in prompt
    assert "[[yes]], [[no]]" in prompt


async def test_repeats_are_questions_of_their_own_whose_mean_and_spread_are_kept() -> None:
    def script(request: Request) -> Reply:
        best = request.options[2 + 2 * request.repeat]
        return Reply("", probabilities={o: float(o == best) for o in request.options})

    judge = ScriptedJudge(script, capabilities=DECIDES)
    rewards = await Parts(judge, OnAnswer(), asking=PanelSettings(repeat=3)).engine.score(SAMPLE)
    outcome = rewards[0].judgements["d0"]
    assert isinstance(outcome, Judgement)
    assert (outcome.rating, outcome.spread, len(outcome.votes)) == (4.0, 2.0, 3)
    assert sizes(judge) == [3, 3, 3]


async def test_what_can_only_be_written_is_asked_of_the_writer() -> None:
    class Writes(OnAnswer):
        async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
            note = await ctx.ask(text("note"), Text())
            return replace(await super().score(sample, candidate, ctx), analysis=note.value)

    decider = ScriptedJudge(capabilities=DECIDES)
    writer = ScriptedJudge(lambda r: "a note", identity={"type": "writer"})
    parts = Parts(decider, Writes(), asking=PanelSettings(writer="writer"))
    observers = Observers(None, lambda *_: None)
    parts.engine.judges = judge_calls(
        {"main": decider, "writer": writer}, parts.journal, parts.ledger, observers, seed=0
    )
    outcome = (await parts.engine.score(SAMPLE))[0].judgements["d0"]
    assert isinstance(outcome, Judgement)
    assert (outcome.analysis, len(writer.requests), sizes(decider)) == ("a note", 1, [1, 1, 1])


async def test_a_dimension_that_fails_or_never_asks_holds_no_other_back() -> None:
    class Fails:
        async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
            await asyncio.sleep(0.01)
            raise ValueError("no")

    judge = ScriptedJudge(capabilities=DECIDES)
    async with asyncio.timeout(5):
        rewards = await Parts(judge, OnDocument(), Fails()).engine.score(SAMPLE)
    assert all(isinstance(r.judgements["d0"], Judgement) for r in rewards)
    assert sizes(judge) == [12]


async def test_verdicts_on_a_prompt_without_material_are_decided_one_by_one() -> None:
    class Plain:
        async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
            answer = await ctx.ask(text(f"is it so? {candidate.text}"), Verdict({"Yes": 1.0, "No": 0.0}))
            return Judgement(5.0, analysis=answer.value)

    judge = ScriptedJudge(capabilities=DECIDES)
    await Parts(judge, Plain()).engine.score(SAMPLE)
    assert sizes(judge) == [1, 1, 1]
    assert all(r.material == 0 for pack in judge.packs for r in pack)
