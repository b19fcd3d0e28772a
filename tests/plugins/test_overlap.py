"""The judge ``overlap``: what it finds wrong with a statement, and that nothing it reads stops it."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrf.errors import RejectedError
from lrf.prompting.expectations import Rating, Verdict
from lrf.prompting.requests import Request
from lrf.prompting.templates import Template
from lrf.testing import check_judge
from lrf.testing.strategies import nasty_texts
from lrf_overlap import words
from lrf_overlap.evidence import Evidence, evidence_of
from lrf_overlap.features import FEATURES, features
from lrf_overlap.judge import Overlap
from lrf_overlap.probability import VERSION, probability
from lrf_overlap.quantities import quantities
from lrf_overlap.settings import OverlapSettings

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SUPPORT = {"Fully supported": 1.0, "Partially supported": 0.5, "No support": 0.0}
PROMPT = Template("Check.\n<<context>>\n---\n<<statement>>\nVerdict:", ("context", "statement"))
NUMERALS = "亿 万 千 百 点 trillion hundred 9999 / : 半 第 百分之 分之 % May not 不 被 by was , 。"
MILL = (
    "The mill at Oberau was built by Anna Kern on 3 May 1921. It has 14 rooms and is 1.2 km from the station. In 1987 "
    "the town bought it from the Brandt Company for 2,500,000 euros. Dogs are not allowed in the garden. About 40 "
    "percent of the visitors are children. The chief miller reports to the mayor."
)
磨坊 = (
    "河口磨坊由安佩兰于1921年5月3日建成，有十四个房间，离车站1.2公里。1987年，市政府以二百五十万元从白兰公司买下磨坊。花园里不得带狗。"
    "大约百分之四十的游客是儿童。磨坊主管向市长汇报工作。"
)


def values(evidence: str, statement: str) -> dict[str, float]:
    return dict(zip(FEATURES, features(Evidence(evidence), statement), strict=True))


def supported(evidence: str, statement: str, language: str = "en") -> float:
    return probability(features(Evidence(evidence), statement), language)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1,000 people", "one thousand people"),
        ("1k users", "a thousand users"),
        ("5 km", "5,000 metres"),
        ("5%", "one in twenty"),
        ("five per cent", "百分之五"),
        ("3 May 2020", "2020-05-03"),
        ("May 3rd, 2020", "二〇二〇年五月三日"),
        ("$340m", "340 million dollars"),
        ("5 pm", "17:00"),
        ("下午三时半", "15:30"),
        ("half an hour", "30 minutes"),
        ("两万五千人", "25,000 people"),
        ("一个半小时", "90 分钟"),
        ("三成", "30%"),
        ("一米二", "120 cm"),
        ("two dozen", "24"),
        ("a third of them", "33%"),
        ("13/05/2020", "05/13/2020"),
        ("12 am", "midnight"),
        ("noon", "12:00"),
        ("下午三点", "3 pm"),
        ("凌晨三点", "3 am"),
        ("三点三刻", "3:45"),
        ("in May", "2020年5月"),
        ("twice", "2"),
        ("半个月", "0.5 months"),
        ("half a million", "500,000"),
        ("half a dozen", "6"),
        ("three fifths of it", "六成"),
        ("£3 m", "£3,000,000"),
        ("三块钱五", "3.5元"),
        ("1,5 km", "1500 m"),
        ("三百五", "350"),
        ("一亿两千万", "120 million"),
        ("三百多人", "310 people"),
        ("third place", "3rd"),
        ("-5 degrees", "-5 °C"),
        ("one mile", "1.609344 km"),
        ("三点五米", "350 cm"),
        ("四点二亿元", "4.2亿元"),
        ("三成五", "35%"),
        ("八五折", "85%"),
        ("四季度", "第四季度"),
        ("民国八年", "1919年"),
        ("零下两度", "-2℃"),
        ("二十日", "20天"),
        ("28日", "8月28日"),
        ("半个月", "15日"),
        ("一半以上", "54%"),
        ("over a fifth of it", "22%"),
        ("a year and a half", "18 months"),
        ("3 kilowatt-hours", "3,000 Wh"),
        ("an hour and three quarters", "105 minutes"),
        ("six and a half hours", "390 minutes"),
        ("two and a half million", "2,500,000"),
        ("three fifths.", "60%"),
        ("about a tenth are shown", "10%"),
        ("a quarter to six in the evening", "17:45"),
        ("half past two", "14:30"),
        ("thirty-fourth", "34th"),
        ("八十里", "40千米"),
    ],
)
def test_a_quantity_is_the_same_in_whatever_form(one: str, other: str) -> None:
    (_, _, first), (_, _, second) = *quantities(one), *quantities(other)
    assert all(any(a.said_by(b) or b.said_by(a) for b in second) for a in first), (first, second)


@pytest.mark.parametrize(
    "text",
    [
        *("it may be", "the one who", "A4 paper", "COVID-19", "万一", "一般", "统一", "march on", "in may", "千万"),
        *("32/13/2020", "2020年13月", "12月40日", "at 25:10", "7 in 5", "x-5", "一天", "半", "the first", "x" * 30),
    ],
)
def test_what_only_looks_like_a_quantity_is_none(text: str) -> None:
    assert not list(quantities(text))


@pytest.mark.parametrize(
    ("language", "statement"),
    [
        ("en", "Anna Kern built the mill, which has fourteen rooms, in 1921."),
        ("en", "It was built on 1921-05-03."),
        ("en", "The Brandt Company sold it to the town for €2.5m."),
        ("en", "The station is 1,200 metres away from it."),
        ("en", "Two in five visitors are children."),
        ("zh", "安佩兰在1921年五月三日建成了磨坊。"),
        ("zh", "磨坊有14个房间，距离车站1200米。"),
        ("zh", "四成游客是儿童。"),
    ],
)
def test_a_true_statement_in_other_words_is_likely(language: str, statement: str) -> None:
    assert supported(磨坊 if language == "zh" else MILL, statement, language) > 0.6


@pytest.mark.parametrize(
    ("language", "statement", "feature"),
    [
        ("en", "It has 41 rooms.", "number"),
        ("en", "It was built on 5 March 1921.", "number"),
        ("en", "The mill was built by Greta Holm.", "name"),
        ("en", "Dogs are allowed in the garden.", "denied"),
        ("en", "The visitors aren't children.", "denied"),
        ("en", "The Brandt Company bought it from the town.", "reversed"),
        ("en", "The mayor reports to the chief miller.", "reversed"),
        ("en", "Sheep graze on the upper slopes until autumn.", "foreign"),
        ("zh", "磨坊有四十个房间。", "number"),
        ("zh", "磨坊由周德海建成。", "name"),
        ("zh", "花园里可以带狗。", "denied"),
        ("zh", "市长向磨坊主管汇报工作。", "reversed"),
        ("zh", "果树要在霜降以前修剪。", "foreign"),
    ],
)
def test_a_planted_error_is_found_as_what_it_is(language: str, statement: str, feature: str) -> None:
    evidence = 磨坊 if language == "zh" else MILL
    found = values(evidence, statement)
    assert found[feature] > 0.4, found
    assert supported(evidence, statement, language) < 0.55


@pytest.mark.parametrize(
    ("language", "evidence", "statement", "true"),
    [
        ("en", "All drivers wear a badge.", "A few drivers wear a badge.", "All of the drivers have a badge to wear."),
        ("en", "Most of the cheese is sold in Ghent.", "All of the cheese is sold in Ghent.", "Ghent buys the cheese."),
        ("en", "At least nine people must vote.", "At most nine people must vote.", "Nine or more people must vote."),
        ("zh", "所有船只进港前都要登记。", "少数船只进港前要登记。", "船只进港前一律要登记。"),
        ("zh", "除导盲犬以外，宠物不得进站。", "包括导盲犬在内，所有宠物都不得进站。", "宠物不得进站，导盲犬除外。"),
        ("zh", "每年至少推荐十五人。", "每年至多推荐十五人。", "每年推荐不少于15人。"),
    ],
)
def test_how_much_a_statement_speaks_of_is_compared(language: str, evidence: str, statement: str, true: str) -> None:
    assert values(evidence, statement)["scope"] > 0.4
    assert supported(evidence, true, language) > supported(evidence, statement, language) + 0.2


@pytest.mark.parametrize(
    ("evidence", "statement"),
    [
        ("She left in 1929 and took her degree four years later.", "She took her degree in 1933."),
        ("The works began in 2001 and ended in 2005.", "The works took four years."),
        ("日记直到2003年才出版。", "日记在21世纪出版。"),
        ("押金三十天内退还。", "押金一个月内退还。"),
        ("The limit is 25 metres per second.", "The limit is 25 m/s."),
        ("The turbines are Danish.", "The turbines are from Denmark."),
        ("It closes late on weekdays.", "It closes late on Tuesday."),
        ("It is open from 8 a.m. to 7 p.m.", "It is open for eleven hours."),
        ("The trip takes two hours and ten minutes.", "The trip takes 130 minutes."),
        ("航程两小时十分钟。", "航程130分钟。"),
        ("They resumed within a day.", "They resumed within 24 hours."),
        ("Net sales for the year were 4 million.", "Net sales for the quarter were 4 million."),
        ("He worked there for a year and three months.", "He worked there for 15 months."),
    ],
)
def test_what_follows_by_simple_reckoning_is_not_missing(evidence: str, statement: str) -> None:
    found = values(evidence, statement)
    assert found["number"] == 0.0
    assert found["name"] < 0.7


@pytest.mark.parametrize(
    ("evidence", "statement", "feature"),
    [
        ("争议提交宁阳市仲裁委员会仲裁。", "争议提交宁波市仲裁委员会仲裁。", "renamed"),
        ("摆渡的老周认出了她。", "摆渡的老吴认出了她。", "renamed"),
        ("甲方（出租人）：陆海波。", "甲方为陆海涛。", "renamed"),
        (
            "The plant was built by the Danish group Aquanord.",
            "The plant was built by the Dutch group Aquanord.",
            "renamed",
        ),
        ("永和号雇着五个伙计。有三间门面。", "永和号雇着三个伙计。", "renumbered"),
        ("It is sold for 5 euros within 9 days.", "It is sold for 5 euros within 5 days.", "renumbered"),
        ("首日的乘客比预计多出两千人。", "首日的乘客比预计少两千人。", "opposed"),
        ("线路并未立即停运。", "线路已经立即停运。", "opposed"),
        ("乙方仍须缴纳水电费。", "乙方无须缴纳水电费。", "opposed"),
        ("The park will not be finished this year.", "The park is already finished this year.", "opposed"),
        ("请技师清洗换热器。丙烷会损坏燃烧器。", "请技师清洗燃烧器。", "swapped"),
    ],
)
def test_what_stands_in_the_place_of_something_else_is_found(evidence: str, statement: str, feature: str) -> None:
    assert values(evidence, statement)[feature] > 0.4


@pytest.mark.parametrize(
    ("evidence", "statement"),
    [
        ("甲方应在15日内无息退还押金。", "甲方要在半个月内退还押金。"),
        ("电站于1994年建成，乘坐缆车上山。", "电站在1994年建成，坐缆车上山。"),
        ("公司与客户之间不存在关联关系。", "公司和客户没有关联关系。"),
        ("盒子里有一张旧照片、一枚银戒指和一封信。", "盒子里有一封信、一枚银戒指和一张旧照片。"),
        ("The plant, which is new, was built by Aquanord.", "The plant was built by Aquanord."),
    ],
)
def test_other_words_in_the_place_of_some_are_no_error(evidence: str, statement: str) -> None:
    found = values(evidence, statement)
    assert max(found[name] for name in ("renumbered", "opposed", "reversed")) < 0.7, found


@pytest.mark.parametrize(
    ("evidence", "statement", "true"),
    [
        ("Sales fell to 5 million from 7.", "Sales rose from 5 million to 7.", "Sales dropped to 5 million."),
        ("The fishermen complained of the change.", "The fishermen welcomed the change.", "The fishermen complained."),
        ("The council turned down the plan.", "The council approved the plan.", "The council rejected the plan."),
        ("The auditor's opinion was qualified.", "The opinion was unqualified.", "The opinion was qualified."),
        ("Dogs are not allowed.", "Dogs are allowed in the garden.", "Dogs are not allowed."),
        ("The plan was put off.", "The plan was never put off.", "The plan was put off."),
        ("She never finished the novel.", "She completed the novel.", "The novel was never completed by her."),
        ("Do not stop without talking to us.", "You may stop without talking to us.", "Do not stop without talking."),
        ("58 percent of the patients were women.", "58 percent of the patients were men.", "Women were 58 percent."),
        ("None of the vehicles was damaged.", "Several vehicles were damaged.", "None was damaged."),
        ("妊娠期妇女避免使用多西环素。", "妊娠期妇女可以使用多西环素。", "妊娠期妇女不得使用多西环素。"),
        ("桥上禁止机动车通行。", "桥上不禁止机动车通行。", "桥上不允许机动车通行。"),
        ("地铁1号线全线停运。", "地铁1号线仍在运行。", "地铁1号线停运。"),
    ],
)
def test_the_opposite_is_told_from_other_words_for_the_same(evidence: str, statement: str, true: str) -> None:
    language = "en" if evidence.isascii() else "zh"
    assert supported(evidence, true, language) > supported(evidence, statement, language) + 0.2


@pytest.mark.parametrize(
    ("evidence", "statement", "true"),
    [
        ("The hall was built after the fire.", "The hall was built before the fire.", "It was built after the fire."),
        (
            "Two months at sea come before one ashore.",
            "Two months at sea come after one ashore.",
            "One ashore follows.",
        ),
    ],
)
def test_before_and_after_tell_an_order(evidence: str, statement: str, true: str) -> None:
    assert values(evidence, statement)["reversed"] > values(evidence, true)["reversed"]


@pytest.mark.parametrize(
    ("statement", "true"),
    [
        ("Work on the dam began in 1931.", "Work on the dam began in 1936."),
        ("The accounts were presented by Ms Calloway.", "The accounts were presented by Ms Osman."),
        ("The treasurer is Ines Osman.", "The treasurer is Farida Osman."),
        ("The society met on 14 March 2031.", "The society met on 14 March 2024."),
    ],
)
def test_what_belongs_to_something_else_in_the_evidence_is_an_error(statement: str, true: str) -> None:
    evidence = (
        "Work on the dam began in 1936. The flood of 1931 had destroyed the bridge. The society met on 14 March 2024. "
        "The treasurer, Ms Farida Osman, presented the accounts. Ms Ines Calloway was elected. The plan ends in 2031."
    )
    assert supported(evidence, true) > supported(evidence, statement) + 0.2


def test_a_given_name_of_one_character_is_read_as_part_of_the_name() -> None:
    assert values("桥由工程师孙怀远设计，铁索从汉口购入。", "桥由工程师孙怀民设计。")["renamed"] == 1.0


def test_a_denial_of_another_thing_is_none() -> None:
    far = "Costs are not yet where they should be, said Ann Lee, who wants to save money."
    assert values(far, "Ann Lee wants to save money.")["denied"] == 0
    evidence = "She abolished Saturday lessons, but kept the morning run. Visitors may see the shop, never the hall."
    assert values(evidence, "The morning run was not abolished.")["denied"] < 0.7
    assert values(evidence, "Visitors may see the hall.")["denied"] > 0.5
    assert values("All of the farms are within 30 miles.", "None is more than 30 miles away.")["denied"] == 0


def test_the_vocabulary_begins_anew_when_it_has_grown_large(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Evidence(MILL)
    monkeypatch.setattr(words._Vocabulary, "MOST", 3)
    after = Evidence(MILL)
    for evidence in (before, after):
        assert features(evidence, "It has 14 rooms.") == features(Evidence(MILL), "It has 14 rooms.")


def test_marks_of_passages_are_no_numbers_of_the_evidence() -> None:
    assert values("[7] Mills\nThe mill has 14 rooms.", "The mill has 7 rooms.")["number"] == 1.0


def test_a_number_elsewhere_in_the_evidence_is_worth_less_than_one_in_place() -> None:
    evidence = "The mill has 14 rooms. It stands by the river. The school was closed for 9 years after the war."
    assert supported(evidence, "The mill has 14 rooms.") > supported(evidence, "The mill has 9 rooms.")


@settings(max_examples=50, deadline=None)
@given(evidence=nasty_texts(), statement=nasty_texts())
def test_whatever_is_compared_has_a_probability(evidence: str, statement: str) -> None:
    for language in ("en", "zh"):
        assert 0 < supported(evidence, statement, language) < 1


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.sampled_from(NUMERALS.split()), max_size=60),
    st.sampled_from(["", " "]),
)
def test_no_heap_of_numerals_stops_it(pieces: list[str], between: str) -> None:
    text = between.join(pieces)
    assert 0 < supported(text, text) < 1


def test_a_text_without_end_is_read_in_pieces() -> None:
    assert 0 < supported("word " * 20_000, "x" * 50_000) < 1
    assert 0 < supported("河" * 20_000, "河水" * 20_000, "zh") < 1


def test_what_it_says_has_a_version_so_that_no_journal_keeps_an_older_opinion() -> None:
    """Raise VERSION when this fails."""
    said = [round(supported(MILL, s), 3) for s in ("It has 14 rooms.", "It has 41 rooms.", "Dogs are allowed in it.")]
    assert (VERSION, said) == (11, [0.779, 0.162, 0.149])


async def test_the_judge_holds_to_its_protocol_and_gives_its_probability_to_the_verdict_with_most_support() -> None:
    judge = Overlap(OverlapSettings())
    await check_judge(judge)
    request = Request(PROMPT.fill({"context": MILL, "statement": "It has 14 rooms."}), Verdict(SUPPORT), 64, 0.0)
    reply = await judge.complete(request)
    assert reply.probabilities is not None
    assert reply.probabilities["[[Fully supported]]"] == pytest.approx(supported(MILL, "It has 14 rooms."))
    assert reply.probabilities["[[Partially supported]]"] == 0
    assert sum(reply.probabilities.values()) == pytest.approx(1)
    long = MILL + " The river froze." * 3000
    wrong = PROMPT.fill({"context": long, "statement": "It has 9 rooms."})
    reply = await judge.complete(Request(wrong, Verdict(SUPPORT), 64, 0.0))
    assert (reply.probabilities or {})["[[No support]]"] > 0.5
    with pytest.raises(RejectedError, match="no rating"):
        await judge.complete(Request(request.prompt, Rating(), 64, 0.0))
    with pytest.raises(RejectedError, match="evidence_field"):
        await Overlap(OverlapSettings(evidence_field="notes")).complete(request)


def test_the_benchmark_reads_a_file_of_others_and_prints_one_line(tmp_path: Path) -> None:
    rows = [
        {"document": document, "statement": statement, "label": label, "lang": language}
        for language, document, statement, label in (
            ("en", MILL, "The mill has fourteen rooms.", 1),
            ("en", MILL, "The mill has 41 rooms.", 0),
            ("zh", 磨坊, "磨坊有14个房间。", 1),
            ("zh", 磨坊, "磨坊有41个房间。", 0),
        )
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    command = [sys.executable, str(BENCHMARKS / "overlap.py"), "--data", str(file), "--json"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (line,) = printed.splitlines()
    report = json.loads(line)
    assert report["auc_en"] == report["auc_zh"] == 1.0
    assert report["statements_per_s"] > 0
    file.write_text('{"document": "x", "statement": "y", "label": 1}', "utf-8")
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "rows.jsonl:1: 'lang' is missing" in refused.stderr


@pytest.mark.parametrize("part", ["5:", "1,", "$1", "a:b ", "他说："])
def test_a_statement_that_repeats_itself_is_not_compared_with_each_place_of_the_evidence_anew(part: str) -> None:
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    evidence = evidence_of((part * 1_000)[:1_000])
    sys.setprofile(count)
    try:
        features(evidence, (part * 200)[:200])
    finally:
        sys.setprofile(None)
    assert calls < 600_000  # a few million where each place is compared with each


NAMES = ["".join(letters) for letters in itertools.product("ABDFGKLMNPRST", "aeiou", "bdgkl", "r")]


@pytest.mark.parametrize(
    ("evidence", "statement"),
    [
        (("rise, ", "fall, "), ("rise, ", "fall, ")),
        (("not open, ",), ("not open, ",)),
        (("unqualified, ",), ("unqualified, ",)),
        (("不得开放，",), ("不得开放，",)),
        (("上升，", "下降，"), ("上升，", "下降，")),
        ([f"{name}{'. ' if n % 12 == 11 else ' '}" for n, name in enumerate(NAMES)], [f"{name} " for name in NAMES]),
    ],
)
def test_no_heap_of_words_with_opposites_negations_or_names_holds_up_others(
    evidence: Sequence[str], statement: Sequence[str]
) -> None:
    text, said = ("".join(itertools.islice(itertools.cycle(parts), 9_000)) for parts in (evidence, statement))
    calls = itertools.count()
    known = evidence_of(text[:20_000])
    sys.setprofile(lambda *_: next(calls) and None)
    try:
        features(known, said[:1_000])
    finally:
        sys.setprofile(None)
    assert next(calls) < 600_000  # some millions where each clause or name is compared with each
