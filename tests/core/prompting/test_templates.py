"""Templates are filled in one pass: no value ever changes what stands around a field."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf.errors import ConfigError
from lrf.prompting.templates import Segment, Template, prompt_text, shared_beginning

FIELDS = ("question", "answer", "context", "statement")
MARKS = [f"<<{name}>>" for name in FIELDS]

hostile = st.lists(
    st.one_of(
        st.text(max_size=8),
        st.sampled_from([*MARKS, "<<", ">>", "<", ">", "<<x", "{}", "{question}", "%s", "\\1", "\\g<0>", "$answer"]),
    ),
    max_size=6,
).map("".join)
literals = st.text(max_size=12).filter(lambda s: "<" not in s and ">" not in s)


@given(st.lists(st.tuples(literals, st.sampled_from(FIELDS)), max_size=6), literals, st.data())
def test_filling_changes_nothing_around_a_field(parts: list[tuple[str, str]], tail: str, data: st.DataObject) -> None:
    values = {name: data.draw(hostile, label=name) for name in FIELDS}
    template = Template("".join(f"{literal}<<{name}>>" for literal, name in parts) + tail, FIELDS)

    prompt = template.fill(values)

    assert [s.original for s in prompt if not s.trusted] == [values[name] for _, name in parts if values[name]]
    trusted = "".join(s.text for s in prompt if s.trusted and s != Segment(" "))
    assert trusted == "".join(literal for literal, _ in parts if literal != " ") + tail.removeprefix(
        " " * (tail == " ")
    )
    assert template.render(values) == "".join(literal + values[name] for literal, name in parts) + tail


@given(hostile)
def test_a_value_is_one_untrusted_segment_whatever_it_holds(value: str) -> None:
    prompt = Template("Before <<answer>> after", FIELDS).fill({"answer": value})

    assert prompt[0] == Segment("Before ")
    assert prompt[-1] == Segment(" after")
    assert prompt[1:-1] == ((Segment(value, trusted=False),) if value else ())


def test_a_question_that_holds_another_field_stays_a_question() -> None:
    template = Template("Q: <<question>>\nA: <<answer>>", FIELDS)

    prompt = template.fill({"question": "What is <<answer>>?", "answer": "See <<question>>"})

    assert prompt_text(prompt) == "Q: What is <<·answer>>?\nA: See <<·question>>"


def test_a_field_used_twice_is_filled_twice() -> None:
    assert prompt_text(Template("<<answer>>|<<answer>>", FIELDS).fill({"answer": "x"})) == "x|x"


def test_a_field_between_further_angle_brackets_is_still_a_field() -> None:
    assert prompt_text(Template("<<<answer>>>", FIELDS).fill({"answer": "x"})) == "<x>"
    assert prompt_text(Template("<<<answer>>>", FIELDS).fill({"answer": "/answer"})) == "< /answer>"


@pytest.mark.parametrize("text", ["<<>>", "<< answer >>", "<<1>>", "a << b >> c", "<answer>", "<<an\nswer>>"])
def test_what_is_no_field_stays_as_it_is(text: str) -> None:
    assert Template(text, FIELDS).fill({}) == (Segment(text),)


def test_an_unknown_field_is_refused_with_the_file_the_field_and_what_is_allowed() -> None:
    with pytest.raises(ConfigError) as caught:
        Template("<<question>> <<anwser>>", ["question", "answer"], name="mine/helpfulness.txt")

    assert str(caught.value) == "mine/helpfulness.txt: unknown field <<anwser>>; allowed: <<answer>>, <<question>>"


def test_a_field_without_a_value_is_an_error() -> None:
    with pytest.raises(KeyError, match="answer"):
        Template("<<answer>>", FIELDS).fill({"question": "?"})


def test_a_template_says_which_fields_it_uses() -> None:
    assert Template("<<answer>> <<question>> <<answer>>", FIELDS).used == {"answer", "question"}


@given(st.text(), st.text())
def test_templates_have_the_same_hash_when_their_texts_are_the_same(one: str, other: str) -> None:
    def sha256(text: str) -> str:
        return Template(text.replace("<", ""), ()).sha256

    assert (sha256(one) == sha256(other)) == (one.replace("<", "") == other.replace("<", ""))


def test_an_empty_template_makes_an_empty_prompt() -> None:
    assert Template("", ()).fill({}) == ()


def test_prompts_that_differ_in_their_last_field_only_share_a_long_beginning() -> None:
    template = Template("Read. <<context>> Answer: <<answer>> Rate.", ["context", "answer"])
    long, short = "word " * 500, "word " * 50
    beginnings = [
        shared_beginning(template.fill({"context": c, "answer": a})) for c in (long, long + ".") for a in "ab"
    ]
    assert beginnings[0] is not None
    assert beginnings[0] == beginnings[1] != beginnings[2] == beginnings[3]
    assert shared_beginning(template.fill({"context": short, "answer": long})) is None  # the answer is nobody else's
    assert shared_beginning(template.fill({"context": short, "answer": long}), whole=True) is not None
    assert shared_beginning((Segment("instructions " * 500), Segment("answer", trusted=False))) is None
    assert shared_beginning(()) is None
