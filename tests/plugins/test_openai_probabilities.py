"""Expected ratings of the judge ``openai``: the labels' probabilities at the place where the reply writes one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import quicktok
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from lrf.engine.asked import Asked
from lrf.engine.budget import BudgetLedger
from lrf.engine.judge_calls import JudgeCalls
from lrf.engine.paid_call import Caller
from lrf.errors import UnscorableError
from lrf.prompting.expectations import Choice, Rating, Verdict
from lrf.prompting.requests import Answer, Expectation, RatingMode, Request
from lrf.prompting.templates import Segment
from lrf.store.journal import Journal
from lrf.testing import check_judge
from lrf_openai.judge import OpenAIJudge
from lrf_openai.label_positions import find_label
from lrf_openai.probabilities import label_probabilities
from lrf_openai.settings import OpenAIJudgeSettings
from serving import Serve

LEVELS = {"Fully supported": 1.0, "Partially supported": 0.5, "No support": 0.0}
PROMPT = (Segment("Rate this.\n"), Segment("an answer", trusted=False), Segment("\nRating:"))


def asked(expects: Expectation[Any] | None = None, prompt: Any = PROMPT) -> Request:
    return Request(prompt=prompt, expects=expects or Rating(), max_tokens=64, temperature=0.01, reply_mode="logprobs")


def token(text: str | bytes, p: float, others: Mapping[str, float] | Sequence[tuple[str, float]] = ()) -> Any:
    """A token as OpenAI's API tells it, with what else was likely; itself among them."""

    def entry(text: str | bytes, p: float) -> dict[str, Any]:
        raw = text.encode() if isinstance(text, str) else text
        logprob = math.log(p) if p > 0 else -9999.0
        return {"token": raw.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(raw)}

    listed = others.items() if isinstance(others, Mapping) else others
    return {**entry(text, p), "top_logprobs": [entry(text, p), *(entry(t, q) for t, q in listed)]}


def choice(tokens: Sequence[Any]) -> dict[str, Any]:
    return {"logprobs": {"content": list(tokens)}}


def weigh(text: str, tokens: Sequence[Any], request: Request | None = None, *, in_json: bool = False) -> Any:
    place = find_label(text, request or asked(), in_json=in_json)
    return label_probabilities(choice(tokens), text, place) if place else None


def test_a_label_that_is_one_token_has_the_probabilities_listed_at_its_place() -> None:
    tokens = [token("Good.", 0.9), token("\nRating:", 0.9), token(" [[", 1.0)]
    tokens += [token("8", 0.6, {"7": 0.3, "9": 0.05, "x": 0.05}), token("]]", 1.0)]
    found = weigh("Good.\nRating: [[8]]", tokens)
    assert found["[[8]]"] == pytest.approx(0.6 / 0.95)
    assert found["[[7]]"] == pytest.approx(0.3 / 0.95)
    assert math.fsum(found.values()) == pytest.approx(1)
    assert list(found) == list(Rating().options)


def test_a_token_that_is_listed_with_a_rounded_probability_counts_once() -> None:
    tokens = [token("[[", 1.0), token("8", 0.5, {"7": 0.5}), token("]]", 1.0)]
    tokens[1]["logprob"] += 0.001
    assert weigh("[[8]]", tokens)["[[8]]"] == pytest.approx(0.5, abs=1e-3)


def test_a_label_in_the_thoughts_before_a_reply_is_not_taken_for_its_own() -> None:
    thought = [token("[[", 1.0), token("8", 0.9, {"1": 0.1}), token("]]", 1.0), token("</think>", 1.0)]
    tokens = [*thought, token("[[", 1.0), token("8", 0.6, {"7": 0.4}), token("]]", 1.0)]
    assert weigh("[[8]]", tokens)["[[8]]"] == pytest.approx(0.6)


def test_tokens_written_alike_are_added_up_and_those_of_no_label_left_out() -> None:
    found = weigh(
        "[[8]]", [token("[[", 1.0), token("8", 0.3, [("8", 0.1), ("7", 0.4), ("high", 0.2)]), token("]]", 1.0)]
    )
    assert found["[[8]]"] == pytest.approx(0.5)


