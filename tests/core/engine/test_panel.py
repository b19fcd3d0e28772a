"""Ways to rate, draws and panels: what is asked of whom, and what is made of the answers."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Sequence
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf.assemble import check_reply_modes
from lrf.engine.asked import Asked
from lrf.engine.budget import BudgetLedger
from lrf.engine.engine import Engine, judge_calls
from lrf.engine.judge_calls import ATTEMPTS, JudgeCalls
from lrf.engine.observers import Observers
from lrf.engine.paid_call import Caller
from lrf.engine.panel import NamedDimension, PanelSettings, ask_panel, combine
from lrf.engine.reply_modes import reply_mode_of
from lrf.errors import ConfigError, JudgeMisconfiguredError, UnavailableError, UnscorableError
from lrf.prompting.expectations import Choice, Rating, Statements, Text, Verdict, Verdicts
from lrf.prompting.requests import PanelRule, Reply, Request
from lrf.prompting.templates import Segment
from lrf.protocols import Capabilities, Context
from lrf.store.journal import Journal
from lrf.testing import ScriptedJudge
from lrf.types import Candidate, Document, Judgement, Sample, Unscored, Vote

CALLER = Caller("s", "d")
PROMPT = (Segment("Rate: "), Segment("an answer", trusted=False))
SUPPORT = {"Full": 1.0, "Half": 0.5, "None": 0.0}
CAN_ALL = Capabilities(probabilities=True, structured=True, seed=True)


def calls_of(judges: dict[str, ScriptedJudge]) -> list[JudgeCalls]:
    journal = Journal()
    return list(judge_calls(judges, journal, BudgetLedger(), Observers(None, lambda *_: None), seed=0).values())


def says(*ratings: object) -> ScriptedJudge:
    """A judge that gives these marks, by draw."""
    return ScriptedJudge(lambda r: f"So: [[{ratings[r.repeat]}]]", identity={"ratings": [str(r) for r in ratings]})


async def ask(judges: dict[str, ScriptedJudge], expects: Any = Rating(), **asking: Any) -> Any:
    (answer,) = await ask_panel(calls_of(judges), PanelSettings(**asking), [Asked(PROMPT, expects, 64, CALLER)])
    if isinstance(answer, UnscorableError):
        raise answer
    return answer


@pytest.mark.parametrize("wanted", ["text", "json", "logprobs"])
def test_a_rating_is_asked_for_in_the_wanted_way(wanted: Any) -> None:
    for expects in (Rating(), Verdict(SUPPORT), Choice(("a", "b"))):
        assert reply_mode_of(ScriptedJudge(capabilities=CAN_ALL), expects, wanted) == wanted


@pytest.mark.parametrize("wanted", ["auto", "text", "json", "logprobs"])
def test_what_is_no_mark_is_asked_for_in_the_best_way_whatever_is_wanted(wanted: Any) -> None:
    judge = ScriptedJudge(capabilities=CAN_ALL)
    assert reply_mode_of(judge, Statements(), wanted) == "json"
    assert reply_mode_of(judge, Text(), wanted) == "text"


@pytest.mark.parametrize(
    ("expects", "wanted", "can"),
    [
        (Rating(), "logprobs", Capabilities(structured=True)),
        (Rating(), "json", Capabilities(probabilities=True)),
        (Verdicts(SUPPORT, 2), "auto", Capabilities(probabilities=True)),
        (Verdicts(SUPPORT, 2), "text", CAN_ALL),
    ],
)
async def test_what_a_judge_cannot_be_asked_for_is_not_asked(expects: Any, wanted: Any, can: Capabilities) -> None:
    judge = ScriptedJudge(capabilities=can)
    with pytest.raises(UnscorableError) as caught:
        await ask({"main": judge}, expects, rating=wanted)
    assert caught.value.reason == "reply_mode_not_possible"
    assert judge.requests == []


@pytest.mark.parametrize("wanted", ["json", "logprobs"])
def test_a_way_that_a_judge_of_the_panel_lacks_is_a_mistake_of_the_pipeline(wanted: Any) -> None:
    able, unable = ScriptedJudge(capabilities=CAN_ALL), ScriptedJudge(identity={"type": "other"})
    named = NamedDimension("charm", None, "a", asking=PanelSettings(rating=wanted, others=("b",)))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=f"dimension charm: `rating: {wanted}`, but the judge b .* allowed: auto"):
        check_reply_modes([named], {"a": able, "b": unable})
    check_reply_modes([named], {"a": able, "b": ScriptedJudge(capabilities=CAN_ALL, identity={"type": "third"})})


def test_two_judges_of_a_panel_that_would_give_the_same_replies_are_a_mistake() -> None:
    named = NamedDimension("charm", None, "a", asking=PanelSettings(others=("b",)))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="the judges a and b of its panel are the same model"):
        check_reply_modes([named], {"a": ScriptedJudge(), "b": ScriptedJudge()})


async def test_draws_are_requests_of_their_own_and_their_mean_counts() -> None:
    judge = ScriptedJudge(lambda r: f"[[{(4, 8, 9)[r.repeat]}]]", capabilities=Capabilities(seed=True))
    answer = await ask({"main": judge}, repeat=3)
    assert sorted(r.repeat for r in judge.requests) == [0, 1, 2]
    assert answer.value == 7.0
    assert answer.votes == tuple(Vote("main", d, v, "text") for d, v in enumerate((4.0, 8.0, 9.0)))
    by_draw = {r.repeat: r for r in judge.requests}
    assert [by_draw[d].temperature for d in range(3)] == [0.01, 0.95, 0.95]
    assert len({r.seed for r in judge.requests}) == 3


async def test_a_draw_that_is_asked_again_has_another_seed_than_every_other_request() -> None:
    judge = ScriptedJudge(lambda r: "no mark" if r.attempt < 2 else "[[5]]", capabilities=Capabilities(seed=True))
    await ask({"main": judge}, repeat=4)
    seeds = [r.seed for r in judge.requests]
    assert len(seeds) == len(set(seeds)) == 12


async def test_a_draw_without_a_mark_leaves_the_question_unanswered() -> None:
    judge = ScriptedJudge(lambda r: "[[5]]" if r.repeat == 0 else "nothing")
    with pytest.raises(UnscorableError) as caught:
        await ask({"main": judge}, repeat=2)
    assert caught.value.reason == "no_rating"
    assert len(judge.requests) == 1 + ATTEMPTS


async def test_statements_and_notes_are_asked_once_of_the_first_judge() -> None:
    for expects in (Statements(), Text()):
        first, second = ScriptedJudge(), ScriptedJudge(identity={"type": "second"})
        await ask({"a": first, "b": second}, expects, repeat=3, others=("b",))
        assert (len(first.requests), len(second.requests)) == (1, 0)


@pytest.mark.parametrize(("rule", "rating"), [("mean", 5.25), ("median", 5.5), ("trimmed_mean", 5.5)])
async def test_the_ratings_of_a_panel_become_one(rule: PanelRule, rating: float) -> None:
    judges = {name: says(n) for name, n in zip("abcd", (0, 5, 6, 10), strict=True)}
    answer = await ask(judges, panel=rule, others=("b", "c", "d"))
    assert answer.value == rating
    assert [(o.judge, o.value) for o in answer.votes] == [("a", 0.0), ("b", 5.0), ("c", 6.0), ("d", 10.0)]


async def test_each_judge_of_a_panel_counts_by_the_mean_of_its_draws() -> None:
    answer = await ask({"a": says(0, 10), "b": says(9, 9), "c": says(1, 1)}, panel="median", repeat=2)
    assert answer.value == 5.0
    assert len(answer.votes) == 6


async def test_a_judge_that_fails_leaves_the_candidate_unscored_unless_enough_remain() -> None:
    silent = ScriptedJudge(lambda _: "no mark", identity={"type": "silent"})
    judges = {"a": silent, "b": says(4), "c": says(6)}
    with pytest.raises(UnscorableError, match=r"judge a: .* \(2 of 3 judges answered\)"):
        await ask(judges)
    with pytest.raises(UnscorableError):
        await ask(judges, panel_min=3)
    answer = await ask(judges, panel_min=2)
    assert (answer.value, {o.judge for o in answer.votes}) == (5.0, {"b", "c"})


async def test_a_judge_that_is_misconfigured_stops_everything() -> None:
    wrong = ScriptedJudge(lambda _: JudgeMisconfiguredError("wrong key"), identity={"type": "wrong"})
    with pytest.raises(JudgeMisconfiguredError):
        await ask({"a": says(4), "b": wrong}, panel_min=1)


async def test_a_panel_that_failed_for_a_while_is_asked_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(self: Any, seconds: float) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr("lrf.engine.stop.Stop.pause", at_once)
    away = ScriptedJudge(lambda _: UnavailableError("away"), identity={"type": "away"})
    with pytest.raises(UnscorableError) as caught:
        await ask({"a": says(4), "b": away})
    assert caught.value.transient


async def test_the_supports_of_a_panels_verdicts_are_averaged_and_the_nearest_label_is_the_verdict() -> None:
    labels = {"a": "Full", "b": "None", "c": "Full", "d": "Full"}
    judges = {
        name: ScriptedJudge(lambda r, v=label: f"[[{v}]]", identity={"n": name}) for name, label in labels.items()
    }
    answer = await ask(judges, Verdict(SUPPORT))
    assert answer.probabilities == {"[[Full]]": 0.75, "[[Half]]": 0.0, "[[None]]": 0.25}
    assert answer.value == "Half"  # 0.75 is as near to 1 as to 0.5: the lower one
    two = await ask({name: judges[name] for name in "ab"}, Verdict(SUPPORT))
    assert two.value == "Half"


async def test_a_panel_may_have_judges_that_answer_in_different_ways() -> None:
    sure = ScriptedJudge(lambda r: "[[Full]]", identity={"n": 1}, capabilities=Capabilities(probabilities=True))
    answer = await ask({"a": sure, "b": ScriptedJudge(lambda r: "[[None]]", identity={"n": 2})}, Verdict(SUPPORT))
    assert [o.reply_mode for o in answer.votes] == ["logprobs", "text"]
    assert answer.value == "Half"


async def test_the_choice_of_a_panel_is_that_of_most() -> None:
    judges = {
        n: ScriptedJudge(lambda r, c=c: f"[[{c}]]", identity={"n": n}) for n, c in (("a", "x"), ("b", "y"), ("c", "y"))
    }
    assert (await ask(judges, Choice(("x", "y")))).value == "y"


@given(st.lists(st.floats(0, 10), min_size=1, max_size=9), st.sampled_from(get_args(PanelRule)), st.randoms())
def test_a_combined_rating_lies_among_the_ratings_and_does_not_depend_on_their_order(
    ratings: list[float], rule: PanelRule, random: Any
) -> None:
    made = combine(ratings, rule)
    assert min(ratings) <= made <= max(ratings)
    random.shuffle(ratings)
    assert combine(ratings, rule) == made


@given(st.lists(st.integers(0, 10), min_size=3, max_size=9))
def test_one_judge_gone_mad_moves_a_trimmed_mean_no_further_than_the_others_reach(ratings: list[int]) -> None:
    assert min(ratings) <= combine([*ratings, 10.0 if ratings[0] < 5 else 0.0], "trimmed_mean") <= max(ratings)


def test_several_verdicts_are_read_in_the_order_of_their_numbers() -> None:
    reply = Reply('{"v2": {"analysis": "x", "verdict": "none"}, "v1": {"analysis": "", "verdict": "Full"}}')
    assert Verdicts(SUPPORT, 2).read(reply, "json") == ("Full", "None")


@pytest.mark.parametrize(
    "text",
    ["{}", "[]", "no", '{"v1": {"verdict": "Full"}}', '{"v1": {"verdict": "Full"}, "v2": {"verdict": "Maybe"}}',
     '{"v1": {"verdict": "Full"}, "v2": "Full"}'],
)  # fmt: skip
def test_an_incomplete_reply_of_several_verdicts_is_refused(text: str) -> None:
    from lrf.errors import ParseError

    with pytest.raises(ParseError):
        Verdicts(SUPPORT, 2).read(Reply(text), "json")


async def test_a_prompt_that_does_not_fit_is_refused_before_it_is_paid_for() -> None:
    judge = ScriptedJudge(capabilities=Capabilities(context_window=200))
    [calls] = calls_of({"main": judge})
    long = (Segment("word " * 300, trusted=False),)
    with pytest.raises(UnscorableError, match=r"the prompt has 30\d tokens and the reply may have 64; .* takes 200"):
        await calls.ask(Asked(long, Rating(), 64, CALLER))
    assert (judge.requests, calls.ledger.total().faults) == ([], 0)
    assert (await calls.ask(Asked(PROMPT, Rating(), 64, CALLER))).value == 5.0


class Charm:
    """Rates by one question, as a third party's dimension would."""

    async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        prompt = (Segment("Rate: "), Segment(candidate.text, trusted=False))
        return Judgement((await ctx.ask(prompt, Rating())).value, reply_mode="text")


