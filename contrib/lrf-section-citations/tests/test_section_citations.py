from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lrf_section_citations.citations import citations_of
from lrf_section_citations.dimension import SectionCitations
from lrf_section_citations.numbers import number_of
from lrf_section_citations.sections import sections_of
from lrf_section_citations.settings import SectionCitationsSettings

from lrf import Candidate, Document, Judgement, Sample, UnscorableError
from lrf.testing import DirectContext, check_dimension, check_plugin
from lrf.testing.strategies import samples

CONTRACT = """# Supply contract

## 1. Parties

1. the buyer pays on time,
2 apples cost more than one.

Section 2: Delivery

2.3 Notice of Delay

The seller gives notice. It refers to section 9 in passing.

# Closing words #
"""
LAW = "第一章 总则\n\n第三节 通知\n第十二条 当事人应当遵守约定。\n内容见第九条。\n"


def sample_of(text: str, *answers: str) -> Sample:
    candidates = tuple(Candidate(str(i), answer) for i, answer in enumerate(answers))
    return Sample("s", "What about notice?", (Document("0", text),), candidates)


async def rated(text: str, answer: str, **settings: object) -> Judgement:
    sample = sample_of(text, answer)
    dimension = SectionCitations(SectionCitationsSettings.model_validate(settings))
    return await dimension.score(sample, sample.candidates[0], DirectContext(sample))


def test_every_component_that_the_plugin_registers_can_be_imported() -> None:
    check_plugin("lrf_section_citations.plugin")


async def test_it_passes_the_check_for_dimensions() -> None:
    await check_dimension(SectionCitations(), sample_of(CONTRACT, "See section 2.3.", "第三节"))


@given(samples(min_candidates=1), st.integers(1, 3))
async def test_any_text_gets_a_rating_or_a_reason(sample: Sample, wanted: int) -> None:
    dimension = SectionCitations(SectionCitationsSettings(wanted=wanted))
    for candidate in sample.candidates:
        if not sections_of(sample.documents):
            with pytest.raises(UnscorableError, match="no_sections"):
                await dimension.score(sample, candidate, DirectContext(sample))
        else:
            judgement = await dimension.score(sample, candidate, DirectContext(sample))
            assert 0 <= judgement.rating <= 10


def test_headings_are_sections_and_list_items_and_sentences_are_not() -> None:
    found = [(s.number, s.unit, s.title) for s in sections_of([Document("0", CONTRACT)])]
    assert found == [
        (None, None, "supply contract"),
        ("1", None, "parties"),
        ("2", "section", "delivery"),
        ("2.3", None, "notice of delay"),
        (None, None, "closing words"),
    ]


def test_chinese_headings_are_found() -> None:
    found = [(s.number, s.unit, s.title) for s in sections_of([Document("0", LAW)])]
    assert found == [("1", "chapter", "总则"), ("3", "section", "通知"), ("12", "article", "")]


def test_a_span_is_exactly_the_heading() -> None:
    for section in sections_of([Document("0", CONTRACT)]):
        assert folded_in(CONTRACT[section.span.start : section.span.end], section.title)


def folded_in(line: str, title: str) -> bool:
    return title in line.casefold()


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12", "12"),
        ("2.3", "2.3"),
        ("三", "3"),
        ("十", "10"),
        ("十二", "12"),
        ("二十", "20"),
        ("一百零五", "105"),
        ("二〇", "20"),
    ],
)
def test_numbers_are_read_in_digits_and_in_chinese(text: str, number: str) -> None:
    assert number_of(text) == number


@pytest.mark.parametrize(
    ("answer", "cited"),
    [
        ("See section 2.3.", {"section 2.3": True}),
        ("See Sections 1, 2 and 7.", {"section 1": True, "section 2": True, "section 7": False}),
        ("By §2.3, notice is due (§ 4).", {"§ 2.3": True, "§ 4": False}),
        ("Chapter 2 is no section 2.", {"chapter 2": False, "section 2": True}),
        ("See sec. 1 and section 1.", {"section 1": True}),
        ("根据第2.3节，应当通知。", {"section 2.3": True}),
        ("As “Notice of  delay” has it.", {"“Notice of  delay”": True}),
        ('The section "Penalties" says so.', {'section "Penalties"': False}),
        ("“Nobody came,” he said in 1997, part of 2 groups.", {}),
        ("", {}),
    ],
)
def test_citations_are_found_and_looked_up(answer: str, cited: dict[str, bool]) -> None:
    found = citations_of(answer, sections_of([Document("0", CONTRACT)]))
    assert {c.text: c.section is not None for c in found} == cited


def test_chinese_citations_are_found_and_looked_up() -> None:
    found = citations_of("见第三节、第12条、第九条与《通知》。", sections_of([Document("0", LAW)]))
    cited = {"section 3": True, "article 12": True, "article 9": False, "《通知》": True}
    assert {c.text: c.section is not None for c in found} == cited


@pytest.mark.parametrize(
    ("answer", "wanted", "rating"),
    [
        ("Section 2.3 says so.", 1, 10.0),
        ("Section 2.3 says so.", 2, 5.0),
        ("Section 2.3 and “Notice of Delay” say so.", 2, 5.0),
        ("Sections 1 and 2.3 say so.", 2, 10.0),
        ("Section 2.3 and section 8 say so.", 1, 5.0),
        ("Section 8 says so.", 1, 0.0),
        ("It is so.", 1, 0.0),
    ],
)
async def test_the_rating_is_the_share_of_citations_that_exist_less_for_fewer_sections_than_wanted(
    answer: str, wanted: int, rating: float
) -> None:
    assert (await rated(CONTRACT, answer, wanted=wanted)).rating == rating


async def test_the_judgement_has_each_citation_with_the_place_of_its_heading() -> None:
    judgement = await rated(CONTRACT, "Sections 2.3 and 8.")
    exists, missing = judgement.statements
    (span,) = exists.evidence
    assert CONTRACT[span.start : span.end] == "2.3 Notice of Delay"
    assert (missing.verdict, missing.support, missing.evidence) == ("missing", 0.0, ())


async def test_the_setting_no_citations_is_the_rating_of_an_answer_without_citations() -> None:
    assert (await rated(CONTRACT, "It is so.", no_citations=4)).rating == 4
    with pytest.raises(UnscorableError, match="no_citations"):
        await rated(CONTRACT, "It is so.", no_citations="unscored")


async def test_a_document_without_headings_leaves_the_candidate_unscored() -> None:
    with pytest.raises(UnscorableError, match="no_sections"):
        await rated("It rained.", "Section 1 says so.")