def test_verdicts_are_weighed_by_what_their_labels_begin_with_whatever_the_case() -> None:
    tokens = [token("[[", 1.0), token("no", 0.7, {"Part": 0.2, "FULL": 0.1}), token(" support]]", 1.0)]
    found = weigh("[[no support]]", tokens, asked(Verdict(LEVELS)))
    assert found == pytest.approx({"[[Fully supported]]": 0.1, "[[Partially supported]]": 0.2, "[[No support]]": 0.7})


def test_labels_whose_letters_are_cut_into_bytes_are_distinguished() -> None:
    first, second = "完全", "部分"
    a, b = first.encode(), second.encode()
    tokens = [token("[[", 1.0), token(a[:2], 0.8, {}), token(a[2:], 1.0), token("]]", 1.0)]
    tokens[1]["top_logprobs"].append({"token": "\\xe9", "bytes": list(b[:1]), "logprob": math.log(0.2)})
    found = weigh(f"[[{first}]]", tokens, asked(Choice((first, second))))
    assert found == pytest.approx({f"[[{first}]]": 0.8, f"[[{second}]]": 0.2})


def test_a_ten_of_two_tokens_is_told_from_a_one_by_the_token_after() -> None:
    tokens = [token("[[", 1.0), token("1", 0.9, {"9": 0.1}), token("0", 0.8, {"]]": 0.2}), token("]]", 1.0)]
    found = weigh("[[10]]", tokens)
    assert found["[[10]]"] == pytest.approx(0.72)
    assert found["[[1]]"] == pytest.approx(0.18)
    assert found["[[9]]"] == pytest.approx(0.1)


def test_a_one_that_could_have_become_a_ten_and_was_not_written_leaves_the_reply_undecided() -> None:
    assert weigh("[[8]]", [token("[[", 1.0), token("8", 0.9, {"1": 0.1}), token("]]", 1.0)]) is None


def test_where_ten_is_a_token_too_a_one_is_a_one() -> None:
    tokens = [token("[[", 1.0), token("3", 0.5, {"1": 0.4, "2": 0.1, "10": 0.0}), token("]]", 1.0)]
    assert weigh("[[3]]", tokens)["[[1]]"] == pytest.approx(0.4)
    tokens[1] = token("1", 0.5, {"10": 0.25, "0": 0.25})
    found = weigh("[[1]]", tokens)
    assert (found["[[1]]"], found["[[10]]"]) == (pytest.approx(0.5), pytest.approx(0.25))


def test_what_is_left_open_may_be_a_thousandth() -> None:
    found = weigh("[[8]]", [token("[[", 1.0), token("8", 0.9995, {"1": 0.0005}), token("]]", 1.0)])
    assert found["[[8]]"] == 1


def test_a_token_that_holds_the_mark_and_the_label_counts_from_before_the_mark() -> None:
    tokens = [token(" [[", 0.75, {" [[1": 0.2, " (": 0.05}), token("7", 0.8, {"8": 0.2}), token("]]", 1.0)]
    assert weigh(" [[7]]", tokens) is None  # " [[1" may be a 1 or a 10
    tokens[0] = token(" [[", 0.75, {" [[9": 0.2, " (": 0.05})
    assert weigh(" [[7]]", tokens) == pytest.approx(
        dict.fromkeys(Rating().options, 0.0) | {"[[7]]": 0.6 / 0.95, "[[8]]": 0.15 / 0.95, "[[9]]": 0.2 / 0.95}
    )


def cut(text: bytes, places: set[int]) -> list[bytes]:
    ends = sorted({p for p in places if 0 < p < len(text)} | {len(text)})
    return [text[a:b] for a, b in zip([0, *ends], ends, strict=False)]


def in_text(option: str) -> str:
    return f"Fine.\nRating: {option}\n"


def in_an_object(option: str) -> str:
    return f'{{"analysis":"", "rating": {option[2:-2]}}}'


@st.composite
def replies(
    draw: st.DrawFn, reply: Callable[[str], str] = in_text
) -> tuple[dict[str, float], dict[str, list[bytes]], str]:
    """The probability of each rating, how each rating's reply is cut into tokens, and the rating that was written."""
    some = draw(st.lists(st.sampled_from(Rating().options), min_size=1, max_size=6, unique=True))
    weights = [draw(st.integers(1, 100)) for _ in some]
    cuts = {option: cut(reply(option).encode(), draw(st.sets(st.integers(1, 30), max_size=12))) for option in some}
    return dict(zip(some, (w / sum(weights) for w in weights), strict=True)), cuts, draw(st.sampled_from(some))