class Mean:
    def aggregate(self, ratings: Any) -> float | None:
        values = list(ratings.values())
        return None if None in values else sum(values) / len(values)


async def score(
    judges: dict[str, ScriptedJudge],
    asking: PanelSettings,
    answers: Sequence[str] = ("yes",),
    of: Callable[[], Any] = Charm,
) -> list[Judgement | Unscored]:
    journal, observers, ledger = Journal(), Observers(None, lambda *_: None), BudgetLedger()
    engine = Engine(
        dimensions=[NamedDimension("charm", of(), next(iter(judges)), asking=asking)],
        judges=judge_calls(judges, journal, ledger, observers, seed=0),
        retrievers={}, embedders={}, aggregator=Mean(), journal=journal, ledger=ledger, observers=observers,
    )  # fmt: skip
    sample = Sample("s", "q?", (Document("0", "text"),), tuple(Candidate(str(i), a) for i, a in enumerate(answers)))
    rewards = await engine.score(sample)
    journal.close()
    return [r.judgements["charm"] for r in rewards]


async def test_any_dimensions_judgement_keeps_what_each_judge_and_draw_said_and_the_spread() -> None:
    asking = PanelSettings(repeat=2, others=("b",))
    [judgement] = await score({"a": says(4, 6), "b": says(5, 9)}, asking)
    assert isinstance(judgement, Judgement)
    assert judgement.rating == 6.0
    assert [(o.judge, o.repeat, o.value) for o in judgement.votes] == [
        ("a", 0, 4.0), ("a", 1, 6.0), ("b", 0, 5.0), ("b", 1, 9.0),
    ]  # fmt: skip
    assert judgement.spread == pytest.approx(statistics.stdev((4, 6, 5, 9)))


