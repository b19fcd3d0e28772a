"""A budget of money is never crossed, is counted over all sittings of a run, and is shown."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from lrf.cli.summary import show
from lrf.config import parse_pipeline
from lrf.engine.asked import Asked
from lrf.engine.budget import Budget, BudgetLedger
from lrf.engine.judge_calls import JudgeCalls
from lrf.engine.paid_call import Caller
from lrf.engine.worst_case import most_prompt_tokens
from lrf.errors import BudgetError, RunInterruptedError
from lrf.plugin.catalog import load_catalog
from lrf.prices import Price
from lrf.prompting.expectations import Rating
from lrf.prompting.requests import RatingMode, Reply, Request, Usage
from lrf.prompting.templates import Segment
from lrf.protocols import Capabilities
from lrf.stages.runner import run_pipeline
from lrf.stages.summary import RunSummary
from lrf.store.journal import Journal, Used
from lrf.testing import ScriptedJudge

PRICE = Price("USD", prompt=3, cached=1, completion=7)


async def ask(calls: JudgeCalls, text: str, max_tokens: int = 100) -> float:
    return (await calls.ask(Asked((Segment(text, trusted=False),), Rating(), max_tokens, Caller("s", "d")))).value


@settings(max_examples=40)
@given(
    budget=st.integers(0, 20_000),
    replies=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=12),
    asked=st.integers(1, 25),
    concurrency=st.integers(1, 8),
)
def test_however_many_calls_run_at_once_no_more_money_than_the_budget_is_spent(
    budget: int, replies: list[tuple[float, float, float]], asked: int, concurrency: int
) -> None:
    spent = 0

    async def script(request: Request) -> Reply:
        nonlocal spent
        await asyncio.sleep(0)
        read, written, cached = replies[len(judge.requests) % len(replies)]
        prompt = int(read * most_prompt_tokens(request))
        usage = Usage(prompt, int(written * request.max_tokens), int(cached * prompt))
        spent += PRICE.cost(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)
        return Reply("[[7]]", usage=usage)

    judge = ScriptedJudge(script, max_concurrency=concurrency)

    async def run() -> None:
        journal = Journal()
        calls = JudgeCalls("main", judge, journal, BudgetLedger(Budget(money=budget)), price=PRICE)
        outcomes = await asyncio.gather(*(ask(calls, f"{i}") for i in range(asked)), return_exceptions=True)
        assert all(o == 7.0 or isinstance(o, BudgetError) for o in outcomes)
        await calls.aclose()
        await asyncio.to_thread(journal.close)

    asyncio.run(run())
    assert spent <= budget


async def test_a_call_waits_for_those_in_flight_rather_than_give_the_budget_up() -> None:
    worst = PRICE.most(most_prompt_tokens(_request("0")), 100)
    judge = ScriptedJudge(lambda _: Reply("[[7]]", usage=Usage(1, 1)), max_concurrency=8)
    journal = Journal()
    calls = JudgeCalls("main", judge, journal, BudgetLedger(Budget(money=worst + 9 * 10)), price=PRICE)
    assert await asyncio.gather(*(ask(calls, f"{i}") for i in range(10))) == [7.0] * 10
    assert judge.most_in_flight == 1
    await calls.aclose()
    await asyncio.to_thread(journal.close)


async def test_a_call_that_waits_for_the_budget_ends_when_the_run_is_stopped() -> None:
    release, begun = asyncio.Event(), asyncio.Event()

    async def script(_: Request) -> Reply:
        begun.set()
        await release.wait()
        return Reply("[[7]]", usage=Usage(1, 1))

    judge, journal = ScriptedJudge(script), Journal()
    worst = PRICE.most(most_prompt_tokens(_request("0")), 100)
    calls = JudgeCalls("main", judge, journal, BudgetLedger(Budget(money=worst + 10)), price=PRICE)
    asked = [asyncio.create_task(ask(calls, f"{i}")) for i in range(2)]
    await begun.wait()
    await asyncio.sleep(0)
    calls.server.queue.stop.set()
    release.set()
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert outcomes[0] == 7.0
    assert isinstance(outcomes[1], RunInterruptedError)
    assert calls.ledger.total().faults == 0
    await calls.aclose()
    await asyncio.to_thread(journal.close)


def _request(text: str) -> Request:
    return Request((Segment(text, trusted=False),), Rating(), 100, 0.01)


@given(st.text(max_size=300))
def test_no_text_has_more_tokens_than_are_reserved_for_it(text: str) -> None:
    from lrf.text.chunking import count_tokens

    assert count_tokens(text) <= most_prompt_tokens(_request(text))


@pytest.fixture
async def address(serve):
    async def chat(request: web.Request) -> web.Response:
        body = await request.json()
        n = len(body["messages"][0]["content"])
        message = {"role": "assistant", "content": f"It is apt.\nRating: [[{n % 11}]]"}
        usage = {"prompt_tokens": 1000, "completion_tokens": 100, "prompt_tokens_details": {"cached_tokens": 600}}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return web.json_response({"model": "m", "choices": [choice], "usage": usage})

    return await serve(chat)


def pipeline(folder: Path, address: str, *, model: str = "m", **more: Any):
    samples = folder / "samples.jsonl"
    if not samples.exists():
        rows = (
            {"id": str(i), "context": "A text.", "query": "What?", "candidates": [{"id": "a", "text": "x" * (i + 1)}]}
            for i in range(30)
        )
        samples.write_text("".join(json.dumps(r) + "\n" for r in rows))
        (folder / "prices.yaml").write_text(
            "version: test\ncurrency: EUR\nmodels: [{model: m, input: 10, cached_input: 1, output: 100}]"
        )
    return parse_pipeline(
        {
            "name": "run",
            "data": {"type": "jsonl", "path": "samples.jsonl"},
            "judges": {"main": {"type": "openai", "base_url": f"{address}/v1", "model": model, "max_concurrency": 4}},
            "dimensions": ["helpfulness"],
            **more,
        },
        load_catalog(),
        folder=folder,
    )


async def run(folder: Path, address: str, **more: Any) -> RunSummary:
    return await run_pipeline(pipeline(folder, address, **more), load_catalog(), folder / "runs")


A_CALL = 400 * 10e-6 + 600 * 1e-6 + 100 * 100e-6


async def test_the_summary_says_what_was_spent_cached_tokens_once(address: str, tmp_path: Path, capsys) -> None:
    summary = await run(tmp_path, address, prices="prices.yaml")
    money = json.loads((tmp_path / "runs/run/summary.json").read_text())["stages"]["score"]["money"]
    assert money["spent"]["EUR"] == pytest.approx(30 * A_CALL)
    assert money["by_dimension"] == {"helpfulness": money["spent"]}
    assert (money["unpriced_calls"], money["prices"]) == ({}, "test")
    show(summary)
    assert "0.438 EUR over all sittings, at the prices of test" in capsys.readouterr().out


async def test_calls_of_a_model_without_a_price_are_said_to_have_none(address: str, tmp_path: Path, capsys) -> None:
    summary = await run(tmp_path, address)
    assert summary.stages["score"]["money"]["unpriced_calls"] == {"m": 30}
    assert summary.stages["score"]["money"]["spent"] == {}
    show(summary)
    assert "no price for m (30 calls)" in capsys.readouterr().out


async def test_a_budget_holds_over_all_sittings_of_a_run(address: str, tmp_path: Path) -> None:
    budget = 0.4  # a call costs 0.0146, its worst case is under 0.12
    for _ in range(3):
        summary = await run(tmp_path, address, prices="prices.yaml", budget={"money": budget})
        assert (summary.status, summary.exit_code) == ("stopped", 4)
        spent = summary.stages["score"]["money"]["spent"]["EUR"]
        assert spent <= budget
    assert summary.stages["score"]["calls"] == 0
    assert spent > 0.2
    assert summary.message.startswith("the budget of 0.4 EUR could be overrun by the next call")
    summary = await run(tmp_path, address, prices="prices.yaml", budget={"money": 2})
    assert summary.status == "finished"
    assert summary.stages["score"]["money"]["spent"]["EUR"] == pytest.approx(30 * A_CALL)


async def test_calls_and_tokens_are_counted_over_all_sittings_too(address: str, tmp_path: Path) -> None:
    for budget in ({"calls": 7}, {"calls": 7}, {"calls": 9}):
        summary = await run(tmp_path, address, budget=budget)
        assert summary.status == "stopped"
    with_tokens = await run(tmp_path, address, budget={"tokens": 9 * 1100 + 50})
    assert with_tokens.status == "stopped"
    assert with_tokens.stages["score"]["calls"] == 0
    journal = Journal(tmp_path / "runs/run/journal.sqlite")
    assert sum(used.calls for used in journal.usage()) == 9
    await asyncio.to_thread(journal.close)


async def test_replies_that_have_no_price_any_more_stop_a_budget_of_money(address: str, tmp_path: Path) -> None:
    await run(tmp_path, address, model="old", budget={"calls": 3})
    summary = await run(tmp_path, address, prices="prices.yaml", budget={"money": 1})
    assert summary.exit_code == 2
    assert "price is not known in the budget's currency (old)" in summary.message


@pytest.mark.parametrize(("key", "a_call"), [("tokens", 2_000), ("money", 0.06)])
async def test_replies_without_usage_count_in_every_sitting(serve, tmp_path: Path, key: str, a_call: float) -> None:
    asked = 0

    async def chat(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        message = {"role": "assistant", "content": "It is apt.\nRating: [[7]]"}
        return web.json_response({"model": "m", "choices": [{"message": message, "finish_reason": "stop"}]})

    address = await serve(chat)
    summary = await run(tmp_path, address, prices="prices.yaml", budget={"calls": 3})  # nothing is set aside for tokens
    assert (summary.status, asked) == ("stopped", 3)
    for budget, most in ((a_call, 3), (12 * a_call, 29), (12 * a_call, 29)):
        before = asked
        summary = await run(tmp_path, address, prices="prices.yaml", budget={key: budget})
        assert summary.status == "stopped"
        assert asked <= most
    assert 3 < asked == before
    assert summary.stages["score"]["money"]["spent"] == {"EUR": 0.0}  # what is shown is what the server told


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.text(max_size=20), min_size=1, max_size=4, unique=True),
    st.sampled_from(["text", "json", "logprobs"]),
    st.integers(0, 100),
)
def test_a_resumed_run_counts_a_reply_without_usage_as_the_run_did_that_asked(
    texts: list[str], reply_mode: RatingMode, reasoning: int
) -> None:
    p = dict.fromkeys(Rating().options, 0.0) | {"[[7]]": 1.0}
    replies = {"json": Reply('{"analysis": "ok", "rating": 7}'), "logprobs": Reply("", probabilities=p)}
    can = Capabilities(probabilities=True, structured=True, reasoning_tokens=reasoning, calls=3)
    judge = ScriptedJudge(lambda _: replies.get(reply_mode, Reply("[[7]]")), capabilities=can)

    async def ask_all() -> tuple[BudgetLedger, list[Used]]:
        journal = Journal()
        calls = JudgeCalls("main", judge, journal, BudgetLedger(Budget(tokens=10**9, money=10**9)), price=PRICE)
        for text in texts:
            await calls.ask(
                Asked((Segment(text, trusted=False),), Rating(), 100, Caller("s", "d"), reply_mode=reply_mode)
            )
        await calls.aclose()
        used = await asyncio.to_thread(journal.usage)
        await asyncio.to_thread(journal.close)
        return calls.ledger, used

    ledger, [used] = asyncio.run(ask_all())
    assert (used.prompt_tokens, used.completion_tokens) == (0, 0)
    assert used.most_prompt + used.most_reply == ledger.used[1]
    assert PRICE.most(used.most_prompt, used.most_reply) == ledger.used[2]


BY_BATCH = (
    "version: t\ncurrency: EUR\nmodels:\n- {model: m, input: 10, cached_input: 1, output: 100, batch_discount: 0.5}\n"
    "- {model: p, input: 1, output: 1}"
)


async def test_stage_sample_prices_a_batch_judges_replies_with_the_discount(address: str, tmp_path: Path) -> None:
    at = {"type": "openai", "base_url": f"{address}/v1"}
    more = {"prices": "batch.yaml", "sample": {**at, "model": "p", "n": 1}}
    pipeline(tmp_path, address)
    (tmp_path / "batch.yaml").write_text(BY_BATCH)
    scored = await run(tmp_path, address, **more)
    assert scored.stages["score"]["money"]["by_dimension"]["helpfulness"]["EUR"] == pytest.approx(30 * A_CALL)

    by_batch = {"main": {**at, "model": "m", "batch": {}}}
    (tmp_path / "samples.jsonl").write_text(json.dumps({"id": "new", "context": "A text.", "query": "What?"}))
    for left, status in ((0.001, "stopped"), (0.002, "finished")):  # a candidate may cost 0.0014
        money = 15 * A_CALL + left
        checked = pipeline(tmp_path, address, **more, judges=by_batch, budget={"money": money})
        summary = await run_pipeline(checked, load_catalog(), tmp_path / "runs", last="sample")
        spent = summary.stages["sample"]["money"]["by_dimension"]
        assert summary.status == status, summary.message
        assert spent["helpfulness"]["EUR"] == pytest.approx(15 * A_CALL)


async def test_each_of_two_judges_of_one_model_has_its_own_price(address: str, tmp_path: Path) -> None:
    """By batches and at once: the books and the plan tell them apart by the dimension that asks."""
    from lrf.assemble import engine_of
    from lrf.engine.observers import Observers
    from lrf.planning.plan import plan_pipeline
    from lrf.stages.spending import paid

    at = {"type": "openai", "base_url": f"{address}/v1", "model": "m"}
    dimensions = [{"type": "helpfulness", "judge": "later"}, {"type": "logicality", "judge": "now"}]
    for order in (("now", "later"), ("later", "now")):
        judges = {name: {**at, "batch": {}} if name == "later" else at for name in order}
        pipeline(tmp_path, address)
        (tmp_path / "batch.yaml").write_text(BY_BATCH)
        checked = pipeline(tmp_path, address, prices="batch.yaml", judges=judges, dimensions=dimensions)
        plan = await plan_pipeline(checked)
        for name, estimate in plan.dimensions.items():
            full = (10 * (estimate.prompt_tokens - estimate.shared_tokens) + estimate.shared_tokens) * 1e-6
            full += 100e-6 * estimate.reply_tokens
            assert estimate.price == pytest.approx(full / 2 if name == "helpfulness" else full)
            assert estimate.bound_price is not None
            assert estimate.price < estimate.bound_price
        journal = Journal()
        engine = engine_of(checked, journal, Observers(None, lambda *_: None))
        identity = engine.judges["now"].identity
        assert identity == engine.judges["later"].identity
        for dimension in ("helpfulness", "logicality"):
            reply = Reply("[[7]]", usage=Usage(1000, 100, 600))
            asked = Request((Segment(dimension),), Rating(), 100, 0.01)
            await journal.commit_reply(
                dimension.encode(), identity, asked, reply, sample="s", dimension=dimension, seconds=1
            )
        for at_hand in ({}, engine.judges):
            spent = (await asyncio.to_thread(paid, journal, checked, at_hand)).money_by_dimension
            assert (spent["helpfulness"]["EUR"], spent["logicality"]["EUR"]) == (A_CALL / 2 * 1e12, A_CALL * 1e12)
        await engine.aclose()
        await asyncio.to_thread(journal.close)