def told(true: Mapping[str, float], cuts: Mapping[str, list[bytes]], written: str) -> list[Any]:
    """What a server tells of a model that writes each rating with its true probability, cut as given."""
    tokens = []
    for i, text in enumerate(cuts[written]):
        so_far = cuts[written][:i]
        after = {o: c[i] for o, c in cuts.items() if c[:i] == so_far and len(c) > i}
        total = math.fsum(true[o] for o in after)
        likely: dict[bytes, float] = {}
        for o, other in after.items():
            likely[other] = likely.get(other, 0.0) + true[o] / total
        tokens.append(token(text, likely.pop(text), list(likely.items())))  # type: ignore[misc]
    return tokens


@pytest.mark.parametrize("reply", [in_text, in_an_object])
@given(st.data())
def test_however_a_reply_is_cut_into_tokens_its_rating_is_the_true_one_or_there_is_none(
    reply: Callable[[str], str], data: st.DataObject
) -> None:
    drawn = data.draw(replies(reply))
    true, cuts, written = drawn
    found = weigh(reply(written), told(true, cuts, written), in_json=reply is in_an_object)
    if found is not None:
        wanted = math.fsum(float(o[2:-2]) * p for o, p in true.items())
        assert math.fsum(float(o[2:-2]) * p for o, p in found.items()) == pytest.approx(wanted, abs=0.02)


@pytest.mark.parametrize("reply", [in_text, in_an_object])
@pytest.mark.parametrize(
    ("encoding", "has_ten"), [("o200k_base", True), ("cl100k_base", True), ("llama3", True), ("qwen3", False)]
)
def test_with_the_tokens_of_real_models_every_reply_is_weighed_if_ten_is_a_token(
    encoding: str, has_ten: bool, reply: Callable[[str], str]
) -> None:
    encoder = quicktok.get_encoding(encoding)
    true = dict(zip(Rating().options, (n / 66 for n in range(1, 12)), strict=True))
    cuts = {o: [encoder.decode([token]).encode() for token in encoder.encode(reply(o))] for o in true}
    for written in true:
        found = weigh(reply(written), told(true, cuts, written), in_json=reply is in_an_object)
        if has_ten or written in ("[[1]]", "[[10]]"):  # where the token after the "1" is told
            assert found == pytest.approx(true)
        else:
            assert found is None


@given(st.lists(st.integers(0, 100), min_size=11, max_size=11).filter(any), st.sets(st.integers(1, 14), max_size=8))
def test_with_a_token_for_each_label_there_is_always_a_rating(weights: list[int], places: set[int]) -> None:
    options = Rating().options
    true = {o: w / sum(weights) for o, w in zip(options, weights, strict=True)}
    beginning = cut(b"Fine.\nRating: [[", places)
    cuts = {o: [*beginning, o[2:-2].encode(), b"]]", b"\n"] for o in options}
    written = max(true, key=lambda o: true[o])
    assert weigh(f"Fine.\nRating: {written}\n", told(true, cuts, written)) == pytest.approx(true)


@given(st.lists(st.tuples(st.binary(max_size=3), st.floats(-30, 0)), max_size=30), st.text(max_size=12))
def test_whatever_tokens_a_server_tells_there_are_probabilities_or_none(tokens: Any, before: str) -> None:
    told_ = [{"token": t.decode("latin1"), "bytes": list(t), "logprob": p, "top_logprobs": []} for t, p in tokens]
    found = weigh(f"{before}[[7]]", told_)
    assert found is None or math.fsum(found.values()) == pytest.approx(1)


def test_of_equal_marks_the_first_decides() -> None:
    tokens = [token("[[", 1.0), token("7", 0.6, {"8": 0.4}), token("]]", 1.0), token("\nSo [[", 1.0)]
    tokens += [token("7", 1.0), token("]]", 1.0)]
    assert weigh("[[7]]\nSo [[7]]", tokens)["[[8]]"] == pytest.approx(0.4)