async def test_equal_answers_share_their_draws_and_different_draws_are_never_merged() -> None:
    judge = says(1, 2, 3)
    judgements = await score({"a": judge}, PanelSettings(repeat=3), ["same", "same", "same"])
    assert len(judge.requests) == 3
    assert {j.rating for j in judgements if isinstance(j, Judgement)} == {2.0}


async def test_a_judgement_of_one_draw_is_as_it_was() -> None:
    [judgement] = await score({"a": says(4)}, PanelSettings())
    assert judgement == Judgement(4.0, reply_mode="text", seen={"answer": 1.0})


async def test_the_share_of_the_answer_that_a_judge_saw_is_kept() -> None:
    class Cutting(Charm):
        async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
            return await super().score(sample, Candidate(candidate.id, candidate.text[:25]), ctx)

    [whole, cut] = await score({"a": says(4)}, PanelSettings(), ["short", "long " * 20], Cutting)
    assert isinstance(whole, Judgement)
    assert isinstance(cut, Judgement)
    assert whole.seen == {"answer": 1.0}
    assert cut.seen["answer"] == pytest.approx(0.25, abs=0.02)


async def test_draws_survive_in_the_journal_and_are_not_asked_again() -> None:
    journal, judge = Journal(), says(1, 5)
    observers, ledger = Observers(None, lambda *_: None), BudgetLedger()
    calls = list(judge_calls({"a": judge}, journal, ledger, observers, seed=0).values())

    async def once() -> Any:
        return await ask_panel(calls, PanelSettings(repeat=2), [Asked(PROMPT, Rating(), 64, CALLER)])

    first, again = await once(), await once()
    assert first == again
    assert len(judge.requests) == 2
    request: Request = judge.requests[0]
    assert request.round == 0
