"""What a pipeline is said to need and cost beforehand, held against what runs really use."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from decision_server import DecisionServer
from lrf.cli.main import invoke
from lrf.config import parse_pipeline
from lrf.engine.judge_calls import ATTEMPTS
from lrf.planning.plan import Plan, plan_pipeline
from lrf.plugin.catalog import load_catalog
from lrf.stages.runner import run_pipeline
from lrf.stages.summary import RunSummary
from lrf.store.database import Database
from lrf.store.journal import Journal

ANSWER = "The mill was built in 1820. It burnt down in 1904. Nobody was hurt, and the owner rebuilt it of brick."
DIMENSIONS = ["helpfulness", "logicality", {"type": "faithfulness", "max_statements": 6}, "completeness"]
PRICES = (
    "version: test\ncurrency: USD\nmodels: [{model: m, input: 2, cached_input: 0.5, output: 8, batch_discount: 0.5}]"
)


def config(folder: Path, address: str = "http://127.0.0.1:9", *, samples: int = 2, **more: Any) -> dict[str, Any]:
    def context(i: int) -> str:
        return " ".join(f"Sentence {n} tells of mill {i} and its wheel, 水车也在转动。" for n in range(120))

    rows = (
        {
            "id": str(i),
            "context": context(i),
            "query": f"What became of mill {i}?",
            "candidates": [{"id": str(j), "text": f"{ANSWER} Answer {i} {j}."} for j in range(3)],
        }
        for i in range(samples)
    )
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "prices.yaml").write_text(PRICES)
    at = {"type": "openai", "base_url": f"{address}/v1", "model": "m"}
    return {
        "name": "run",
        "data": {"type": "jsonl", "path": "samples.jsonl"},
        "judges": {"main": at},
        "embedders": {"main": at},
        "retrievers": {"main": "memory"},
        "dimensions": [d if isinstance(d, str) else dict(d) for d in DIMENSIONS],
        "prices": "prices.yaml",
        "max_unscored": 1,
        **more,
    }


def planned(folder: Path, value: dict[str, Any], **options: int) -> Plan:
    return asyncio.run(plan_pipeline(parse_pipeline(value, load_catalog(), folder=folder), **options))


def test_calls_are_counted_by_dimension_and_equal_ones_once(tmp_path: Path) -> None:
    plan = planned(tmp_path, config(tmp_path))
    assert (plan.samples, plan.candidates, plan.statements) == (2, 6, 6 * 4)
    calls = {name: e.calls for name, e in plan.dimensions.items()}
    notes = calls["completeness"] - 6
    assert calls["helpfulness"] == calls["logicality"] == 6
    assert calls["faithfulness"] == 6 + 2 * (3 + 3)  # three sentences are the same in each answer of a sample
    assert notes == 2
    assert plan.total().calls == sum(calls.values())


def test_a_plan_never_waits_for_a_journals_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def handed_in(*_: object, **__: object) -> None:
        raise AssertionError("a job for the journal's thread, which groups what it is given")

    monkeypatch.setattr(Database, "_submit", handed_in)
    monkeypatch.setattr(Database, "_put", handed_in)
    assert planned(tmp_path, config(tmp_path)).total().calls > 0


def test_what_begins_alike_is_shared_and_priced_as_cached(tmp_path: Path) -> None:
    plan = planned(tmp_path, config(tmp_path))
    for estimate in plan.dimensions.values():
        assert 0 < estimate.shared_tokens < estimate.prompt_tokens
        new = estimate.prompt_tokens - estimate.shared_tokens
        assert estimate.price == pytest.approx(
            (new * 2 + estimate.shared_tokens * 0.5 + estimate.reply_tokens * 8) / 1e6
        )
    assert plan.total().price == pytest.approx(sum(e.price or 0 for e in plan.dimensions.values()))
    assert (plan.currency, plan.prices) == ("USD", "test")


def test_the_shared_part_is_that_of_the_instructions_where_nothing_else_is(tmp_path: Path) -> None:
    from lrf.text.chunking import count_tokens
    from lrf_longreward.prompts import Prompts
    from lrf_longreward.settings import HelpfulnessSettings

    plan = planned(tmp_path, config(tmp_path, samples=1, dimensions=["helpfulness"]))
    template = Prompts("helpfulness", HelpfulnessSettings()).template("en")
    head = template.text.split("<<question>>")[0]
    between = template.text.split("<<question>>")[1].split("<<answer>>")[0]
    with_question = count_tokens(head) + count_tokens("What became of mill 0?") + count_tokens(between)
    assert plan.dimensions["helpfulness"].shared_tokens == 2 * with_question


def test_a_model_without_a_price_is_said_to_have_none(tmp_path: Path) -> None:
    plan = planned(tmp_path, {**config(tmp_path), "prices": None})
    assert plan.unpriced == {"main": "m"}
    assert plan.total().price is None
    assert plan.total().bound_price is None
    assert plan.total().bound_calls > 0


def test_more_samples_than_are_gone_through_are_scaled_and_the_most_is_no_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = planned(tmp_path, config(tmp_path, samples=6))
    monkeypatch.setattr("lrf.planning.planner.BOUND_SAMPLES", 2)
    part = planned(tmp_path, config(tmp_path, samples=6), priced_samples=4)
    assert (whole.bound_holds, part.bound_holds) == (True, False)
    assert (whole.bound_samples, part.bound_samples) == (6, 2)
    assert part.total().calls == whole.total().calls
    assert part.total().bound_calls == whole.total().bound_calls
    assert part.total().price == pytest.approx(whole.total().price, rel=0.1)
    assert part.total().bound_price == pytest.approx(whole.total().bound_price, rel=0.1)


def test_an_empty_price_list_of_another_currency_leaves_sums_out(tmp_path: Path) -> None:
    value = config(tmp_path)
    (tmp_path / "prices.yaml").write_text(
        "version: v\ncurrency: USD\nmodels: [{model: m, input: 1, output: 1}, "
        "{model: n, currency: CNY, input: 1, output: 1}]"
    )
    value["judges"]["other"] = {**value["judges"]["main"], "model": "n"}
    value["dimensions"] = ["helpfulness", {"type": "logicality", "judge": "other"}]
    plan = planned(tmp_path, value)
    assert plan.currency is None
    assert plan.total().price is None


class Server:
    """A judge that does its worst: ``replies`` makes the text and how it finished, of the prompt and the limit.

    It reports a token for each byte of a prompt, and of a reply as many as it was allowed.
    """

    def __init__(self, replies: Any) -> None:
        self.replies = replies
        self.seen: dict[str, int] = {}

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        if "input" in body:
            vectors = [[b / 255 for b in hashlib.blake2b(t.encode(), digest_size=8).digest()] for t in body["input"]]
            return web.json_response({"data": [{"index": i, "embedding": v} for i, v in enumerate(vectors)]})
        prompt, limit = body["messages"][0]["content"], body["max_tokens"]
        asked = self.seen[prompt] = self.seen.get(prompt, 0) + 1
        text, finish = self.replies(prompt, limit, asked)
        usage = {"prompt_tokens": len(prompt.encode()), "completion_tokens": limit}
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
        return web.json_response({"choices": [choice], "usage": usage})


MARKS = "Rating: [[Fully supported]]\nRating: [[7]]"


def longest(prompt: str, limit: int, asked: int) -> tuple[str, str]:
    """Cut off four times; then as long as the limit allows, with as many statements as are taken."""
    if asked < ATTEMPTS:
        return "half a", "length"
    key = hashlib.blake2b(prompt.encode(), digest_size=4).hexdigest()
    statements = "".join(f"<statement>{key} {n} {'y' * (limit // 6 - 40)}</statement>" for n in range(6))
    return f"{statements}\n{MARKS}", "stop"


def erratic(prompt: str, limit: int, asked: int) -> tuple[str, str]:
    """Anything, by a hash of prompt and attempt."""
    rng = random.Random(hashlib.blake2b(f"{asked}{prompt}".encode()).digest())
    if rng.random() < 0.5:
        return rng.choice([("cut", "length"), ("I'd rather not say.", "stop"), ("", "stop"), ("[[3]] [[4]]", "stop")])
    statements = "".join(f"<statement>Claim {rng.random()}.</statement>" for _ in range(rng.randrange(9)))
    return f"{statements}\n{MARKS}", "stop"


async def run(folder: Path, serve: Any, replies: Any, **more: Any) -> tuple[Plan, RunSummary, dict[str, list[int]]]:
    address = await serve(Server(replies).answer)
    pipeline = parse_pipeline(config(folder, address, **more), load_catalog(), folder=folder)
    plan = await plan_pipeline(pipeline)
    summary = await run_pipeline(pipeline, load_catalog(), folder / "runs")
    journal = Journal(folder / "runs/run/journal.sqlite")
    used = {u.dimension: [u.calls, u.prompt_tokens, u.completion_tokens] for u in journal.usage()}
    await asyncio.to_thread(journal.close)
    return plan, summary, used


@pytest.mark.parametrize("replies", [longest, erratic])
async def test_no_run_uses_more_than_the_plan_says_at_most(tmp_path: Path, serve, replies) -> None:
    plan, summary, used = await run(tmp_path, serve, replies)
    assert summary.stages["score"]["candidates"] == 6
    assert plan.bound_holds
    assert plan.max_statements == {"faithfulness": 6}
    assert set(used) == set(plan.dimensions)
    for dimension, (calls, prompt, reply) in used.items():
        estimate = plan.dimensions[dimension]
        assert calls <= estimate.bound_calls
        assert prompt <= estimate.bound_prompt_tokens
        assert reply <= estimate.bound_reply_tokens
    money = summary.stages["score"]["money"]
    for dimension, spent in money["by_dimension"].items():
        assert spent["USD"] <= plan.dimensions[dimension].bound_price
    assert money["spent"]["USD"] <= plan.total().bound_price


@pytest.mark.parametrize("how", ["widen", "neighbours"])
async def test_the_most_holds_where_everything_is_looked_at_twice(tmp_path: Path, serve, how: str) -> None:
    def unsupported(prompt: str, limit: int, asked: int) -> tuple[str, str]:
        text, finish = longest(prompt, limit, asked)
        return text.replace("Fully supported", "No support"), finish

    looking = [{"type": "faithfulness", "max_statements": 6, "second_look": how}]
    plan, summary, used = await run(tmp_path, serve, unsupported, dimensions=looking)
    assert summary.stages["score"]["counted"]["faithfulness"]["second_looks"] == 6 * 6
    estimate = plan.dimensions["faithfulness"]
    calls, prompt, reply = used["faithfulness"]
    assert 6 * (1 + 6 + 6) * ATTEMPTS == calls == estimate.bound_calls
    assert prompt <= estimate.bound_prompt_tokens
    assert reply <= estimate.bound_reply_tokens


async def test_the_worst_judge_comes_to_the_most(tmp_path: Path, serve) -> None:
    plan, _, used = await run(tmp_path, serve, longest)
    for dimension, (calls, prompt, reply) in used.items():
        estimate = plan.dimensions[dimension]
        assert (calls, reply) == (estimate.bound_calls, estimate.bound_reply_tokens)
        assert prompt > 0.8 * estimate.bound_prompt_tokens - 300 * calls


async def test_the_most_holds_for_several_judges_draws_and_thoughts(tmp_path: Path, serve) -> None:
    address = await serve(Server(longest).answer)
    main = {"type": "openai", "base_url": f"{address}/v1", "model": "m", "reasoning_tokens": 1000}
    plan, summary, used = await run(
        tmp_path,
        serve,
        longest,
        judges={"main": main, "second": {**main, "temperature": 0.5}},
        dimensions=[{"type": "helpfulness", "judges": ["main", "second"], "repeat": 2}],
    )
    assert summary.stages["score"]["scored"] == 6
    estimate = plan.dimensions["helpfulness"]
    assert estimate.bound_calls == 6 * 2 * 2 * ATTEMPTS
    assert used["helpfulness"][2] <= estimate.bound_reply_tokens
    assert estimate.bound_reply_tokens == 24 * (512 + 1024 + 2048 + 4096 + 8192 + ATTEMPTS * 1000)


@pytest.fixture
def written(tmp_path: Path):
    def write(**more: Any) -> str:
        (tmp_path / "p.yaml").write_text(json.dumps(config(tmp_path, **more)))
        return str(tmp_path / "p.yaml")

    return write


def test_the_command_shows_both_tables_with_prices(written, capsys) -> None:
    assert invoke(["plan", written(budget={"money": 0.001, "calls": 100_000})]) == 0
    out = capsys.readouterr().out
    assert "\nexpected:\n" in out
    assert "\nat most:\n" in out
    assert "PRICE, USD" in out
    assert "assumed: a statement for each sentence (24, 4.0 an answer)" in out
    assert "faithfulness: at most 6 statements an answer" in out
    assert "budget: 0.001 USD: less than is expected" in out
    assert "budget: 100,000 calls: enough" in out


def test_the_command_says_when_the_most_is_no_bound(written, capsys) -> None:
    assert invoke(["plan", written(samples=3), "--samples", "1"]) == 0
    out = capsys.readouterr().out
    assert "at most (an estimate, see below):" in out
    assert "estimated from 1 of 3 samples; --samples 3 counts all of them, so that the upper bound holds" in out


def test_the_command_says_which_key_is_not_set(written, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = {"type": "openai", "model": "m", "api_key_env": "LRF_TEST_KEY"}
    file = written(judges={"main": remote}, dimensions=["helpfulness"])
    said = "the environment variable LRF_TEST_KEY is not set"
    assert invoke(["plan", file]) == 0
    assert said in capsys.readouterr().out
    monkeypatch.setenv("LRF_TEST_KEY", "k")
    assert invoke(["plan", file]) == 0
    assert said not in capsys.readouterr().out


def test_the_command_as_json_carries_the_same(written, capsys) -> None:
    assert invoke(["plan", written(), "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["currency"] == "USD"
    assert plan["bound_holds"] is True
    assert 0 < plan["total"]["price"] < plan["total"]["bound_price"]
    assert plan["dimensions"]["faithfulness"]["shared_tokens"] > 0


def test_a_judge_of_many_questions_is_planned_in_requests_and_its_bound_holds(tmp_path: Path) -> None:
    with DecisionServer() as server:
        value = config(tmp_path, judges={"main": {"type": "systemone", "base_url": server.base_url, "model": "m"}})
        value |= {
            "embedders": None,
            "retrievers": None,
            "dimensions": [
                {"type": "helpfulness", "read": "document"},
                {"type": "completeness", "read": "document"},
                {"type": "faithfulness", "read": "document", "statements": "sentences"},
            ],
        }
        value = {key: part for key, part in value.items() if part is not None}
        plan = planned(tmp_path, value)
        parsed = parse_pipeline(value, load_catalog(), folder=tmp_path)
        summary = asyncio.run(run_pipeline(parsed, load_catalog(), tmp_path / "runs", last="score"))
        assert summary.exit_code == 0
        books = server.books
    estimates = list(plan.dimensions.values())
    assert sum(e.calls for e in estimates) == books.requests == 2 * 4
    tokens = sum(e.prompt_tokens for e in estimates)
    assert 0.8 * books.input_tokens < tokens < 1.25 * books.input_tokens
    assert plan.bound_holds
    assert sum(e.bound_calls for e in estimates) == books.requests
    assert sum(e.bound_prompt_tokens for e in estimates) > books.input_tokens
    assert sum(e.price or 0 for e in estimates) > 0