@pytest.mark.parametrize("text", ["none", "[[11]]", "[[3]] or [[4]]", "[[7/10]]", "[[ 7 ]]", "[[7.0]]", "[[7.5]]", ""])
def test_without_one_mark_as_the_options_have_it_there_is_no_place(text: str) -> None:
    assert find_label(text, asked(), in_json=False) is None


@pytest.mark.parametrize(
    "logprobs",
    [None, {}, {"content": None}, {"content": []}, {"content": [7]}, {"content": [{"token": "x"}]}, {"content": "x"},
     {"content": [{"token": "[[7]]", "logprob": 3, "top_logprobs": []}]},
     {"content": [{"token": "[[7]]", "logprob": None, "top_logprobs": []}]},
     {"content": [{"token": "[[7]]", "logprob": math.nan, "top_logprobs": []}]}],
)  # fmt: skip
def test_a_reply_whose_probabilities_are_missing_or_odd_has_none(logprobs: Any) -> None:
    place = find_label("[[7]]", asked(), in_json=False)
    assert place is not None
    assert label_probabilities({"logprobs": logprobs}, "[[7]]", place) is None


def test_a_json_number_is_weighed_at_its_place() -> None:
    text = '{"analysis": "says \\"rating\\": 3, \\"x\\"", "rating": 10}'
    tokens = [token(text[:-3], 1.0), token("1", 0.5, {"7": 0.4, "8": 0.1}), token("0", 0.6, {"}": 0.4})]
    tokens += [token("}", 1.0)]
    found = weigh(text, tokens, in_json=True)
    assert {o: round(p, 6) for o, p in found.items() if p} == {"[[1]]": 0.2, "[[7]]": 0.4, "[[8]]": 0.1, "[[10]]": 0.3}


def test_a_schema_that_names_no_types_is_weighed_too() -> None:
    @dataclass(frozen=True)
    class Card(Choice):
        @property
        def schema(self) -> Mapping[str, Any]:
            return {"type": "object", "properties": {"choice": {"enum": list(self.choices)}}}

    judge = OpenAIJudge(OpenAIJudgeSettings(model="m", structured=True, logprobs=True))
    request = asked(Card(("Yes", "No")))
    assert judge._body(request)["response_format"]["json_schema"]["schema"] == request.expects.schema
    tokens = [token('{"choice": "', 1.0), token("No", 0.75, {"Yes": 0.25}), token('"}', 1.0)]
    assert weigh('{"choice": "No"}', tokens, request, in_json=True) == {"[[Yes]]": 0.25, "[[No]]": 0.75}


def test_a_json_string_is_weighed_at_its_place() -> None:
    text = '{"analysis": "ok", "verdict": "No support"}'
    tokens = [token('{"analysis": "ok", "verdict": "', 1.0), token("No", 0.9, {"Fully": 0.1}), token(' support"}', 1.0)]
    found = weigh(text, tokens, asked(Verdict(LEVELS)), in_json=True)
    assert found == pytest.approx({"[[Fully supported]]": 0.1, "[[Partially supported]]": 0.0, "[[No support]]": 0.9})


@pytest.mark.parametrize("text", ['{"rating": 7.5}', '{"rating": 7.0}', '{"rating": 1, "rating": 7}', "7", "[[7]]"])
def test_json_that_is_no_object_with_one_whole_rating_has_no_place(text: str) -> None:
    assert find_label(text, asked(), in_json=True) is None


async def answer(
    serve: Serve, text: str, tokens: Sequence[Any] | None, wanted: RatingMode = "auto", **settings: Any
) -> tuple[Answer[float], list[dict[str, Any]]]:
    """What the engine makes of a server's replies, and what the server was sent."""
    sent = []

    async def handler(http: web.Request) -> web.Response:
        sent.append(await http.json())
        message = {"role": "assistant", "content": text}
        logprobs = {"content": tokens} if tokens is not None else None
        body = {"choices": [{"message": message, "finish_reason": "stop", "logprobs": logprobs}]}
        return web.json_response(body)

    given_ = {"base_url": await serve(handler), "model": "m", "logprobs": True, **settings}
    calls = JudgeCalls("main", OpenAIJudge(OpenAIJudgeSettings(**given_)), Journal(), BudgetLedger())
    try:
        return await calls.ask(Asked(PROMPT, Rating(), 64, Caller("s", "d"), reply_mode=wanted)), sent
    finally:
        await calls.aclose()
        calls.journal.close()


