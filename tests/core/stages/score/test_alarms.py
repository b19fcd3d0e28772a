"""What the alarms at the end of scoring notice, and what they keep still about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from lrf.cli.summary import show
from lrf.config import parse_pipeline
from lrf.plugin.catalog import load_catalog
from lrf.stages.runner import run_pipeline
from lrf.stages.score import alarms as module
from lrf.stages.score.alarms import ENOUGH, Alarms, most_common_rating

ratings = st.lists(st.integers(0, 10).map(float), max_size=60)


def watch(rows: list[tuple[float | None, int]]) -> Alarms:
    alarms = Alarms()
    for rating, length in rows:
        alarms.add({"help": rating}, rating, length)
    return alarms


def kinds(alarms: Alarms, *asked: tuple[str, int, int]) -> list[str]:
    return [alarm.alarm for alarm in alarms.raised(asked)]


@given(ratings)
def test_the_alarm_on_equal_ratings_is_raised_just_where_95_of_100_are_equal(values: list[float]) -> None:
    found = [a for a in watch([(v, 1) for v in values]).raised(()) if a.alarm == "same_rating"]
    most = max((values.count(v) for v in values), default=0)
    assert bool(found) == (len(values) >= ENOUGH and most / len(values) >= 0.95)
    if found:
        assert (found[0].of, found[0].share) == (len(values), pytest.approx(most / len(values), abs=1e-4))


@given(st.floats(0, 10), st.lists(st.floats(-0.04, 0.04), min_size=ENOUGH, max_size=40))
def test_ratings_that_are_nearly_equal_count_as_equal(centre: float, off: list[float]) -> None:
    values = [min(10.0, max(0.0, centre + o)) for o in off]
    assert "same_rating" in kinds(watch([(v, 1) for v in values]))


@given(st.dictionaries(st.integers(0, 100), st.integers(1, 50), max_size=101))
def test_the_share_of_the_most_common_rating_is_a_share(bins: dict[int, int]) -> None:
    rating, share, count = most_common_rating(bins)
    assert 0 <= rating <= 10
    assert 0 <= share <= 1
    assert count == sum(bins.values())
    if bins:
        assert share >= max(bins.values()) / count


def test_unscored_candidates_are_not_watched() -> None:
    assert kinds(watch([(None, n) for n in range(100)])) == []


@given(st.permutations(range(ENOUGH)))
def test_rewards_that_follow_the_length_raise_an_alarm_in_whatever_order_they_come(order: list[int]) -> None:
    alarms = watch([(n / 2, 10 * n) for n in order])
    assert kinds(alarms) == ["length"]
    assert alarms.raised(())[0].correlation == 1.0


def test_rewards_that_fall_with_the_length_raise_it_too() -> None:
    (alarm,) = watch([(10 - n / 10, n) for n in range(30)]).raised(())
    assert alarm.correlation == -1.0
    assert "shorter answers are rewarded" in alarm.message


def test_a_few_answers_raise_no_alarm() -> None:
    assert kinds(watch([(1.0 * n % 10, n) for n in range(ENOUGH - 1)]), ("help", ENOUGH - 1, ENOUGH - 1)) == []


def test_many_replies_asked_again_raise_an_alarm_of_their_dimension() -> None:
    found = Alarms().raised([("help", 100, 9), ("faith", 100, 10)])
    assert [(a.alarm, a.dimension, a.share) for a in found] == [("asked_again", "faith", 0.1)]


def test_memory_stays_flat_and_a_drawn_part_shows_the_same_correlation(monkeypatch) -> None:
    monkeypatch.setattr(module, "KEPT", 500)
    alarms = watch([((n * 7919 % 5003) / 5003 * 10, n * 7919 % 5003) for n in range(5000)])
    assert len(alarms._kept) == 500
    assert "length" in kinds(alarms)
    assert max(length for length, _ in alarms._kept) > 4000
    assert watch([(n % 11, n) for n in range(2000)])._kept == watch([(n % 11, n) for n in range(2000)])._kept


async def scored(tmp_path: Path, serve, reply: Any, candidates: int = 25) -> Any:
    async def chat(request: web.Request) -> web.Response:
        prompt = (await request.json())["messages"][0]["content"]
        choice = {"index": 0, "message": {"role": "assistant", "content": reply(prompt)}, "finish_reason": "stop"}
        return web.json_response({"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 9}})

    address = await serve(chat)
    answers = [{"id": str(n), "text": "word " * (n + 1)} for n in range(candidates)]
    (tmp_path / "s.jsonl").write_text(json.dumps({"id": "1", "context": "c", "query": "q", "candidates": answers}))
    pipeline = parse_pipeline(
        {
            "name": "run",
            "data": {"type": "jsonl", "path": "s.jsonl"},
            "judges": {"main": {"type": "openai", "base_url": f"{address}/v1", "model": "m"}},
            "dimensions": ["helpfulness"],
        },
        load_catalog(),
        folder=tmp_path,
    )
    return await run_pipeline(pipeline, load_catalog(), tmp_path / "runs")


async def test_a_judge_that_always_says_the_same_is_in_summary_log_and_on_screen(tmp_path: Path, serve, capsys) -> None:
    summary = await scored(tmp_path, serve, lambda _: "Fine. [[7]]")
    assert (summary.status, summary.exit_code) == ("finished", 0)
    kept = json.loads((tmp_path / "runs/run/summary.json").read_text())
    assert [(a["alarm"], a["dimension"]) for a in kept["alarms"]] == [("same_rating", "helpfulness")]
    logged = [json.loads(line) for line in (tmp_path / "runs/run/log.jsonl").read_text().splitlines()]
    assert [e["alarm"] for e in logged if e["event"] == "alarm"] == ["same_rating"]
    show(summary)
    assert "alarm: helpfulness: 100% of 25 ratings are (nearly) 7" in capsys.readouterr().out


def reluctant() -> Any:
    """A judge that refuses every other answer once, and then rates all alike in no order."""
    seen: set[str] = set()

    def reply(prompt: str) -> str:
        if prompt not in seen and prompt.count("word ") % 2:
            seen.add(prompt)
            return "I'd rather not say."
        return f"[[{prompt.count('word ') * 7 % 11}]]"

    return reply


@pytest.mark.parametrize(
    ("reply", "alarm"),
    [(lambda prompt: f"[[{prompt.count('word ') / 3:.2f}]]", "length"), (reluctant(), "asked_again")],
    ids=["length", "asked_again"],
)
async def test_a_judge_that_rates_by_length_or_errs_raises_an_alarm(
    tmp_path: Path, serve: Any, reply: Any, alarm: str
) -> None:
    summary = await scored(tmp_path, serve, reply)
    assert [a["alarm"] for a in summary.as_json()["alarms"]] == [alarm]
