"""Which statements count once, and prompts that ask for fair ones."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrf.testing.strategies import nasty_texts
from lrf_longreward.prompts import BUILT_IN
from lrf_longreward.statements import distinct, facts

SAME = [
    ("The mill was built in 1790.", "Mill was built in 1790"),
    ("The bridge was opened by the king.", "the bridge was opened by the king!"),
    ("It is the house that Jack built.", "It is a house which Jack built."),
    ("The ship’s crew also left.", "The ship's crew left."),
    ("清河渡口在 1998 年停用了。", "清河渡口在1998年停用"),
    ("他也是医生。", "他是医生"),
]
DIFFERENT = [
    ("The mill was built in 1790.", "The mill was built in 1791."),
    ("It grew by 5%.", "It grew by 5."),
    ("It fell to -5 degrees.", "It fell to 5 degrees."),
    ("It cost 1.5 million.", "It cost 15 million."),
    ("The fee is $40.", "The fee is €40."),
    ("It is open.", "It is not open."),
    ("They didn't sign.", "They did sign."),
    ("No member voted.", "A member voted."),
    ("Ann paid Bob.", "Bob paid Ann."),
    ("We met Johns there.", "We met John there."),
    ("The dog bit the cat.", "The cat bit the dog."),
    ("She is the mayor.", "She was the mayor."),
    ("The WHO advises it.", "The advises it."),
    ("It may open.", "It will open."),
    ("The council rejected the plan.", "The council approved the plan."),
    ("The employer must pay.", "The employee must pay."),
    ("清河渡口在1998年停用。", "清河渡口在1999年停用。"),
    ("他是医生。", "他不是医生。"),
    ("甲付钱给乙。", "乙付钱给甲。"),
    ("长江很长。", "黄河很长。"),
    ("It grew by .5 percent.", "It grew by 5 percent."),
    ("The board is 5' long.", 'The board is 5" long.'),
    ("The room has 10² seats.", "The room has 102 seats."),
    ("The plan failed.", "The plane failed."),
    ("The plans failed.", "The planes failed."),
    ("The tower fell.", "The towers fell."),
    ("The firm was sued in 1999.", "The firm sued in 1999."),
    ("The man is interested.", "The man is interesting."),
    ("كتاب جديد", "كتاب قديم"),
    ("कि वह", "की वह"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_statements_of_the_same_words_are_near_duplicates(one: str, other: str) -> None:
    assert distinct([one, other], near=True) == [one]
    assert distinct([one, other]) == [one, other]


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_another_number_name_negation_order_or_word_is_another_statement(one: str, other: str) -> None:
    assert len(distinct([one, other], near=True)) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The café opened.", "The cafe\u0301 opened."),
        ("The mill burnt.", "the mill  burnt"),
        ("渡口停用了。", "渡口停用了"),
    ],
)
def test_a_repetition_is_one_whatever_its_case_white_space_accents_and_full_stop(one: str, other: str) -> None:
    assert distinct([one, other]) == [one]
    assert distinct(["...", "."]) == ["...", "."]


PIECES = st.sampled_from(
    ["The", "the", "a", "mill", "Mill", "mills", "Mills", "built", "builds", "was", "not", "no", "1790", "1,790", "-5",
     "5%", "Ann", "ann", "US", "us", "that", "水", "车", "不", "的", "了", ".", "  ", "’s"]
)  # fmt: skip
STATEMENTS = st.lists(st.lists(PIECES, max_size=5).map(" ".join) | nasty_texts(), max_size=8)


@settings(max_examples=50)
@given(STATEMENTS, st.booleans())
def test_merging_twice_is_merging_once_and_adds_nothing(statements: list[str], near: bool) -> None:
    kept = distinct(statements, near=near)
    assert distinct(kept, near=near) == kept
    assert distinct(statements + statements, near=near) == kept
    places = [statements.index(s) for s in kept]
    assert places == sorted(places)


@settings(max_examples=50)
@given(STATEMENTS, st.booleans(), st.randoms(use_true_random=False))
def test_the_count_of_statements_ignores_their_order(statements: list[str], near: bool, shuffle: random.Random) -> None:
    shuffled = statements.copy()
    shuffle.shuffle(shuffled)
    assert len(distinct(shuffled, near=near)) == len(distinct(statements, near=near))


NAMES = st.from_regex(r"[A-Z][a-z]{1,8}", fullmatch=True)
NUMBERS = st.from_regex(r"-?[0-9]{1,4}([.,][0-9]{1,3})?%?", fullmatch=True)


@settings(max_examples=50)
@given(NAMES, NAMES, NUMBERS, NUMBERS, st.booleans(), st.booleans())
def test_statements_that_differ_in_a_name_a_number_or_a_negation_are_never_merged(
    name: str, other_name: str, number: str, other_number: str, negated: bool, other_negated: bool
) -> None:
    def said(who: str, how_many: str, never: bool) -> str:
        return f"In spring the clerk told {who} that {how_many} were {'not ' * never}there."

    one, other = said(name, number, negated), said(other_name, other_number, other_negated)
    same = (name, number, negated) == (other_name, other_number, other_negated)
    assert (len(distinct([one, other], near=True)) == 1) == same
    chinese = [
        f"{who}说有{how_many}人{'没' * never}来"
        for who, how_many, never in ((name, number, negated), (other_name, other_number, other_negated))
    ]
    assert (len(distinct(chinese, near=True)) == 1) == same


@given(nasty_texts())
def test_any_text_has_facts(text: str) -> None:
    assert facts(text)


@pytest.mark.parametrize(
    ("language", "needed"),
    [
        ("en", ["understood alone", '"he", "it", "this"', "openings", "transitions", "summaries", "conclusions"]),
        ("zh", ["单独读也能看懂", "“他”“它”“这”", "开场白", "过渡句", "总结", "推出的结论", "不添加任何内容"]),
    ],
)  # fmt: skip
def test_the_prompt_asks_for_statements_that_stand_alone(language: str, needed: list[str]) -> None:
    prompt = (BUILT_IN / language / "statements.txt").read_text(encoding="utf-8")
    assert [words for words in needed if words not in prompt] == []