EIGHT = [token("Rating: [[", 1.0), token("8", 0.6, {"6": 0.4}), token("]]", 1.0)]


async def test_with_logprobs_a_rating_is_the_expectation_and_one_call(serve: Serve) -> None:
    rated, sent = await answer(serve, "Rating: [[8]]", EIGHT)
    assert (rated.value, rated.reply_mode, rated.text) == (pytest.approx(7.2), "logprobs", "Rating: [[8]]")
    (body,) = sent
    assert (body["logprobs"], body["top_logprobs"]) == (True, 20)
    assert "response_format" not in body


async def test_with_structured_output_the_value_in_the_object_is_weighed(serve: Serve) -> None:
    tokens = [token('{"analysis":"ok","rating":', 1.0), token("8", 0.6, {"6": 0.4}), token("}", 1.0)]
    rated, (body,) = await answer(serve, '{"analysis":"ok","rating":8}', tokens, structured=True)
    assert (rated.value, rated.reply_mode) == (pytest.approx(7.2), "logprobs")
    assert body["response_format"]["json_schema"]["schema"]["properties"]["rating"]["type"] == "integer"


@pytest.mark.parametrize("opened", ["<think>", ""])
@pytest.mark.parametrize("mark", ["[[8]]", "[[3]]"])
async def test_the_label_after_a_replys_thoughts_is_weighed(serve: Serve, opened: str, mark: str) -> None:
    thought = [token(f"{opened}So [[", 1.0), token(mark[2], 0.9, {"1": 0.1}), token("]]?</think>\n", 1.0)]
    rated, _ = await answer(serve, f"{opened}So {mark}?</think>\nRating: [[8]]", [*thought, *EIGHT])
    assert (rated.value, rated.reply_mode, rated.text) == (pytest.approx(7.2), "logprobs", "Rating: [[8]]")


async def test_it_passes_lrfs_own_check_for_judges(serve: Serve) -> None:
    async def handler(http: web.Request) -> web.Response:
        body = await http.json()
        asked_for = body["messages"][0]["content"].split("one of: ")[1].split(".\n")[0].split(", ")[-1]
        tokens = [token("So: ", 1.0), token(asked_for, 1.0)] if body.get("logprobs") else []
        message = {"role": "assistant", "content": f"So: {asked_for}"}
        answer = {"message": message, "finish_reason": "stop", "logprobs": {"content": tokens}}
        return web.json_response({"choices": [answer]})

    await check_judge(OpenAIJudge(OpenAIJudgeSettings(base_url=await serve(handler), model="m", logprobs=True)))


@pytest.mark.parametrize("structured", [False, True])
async def test_an_undecided_reply_is_read_as_written_and_recorded_so(serve: Serve, structured: bool) -> None:
    text = '{"analysis":"ok","rating":8}' if structured else "Rating: [[8]]"
    before = text[: text.index("8")]
    tokens = [token(before, 1.0), token("8", 0.6, {"1": 0.4}), token(text[len(before) + 1 :], 1.0)]
    rated, sent = await answer(serve, text, tokens, structured=structured)
    assert (rated.value, rated.reply_mode, rated.probabilities) == (8.0, "json" if structured else "text", None)
    assert len(sent) == 1


async def test_a_server_that_tells_no_probabilities_is_read_as_written(serve: Serve) -> None:
    rated, _ = await answer(serve, "Rating: [[8]]", None)
    assert (rated.value, rated.reply_mode) == (8.0, "text")


async def test_who_insists_on_expected_ratings_gets_none_read_as_written(serve: Serve) -> None:
    with pytest.raises(UnscorableError, match="no_probabilities"):
        await answer(serve, "Rating: [[8]]", None, wanted="logprobs")


async def test_other_requests_ask_for_no_logprobs_and_nobody_does_by_default(serve: Serve) -> None:
    rated, (body,) = await answer(serve, json.dumps({"rating": 8}), EIGHT, wanted="json", structured=True)
    assert (rated.value, rated.reply_mode) == (8.0, "json")
    assert "logprobs" not in body
    rated, (body,) = await answer(serve, "Rating: [[8]]", EIGHT, logprobs=False)
    assert (rated.reply_mode, "logprobs" in body) == ("text", False)
