"""A reply is read strictly: one value, in one of the written forms that are allowed, and within its range."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf.errors import ParseError
from lrf.prompting.expectations import NO_STATEMENTS, Choice, Rating, Statements, Text, Verdict, Verdicts
from lrf.prompting.requests import Expectation, Reply, ReplyMode

SUPPORT = {"Fully supported": 1.0, "Partially supported": 0.5, "No support": 0.0}
RATING, VERDICT, STATEMENTS, TEXT = Rating(), Verdict(SUPPORT), Statements(), Text()
SYNONYMS = {"Not supported": "No support", "Unsupported": "No support", "部分支持": "Partially supported"}
CHOICE = Choice(("First", "Second", "Tie"))

# words that hold no mark of any kind
plain = st.text(max_size=40).filter(lambda s: not set(s) & set("[]<>"))
in_range = st.one_of(st.integers(0, 10).map(str), st.decimals(0, 10, places=2, allow_nan=False).map(str))
marks = st.one_of(
    st.integers(-100, 100).map("[[{}]]".format),
    st.sampled_from([f"[[{label}]]" for label in (*SUPPORT, "First", "Tie")]),
    st.sampled_from(["<statement>a</statement>", "<statement>", "</statement>", "[[]]", "[[", "]]", NO_STATEMENTS]),
)
anything = st.lists(st.one_of(st.text(max_size=20), marks), max_size=8).map("".join)


def read(expects: Expectation[Any], text: str, reply_mode: ReplyMode = "text", **reply: Any) -> Any:
    return expects.read(Reply(text=text, **reply), reply_mode)


def reason(expects: Expectation[Any], text: str, reply_mode: ReplyMode = "text", **reply: Any) -> str:
    with pytest.raises(ParseError) as caught:
        read(expects, text, reply_mode, **reply)
    return caught.value.reason


def weights(options: tuple[str, ...]) -> st.SearchStrategy[Mapping[str, float]]:
    def normalised(values: list[float]) -> Mapping[str, float]:
        return dict(zip(options, (v / sum(values) for v in values), strict=True))

    each = st.floats(0, 1, allow_nan=False, allow_subnormal=False)
    return st.lists(each, min_size=len(options), max_size=len(options)).filter(lambda v: sum(v) > 0.01).map(normalised)


@given(plain, in_range, plain)
def test_a_rating_is_read_from_the_text_around_it(before: str, number: str, after: str) -> None:
    assert read(RATING, f"{before}[[{number}]]{after}") == float(number)


@given(st.one_of(st.floats(max_value=-0.01, allow_nan=False), st.floats(min_value=10.01, allow_nan=False)))
def test_a_rating_outside_the_scale_is_refused(value: float) -> None:
    number = f"{min(max(value, -1e30), 1e30):.2f}"
    assert reason(RATING, f"Rating: [[{number}]]") == "rating_out_of_range"
    assert reason(RATING, json.dumps({"analysis": "", "rating": float(number)}), "json") == "rating_out_of_range"


def test_a_number_too_long_for_a_float_is_out_of_range() -> None:
    assert reason(RATING, f"[[{'9' * 1000}]]") == "rating_out_of_range"
    assert reason(RATING, f'{{"rating": {"9" * 1000}}}', "json") == "rating_out_of_range"


@given(plain, in_range, in_range)
def test_two_different_ratings_are_ambiguous_and_two_equal_ones_are_not(words: str, one: str, other: str) -> None:
    text = f"[[{one}]]{words}[[{other}]]"
    if float(one) == float(other):
        assert read(RATING, text) == float(one)
    else:
        assert reason(RATING, text) == "ambiguous_rating"


def test_an_out_of_range_rating_does_not_yield_to_one_in_range() -> None:
    assert reason(RATING, "[[100]] or rather [[8]]") == "ambiguous_rating"


# The table of docs/how-to/choose-how-to-rate.md.
@pytest.mark.parametrize(
    "text",
    [
        "[[7.5]]", "[[ 7.5 ]]", "[[+7.5]]", "[[07.50]]", "Rating:[[７.5]]。", "[[[7.5]]]", "[[7.5/10]]", "[[7.5 / 10]]",
        "[[7.5 out of 10]]", "[[7.5 of 10]]", "【【7.5】】", "［［７．５］］", "[[Rating: 7.5]]", "[[评分：7.5]]",
        "[[**7.5**]]",
        "[[7.5 points]]", "[[7.5分]]", '[["7.5"]]', "**[[7.5.]]**", "[[7.5]] and again [[7.50/10]]",
    ],
)  # fmt: skip
def test_a_rating_may_be_written_in_these_ways(text: str) -> None:
    assert read(RATING, text) == 7.5


@pytest.mark.parametrize(
    "text",
    [
        "", "8", "[8]", "[[8/5]]", "[[8/100]]", "[[8,5]]", "[[7-8]]", "[[7 or 8]]", "[[eight]]", "[[]]", "[[8",
        "[ [8] ]",
        "[[nan]]", "[[1e1]]", "[[80%]]", "Rating: 8", "**Rating: 8/10**", "[\u200b[8]\u200b]", "⟦8⟧",
    ],
)  # fmt: skip
def test_what_is_not_written_as_a_rating_is_no_rating(text: str) -> None:
    assert reason(RATING, text) == "no_rating"


@pytest.mark.parametrize("text", ["[[11]]", "[[-1]]", "[[11/10]]", "【【10.5】】"])
def test_a_rating_outside_the_scale_is_refused_however_it_is_written(text: str) -> None:
    assert reason(RATING, text) == "rating_out_of_range"


@given(weights(RATING.options))
def test_an_expected_rating_is_the_mean_of_the_scale_and_within_it(p: Mapping[str, float]) -> None:
    value = read(RATING, "whatever [[3]]", "logprobs", probabilities=p)

    assert value == pytest.approx(sum(n * p[f"[[{n}]]"] for n in range(11)))
    assert 0 <= value <= 10


def test_an_expected_rating_stays_within_the_scale_when_the_probabilities_add_up_to_a_little_more() -> None:
    p = dict.fromkeys(RATING.options, 0.0) | {"[[10]]": 1.0009}
    assert read(RATING, "", "logprobs", probabilities=p) == 10


@pytest.mark.parametrize(
    "p",
    [
        None,
        {},
        {"[[10]]": 1.0},
        dict.fromkeys(RATING.options, 1.0),
        dict.fromkeys(RATING.options, math.nan),
        dict.fromkeys(RATING.options, 0.0) | {"[[0]]": 1.5, "[[10]]": -0.5},
        dict.fromkeys(RATING.options, 0.0) | {"[[11]]": 1.0},
    ],
)
def test_what_is_no_distribution_over_the_options_is_refused(p: Mapping[str, float] | None) -> None:
    assert reason(RATING, "[[5]]", "logprobs", probabilities=p) == "no_probabilities"


def test_a_structured_rating_is_read_from_its_field_only() -> None:
    assert read(RATING, '{"analysis": "it says [[9]]", "rating": 6.5}', "json") == 6.5


@pytest.mark.parametrize(
    "text",
    [
        '```json\n{"rating": 7}\n```', '```\n{"rating": 7}```', '~~~JSON\n{"rating": 7.0}\n~~~', '{"rating": "7"}',
        '{"rating": "7/10"}', '<|begin_of_box|>{"rating": 7}<|end_of_box|>', '\ufeff{"rating": 7}',
    ],
)  # fmt: skip
def test_a_whole_object_is_read_in_these_dressings(text: str) -> None:
    assert read(RATING, text, "json") == 7


@pytest.mark.parametrize("expects", [RATING, VERDICT, CHOICE, STATEMENTS])
def test_a_name_that_occurs_twice_in_an_object_makes_it_invalid(expects: Expectation[Any]) -> None:
    names = {"rating": ("3", "10"), "verdict": ('"No support"', '"Fully supported"'), "choice": ('"First"', '"Tie"')}
    one, other = names.get(expects.kind, ('["a"]', "[]"))
    name = expects.kind
    assert reason(expects, f'{{"{name}": {one}, "{name}": {other}}}', "json") == "invalid_json"
    assert read(expects, f'{{"{name}": {one}, "analysis": "\\"{name}\\": {len(other)}"}}', "json") is not None


@pytest.mark.parametrize("value", ["eight", "7-8", True, None, [8], {"n": 8}])
def test_a_structured_rating_that_is_no_number_is_refused(value: Any) -> None:
    assert reason(RATING, json.dumps({"rating": value}), "json") == "no_rating"


def test_a_structured_rating_that_is_not_a_number_of_the_scale_is_out_of_range() -> None:
    assert reason(RATING, '{"rating": NaN}', "json") == "rating_out_of_range"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[[8]]",
        "[8]",
        '{"rating": 8',
        "8",
        "null",
        "[" * 100_000,
        'So: ```{"rating": 8}```',
        '{"rating": 8} {"rating": 8}',
    ],
)
def test_a_structured_reply_that_is_no_object_is_invalid(text: str) -> None:
    assert reason(RATING, text, "json") == "invalid_json"


@given(plain, st.sampled_from(list(SUPPORT)), st.data())
def test_a_verdict_is_read_without_regard_to_case(words: str, label: str, data: st.DataObject) -> None:
    upper = data.draw(st.lists(st.booleans(), min_size=len(label), max_size=len(label)))
    written = "".join(c.upper() if up else c.lower() for c, up in zip(label, upper, strict=True))

    assert read(VERDICT, f"{words}[[{written}]]{words}") == label
    assert read(VERDICT, json.dumps({"analysis": words, "verdict": written}), "json") == label


def test_two_different_verdicts_are_ambiguous_and_a_repeated_one_is_not() -> None:
    assert reason(VERDICT, "[[No support]] or [[Fully supported]]") == "ambiguous_verdict"
    assert read(VERDICT, "[[no support]] … [[No Support]]") == "No support"


@pytest.mark.parametrize("expects", [RATING, VERDICT, CHOICE, STATEMENTS])
def test_a_mark_that_is_opened_before_endless_white_space_is_passed_over_at_once(expects: Expectation[Any]) -> None:
    endless = "[[" + " " * 200_000 + "<statement>" * 10_000 + "[[ \n" * 10_000 + "[[1" + "0" * 100_000
    assert reason(expects, endless).startswith(("no_", "truncated_"))


@given(st.lists(st.sampled_from(["Yes", "No"]), min_size=1, max_size=5), st.data())
def test_several_verdicts_are_read_in_order_and_only_when_none_is_missing(
    given_: list[str], data: st.DataObject
) -> None:
    expects = Verdicts({"Yes": 1.0, "No": 0.0}, len(given_))
    assert expects.schema["required"] == [f"v{n}" for n in range(1, len(given_) + 1)]
    found = {name: {"analysis": "", "verdict": v.lower()} for name, v in zip(expects.schema["required"], given_)}
    assert expects.read(Reply(json.dumps(found)), "json") == tuple(given_)
    found[data.draw(st.sampled_from(sorted(found)))] = data.draw(st.sampled_from(["No", None, {"verdict": "Perhaps"}]))
    assert reason(expects, json.dumps(found), "json") == "no_verdict"
    assert reason(expects, "[[Yes]]", "text") == "no_verdict"


@pytest.mark.parametrize(
    "text", ["", "Fully supported", "[[Supported]]", "[[Fully or partially supported]]", "[[Partıally supported]]"]
)
def test_a_word_outside_the_labels_is_no_verdict(text: str) -> None:
    assert reason(VERDICT, text) == "no_verdict"


@pytest.mark.parametrize(
    ("written", "label"),
    [
        ("Fully supported.", "Fully supported"), ("**No support**", "No support"), ("no_support", "No support"),
        ("Verdict: fully-supported", "Fully supported"), ("Not supported", "No support"),
        ("UNSUPPORTED。", "No support"),
        ("部分支持", "Partially supported"), ("“Partially  supported”", "Partially supported"),
    ],
)  # fmt: skip
def test_a_verdict_is_read_without_its_dressing_and_from_words_that_can_only_mean_it(written: str, label: str) -> None:
    verdict = Verdict(SUPPORT, synonyms=SYNONYMS)
    assert read(verdict, f"[[{written}]]") == label
    assert read(verdict, json.dumps({"verdict": written}), "json") == label
    several = json.dumps({"v1": {"analysis": "", "verdict": written}})
    assert read(Verdicts(SUPPORT, 1, synonyms=SYNONYMS), several, "json") == (label,)


@given(weights(VERDICT.options))
def test_an_expected_verdict_is_the_most_probable_label(p: Mapping[str, float]) -> None:
    label = read(VERDICT, "[[No support]]", "logprobs", probabilities=p)
    assert p[f"[[{label}]]"] == max(p.values())


@pytest.mark.parametrize("value", ["Maybe", 1, None])
def test_a_structured_verdict_must_be_one_of_the_labels(value: Any) -> None:
    assert reason(VERDICT, json.dumps({"verdict": value}), "json") == "no_verdict"


def test_each_kind_reads_its_own_marks_from_a_reply_that_carries_all_of_them() -> None:
    text = (
        "1. A point.\n<statement>The sky is blue.</statement>\n<statement>Grass is green.</statement>\n"
        "Rating: [[Partially supported]]\nRating: [[7]]\nBetter: [[Second]]"
    )

    assert read(RATING, text) == 7
    assert read(VERDICT, text) == "Partially supported"
    assert read(STATEMENTS, text) == ("The sky is blue.", "Grass is green.")
    assert read(CHOICE, text) == "Second"
    assert read(TEXT, text) == text


@given(anything, st.sampled_from([RATING, VERDICT, STATEMENTS, TEXT, CHOICE]))
def test_any_reply_is_either_read_or_refused_with_a_reason(text: str, expects: Expectation[Any]) -> None:
    modes: tuple[ReplyMode, ...] = ("text", "json", "logprobs")
    for reply_mode in modes:
        with contextlib.suppress(ParseError):
            value = read(expects, text, reply_mode)
            assert 0 <= value <= 10 if expects is RATING else isinstance(value, str | tuple)


sentence = plain.map(str.strip).filter(bool)


@given(st.lists(sentence, min_size=1, max_size=6), plain)
def test_statements_are_read_in_order_without_the_text_between_them(sentences: list[str], between: str) -> None:
    text = between + between.join(f"<statement> {s}\n</statement>" for s in sentences) + between

    assert read(STATEMENTS, text) == tuple(sentences)
    assert read(STATEMENTS, json.dumps({"statements": sentences}), "json") == tuple(sentences)


@pytest.mark.parametrize(
    ("text", "statements"),
    [
        ("<statement><statement>b</statement>", ("b",)),
        ("<statement>a <statement>b</statement> c</statement>", ("b",)),
        ("Each is in <statement> tags:\n<statement>b</statement>", ("b",)),
        ('<Statement id="1">a</Statement>\n< statement >b</ statement >', ("a", "b")),
        ("<statement>a</statement></statement>b", ("a",)),
        ("<Statement>a</STATEMENT>", ("a",)),
        ("<statement>two\nlines</statement>", ("two\nlines",)),
        ("<statement></statement><statement> </statement><statement>a</statement>", ("a",)),
        (f"<statement>a</statement>{NO_STATEMENTS}", ("a",)),
    ],
)
def test_closed_tags_with_words_in_them_are_statements(text: str, statements: tuple[str, ...]) -> None:
    assert read(STATEMENTS, text) == statements


@pytest.mark.parametrize(
    "rest",
    [
        *(
            "<statement>cut off",
            "<statement>",
            "<statement>cut off</state",
            "<state",
            "</",
            "<statement>a\n<statement>b",
        ),
        *("<statement>a\n<statement>b</statement>", "1. <statement>a\n- <statement>b</statement>"),
        '<statement id="2">cut off',
    ],
)
def test_a_statement_that_is_not_closed_is_never_left_out(rest: str) -> None:
    assert reason(STATEMENTS, f"<statement>a</statement>\n{rest}") == "truncated_reply"


def test_a_reply_that_says_so_holds_no_statement() -> None:
    assert read(STATEMENTS, NO_STATEMENTS.upper()) == ()
    assert read(STATEMENTS, '{"statements": []}', "json") == ()
    assert read(STATEMENTS, '{"statements": ["", " "]}', "json") == ()


@pytest.mark.parametrize("text", ["", "There are none.", "<statement></statement>", "[[No support]]"])
def test_a_reply_without_statements_that_does_not_say_so_is_refused(text: str) -> None:
    assert reason(STATEMENTS, text) == "no_statement_mark"


@pytest.mark.parametrize("value", [None, "a", [1], {"a": "b"}, ["a", None]])
def test_structured_statements_must_be_a_list_of_strings(value: Any) -> None:
    assert reason(STATEMENTS, json.dumps({"statements": value}), "json") == "no_statements_list"


def test_text_is_taken_as_it_is_but_not_empty() -> None:
    assert read(TEXT, "\n a [[7]] \n") == "a [[7]]"
    assert reason(TEXT, " \n\t") == "empty_reply"


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply("", reasoning="I'd say [[7]]."), "all of it came as reasoning"),
        (Reply("", "tool_call"), "the judge called a tool"),
        (Reply(""), "it is empty"),
    ],
)
def test_what_can_not_be_read_says_where_the_text_went(reply: Reply, words: str) -> None:
    for expects in (RATING, VERDICT, STATEMENTS, CHOICE, *(() if reply.text else (TEXT,))):
        with pytest.raises(ParseError, match=words):
            expects.read(reply, "text")


def test_a_choice_is_read_in_every_way() -> None:
    p = {"[[First]]": 0.2, "[[Second]]": 0.5, "[[Tie]]": 0.3}

    assert read(CHOICE, "so [[second]]") == "Second"
    assert read(CHOICE, '{"analysis": "", "choice": "Second"}', "json") == "Second"
    assert read(CHOICE, "", "logprobs", probabilities=p) == "Second"


def test_a_structured_choice_that_is_null_is_not_the_choice_called_none() -> None:
    with pytest.raises(ParseError):
        read(Choice(("None", "All")), '{"choice": null}', "json")


@pytest.mark.parametrize("expects", [RATING, VERDICT, STATEMENTS, CHOICE])
def test_a_schema_forbids_what_it_does_not_name_and_requires_what_it_names(expects: Expectation[Any]) -> None:
    schema = expects.schema
    assert schema is not None
    assert set(schema["required"]) == set(schema["properties"])
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("expects", [RATING, VERDICT, CHOICE])
def test_every_option_is_a_mark_that_is_read_back(expects: Expectation[Any]) -> None:
    for option in expects.options:
        assert str(read(expects, option)).removesuffix(".0") == option[2:-2]


def test_a_line_break_in_a_json_string_is_read_as_servers_grammars_let_it_stand() -> None:
    assert read(RATING, '{"analysis": "One.\nTwo.", "rating": 7}', "json") == 7
