"""What tokens cost, and the files that say so."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf.config import parse_pipeline
from lrf.config.prices import priced, read_prices
from lrf.errors import ConfigError
from lrf.plugin.catalog import load_catalog
from lrf.prices import UNITS, Price, amount
from lrf.settings import ModelReference
from lrf_openai.settings import OpenAIJudgeSettings
from lrf_overlap.settings import OverlapSettings

OPENAI = "https://api.openai.com/v1"


def judge(model: str, base_url: str = OPENAI, **more: object) -> OpenAIJudgeSettings:
    return OpenAIJudgeSettings.model_validate({"model": model, "base_url": base_url, **more})


@pytest.fixture
def file(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "prices.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_a_million_tokens_of_each_kind_cost_what_the_list_says() -> None:
    price = read_prices().of(judge("gpt-4o-mini").model_reference)
    assert price is not None
    assert amount(price.cost(1_000_000, 0)) == 0.15
    assert amount(price.cost(1_000_000, 0, 1_000_000)) == 0.075
    assert amount(price.cost(0, 1_000_000)) == 0.6


def test_every_built_in_price_has_a_host_and_a_source() -> None:
    assert all(entry.host and entry.source for entry, _ in read_prices().entries)


def test_the_same_model_at_another_host_has_no_built_in_price() -> None:
    assert read_prices().of(judge("gpt-4o-mini", "http://127.0.0.1:8000/v1").model_reference) is None
    assert read_prices().of(ModelReference("gpt-4o-mini")) is None


def test_a_batch_judge_pays_the_discounted_price() -> None:
    full, half = (read_prices().of(judge("gpt-4.1", batch=batch).model_reference) for batch in (None, {}))
    assert full is not None
    assert half is not None
    assert (half.prompt * 2, half.cached * 2, half.completion * 2) == (full.prompt, full.cached, full.completion)


def test_a_file_is_looked_at_before_the_built_in_prices(file) -> None:
    prices = read_prices(
        file(
            "version: ours\ncurrency: USD\n"
            "models: [{model: gpt-4.1, input: 1, output: 2}, {model: own, input: 0, output: 0}]"
        )
    )
    ours, own, theirs = (prices.of(judge(m).model_reference) for m in ("gpt-4.1", "own", "gpt-4o"))
    assert (prices.version, ours.prompt, own.prompt, theirs.prompt) == ("ours", 1_000_000, 0, 2_500_000)
    assert ours.cached == ours.prompt


def test_a_file_can_leave_the_built_in_prices_out(file) -> None:
    prices = read_prices(file("version: ours\ncurrency: USD\nbuilt_in: false\nmodels: []"))
    assert prices.of(judge("gpt-4o").model_reference) is None


def test_a_mistaken_price_file_is_reported_with_line_and_what_is_allowed(file) -> None:
    path = file("version: 2026-11-01\ncurrency: USD\nmodels:\n  - {model: m, inptu: 3, output: -1}\n")
    with pytest.raises(ConfigError) as error:
        read_prices(path)
    assert f"{path}:4: models[0].output: expected at least 0; got -1" in str(error.value)
    assert "did you mean input?" in str(error.value)


@pytest.mark.parametrize("price", [".inf", "nan", "1e400", "free", "true", "-0.1"])
def test_a_price_is_a_finite_number_from_zero(file, price: str) -> None:
    text = f"version: v\ncurrency: USD\nmodels: [{{model: m, input: {price}, output: 1}}]"
    with pytest.raises(ConfigError, match=r"models.*input"):
        read_prices(file(text))


def test_a_pipeline_that_names_a_missing_price_file_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"prices: .*nowhere\.yaml: no such file"):
        parse_pipeline({"name": "p", "prices": "nowhere.yaml"}, load_catalog())


def test_a_budget_of_money_needs_a_price_for_every_judge() -> None:
    pipeline = {
        "name": "p",
        "judges": {"main": {"type": "openai", "model": "gpt-4o-minni"}},
        "dimensions": ["helpfulness"],
        "budget": {"money": 5},
    }
    with pytest.raises(
        ConfigError, match=r"budget\.money: the judge main \(gpt-4o-minni\) has no price.*did you mean gpt-4o-mini"
    ):
        parse_pipeline(pipeline, load_catalog())
    pipeline["judges"] = {"main": {"type": "openai", "model": "gpt-4o-mini"}}
    assert parse_pipeline(pipeline, load_catalog()).budget.money == 5


def test_a_judge_without_a_model_can_be_priced_at_nothing_so_that_a_budget_of_money_holds(file) -> None:
    free = file("version: own\ncurrency: USD\nmodels:\n  - {model: overlap, input: 0, output: 0}\n")
    assert set(priced({"facts": OverlapSettings()}, read_prices(free), needed=True)) == {"facts"}


def test_a_budget_of_money_needs_one_currency() -> None:
    judges = {"a": judge("gpt-4o"), "b": judge("glm-4-flash-250414", "https://open.bigmodel.cn/api/paas/v4")}
    assert {p.currency for p in priced(judges, read_prices()).values()} == {"USD", "CNY"}
    with pytest.raises(ConfigError, match="CNY and USD"):
        priced(judges, read_prices(), needed=True)


def test_each_of_lrfs_own_prices_says_where_it_comes_from_and_what_a_cache_costs_is_no_slip() -> None:
    for entry, currency in read_prices().entries:
        assert entry.source.startswith("https://"), entry.model
        assert entry.host, entry.model
        assert currency in ("USD", "CNY")
        assert (entry.cached_input or 0) <= entry.input <= (entry.cache_write or entry.input)


rates = st.integers(0, 10**9)
counts = st.integers(0, 10**7)


@given(rates, rates, rates, counts, counts, counts)
def test_cached_tokens_are_counted_once_and_no_reply_costs_more_than_the_most(
    prompt: int, cached: int, completion: int, read: int, written: int, hit: int
) -> None:
    price = Price("USD", prompt, cached, completion)
    cost = price.cost(read, written, hit)
    within = min(hit, read)
    assert cost == (read - within) * prompt + within * cached + written * completion
    assert cost <= price.most(read, written)
    assert cost <= price.most(read + 1, written + 1)


@given(rates, rates, st.none() | rates, rates, counts, counts, counts, counts)
def test_tokens_written_to_a_cache_have_their_own_price_and_the_most_covers_it(
    prompt: int, cached: int, written: int | None, completion: int, read: int, hit: int, put: int, said: int
) -> None:
    price = Price("USD", prompt, cached, completion, written=written)
    from_cache = min(hit, read)
    into_cache = min(put, read - from_cache)
    rest = read - from_cache - into_cache
    of_written = prompt if written is None else written
    cost = price.cost(read, said, hit, put)
    assert cost == rest * prompt + from_cache * cached + into_cache * of_written + said * completion
    assert cost <= price.most(read, said)


def test_a_price_file_may_price_what_is_written_to_a_cache(tmp_path: Path) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text(
        "version: t\ncurrency: USD\nmodels:\n"
        "  - {model: m, input: 3, cached_input: 0.3, cache_write: 3.75, output: 15}\n"
    )
    price = read_prices(file).of(judge("m").model_reference)
    assert price is not None
    assert amount(price.cost(1_000_000, 0, 0, 1_000_000)) == 3.75


@given(st.decimals(0, 1000, places=6), st.integers(0, 10**9))
def test_a_price_with_six_decimals_is_exact(a_million: object, tokens: int) -> None:
    from lrf.config.prices import ModelPrice, _price

    price = _price(ModelPrice(model="m", input=a_million, output=0), "USD", batch=False)
    assert Fraction(price.cost(tokens, 0), UNITS) == Fraction(str(a_million)) * tokens / 1_000_000
