"""Planted errors and paraphrases: what is true stays true, what is wrong differs in the one way it is said to."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf.evaluation.audit_items import AuditSettings, build
from lrf.evaluation.planting import KINDS, TrueSentence, corrupted, paraphrased, true_sentences

DOCUMENTS = [
    path.read_text(encoding="utf-8")
    for path in sorted((Path(__file__).parents[3] / "examples/quickstart/documents").glob("*.md"))
]


@pytest.mark.parametrize(
    ("kind", "sentence", "allowed"),
    [
        ("date", "The mill of Harrow was built in 1820.", r"The mill of Harrow was built in 18[0-9]\d\."),
        ("entity", "In those days the mill of Harrow was new.", r"In those days the mill of Dover was new\."),
        ("negation", "The mill of Harrow was not built by the king.", "The mill of Harrow was built by the king."),
        ("negation", "The mill of Harrow was built by the king.", "The mill of Harrow was not built by the king."),
        ("negation", "观测场内不得停留，违者记录在案。", "观测场内得停留，违者记录在案。"),
        (
            "relation",
            "The upper mill burnt down before the church.",
            "(The lower .* before|The upper .* after) the church.",
        ),
        ("scope", "At least two members of staff are in the house.", "At most two members of staff are in the house."),
        ("scope", "所有读数都要写进值班日志，不得遗漏。", "(少数读数都|所有读数并非都)要写进值班日志，不得遗漏。"),
        ("number", "The mill of Harrow has three wheels.", "The mill of Harrow has (?!three)[a-z]+ wheels."),
        ("number", "任何时候山上不得少于三人，另有备用。", "任何时候山上不得少于[四五六七八九]人，另有备用。"),
    ],
)
def test_each_kind_of_error_changes_what_it_says(kind: str, sentence: str, allowed: str) -> None:
    import re

    language = "zh" if not sentence.isascii() else "en"
    changed = corrupted(TrueSentence(sentence, 0, language), kind, random.Random(1), ["Dover", "Harrow"])
    assert changed is not None
    assert re.fullmatch(allowed, changed), changed


@given(
    st.sampled_from(KINDS[:-1]), st.integers(0, 2**32), st.text(min_size=1, max_size=200), st.sampled_from(["en", "zh"])
)
def test_no_text_makes_a_rule_fail_or_leave_the_sentence_as_it_is(
    kind: str, seed: int, text: str, language: str
) -> None:
    sentence = TrueSentence(text, 0, language)
    assert corrupted(sentence, kind, random.Random(seed), ["Dover"]) != text
    assert isinstance(paraphrased(sentence), str)
    assert all(s.text in text for s in true_sentences(text))


def test_headings_bibliographies_and_torn_brackets_are_no_sentences() -> None:
    text = "Making Time for Solitary Reflection. Journal of Education and Urban Society, 22, pp. Studies in Press). "
    prose = "Teachers keep a journal for many purposes."
    assert [sentence.text for sentence in true_sentences(text + prose)] == [prose]
    assert true_sentences("Ⓐ" * 50 + ".") == []


def test_the_sentences_of_real_documents_stand_in_them_and_paraphrases_differ() -> None:
    for document in DOCUMENTS:
        found = true_sentences(document)
        assert len(found) > 30
        for sentence in found:
            assert document[sentence.start :].startswith(sentence.text)
            said = paraphrased(sentence)
            assert said != sentence.text
            assert said not in document


def test_an_audit_is_the_same_for_the_same_seed_and_has_true_and_wrong_where_it_says() -> None:
    settings = AuditSettings(limit=8, lengths=(2000, 4000))
    built, again = build(DOCUMENTS, settings), build(DOCUMENTS, settings)
    assert built == again != build(DOCUMENTS, AuditSettings(limit=8, lengths=(2000, 4000), seed=1))
    texts = {row["id"]: "\n".join(d["text"] for d in row["context"]) for row in built.rows}
    answers = {(row["id"], c["id"]): c["text"] for row in built.rows for c in row["candidates"]}
    assert set(answers) == {(one.sample, one.candidate) for one in built.asked}
    for one in built.asked:
        answer = answers[one.sample, one.candidate]
        if one.part == "statement":
            assert (answer in texts[one.sample]) == (one.true and one.form == "verbatim")
            at = texts[one.sample].find(answers[one.sample, "true"]) / len(texts[one.sample])
            assert abs(at - one.depth) < 0.01
        if one.part == "completeness":
            assert len(answer) < len(answers[one.base or ("", "")])
        assert one.true == (one.error == "")
    assert {one.error for one in built.asked} >= {"number", "negation", "scope", "relation", "other document"}
    assert {round(one.depth * 5 - 0.5) for one in built.asked} >= {0, 4}


def test_contexts_have_the_lengths_that_were_asked_for() -> None:
    from lrf.text.chunking import count_tokens

    built = build(DOCUMENTS, AuditSettings(limit=10, lengths=(1000, 6000), probes=False))
    length = {one.sample: one.length for one in built.asked}
    for row in built.rows:
        tokens = sum(count_tokens(d["text"]) for d in row["context"])
        assert 0.6 * length[row["id"]] < tokens < 1.4 * length[row["id"]]


@pytest.mark.parametrize("documents", [[], [""], ["Short."], ["# Title\n\n- a list\n- another"], ["x" * 5000]])
def test_documents_without_plain_sentences_make_no_audit_and_no_crash(documents: list[str]) -> None:
    assert build(documents, AuditSettings()).rows == []


def test_one_document_alone_is_its_own_context() -> None:
    built = build(DOCUMENTS[:1], AuditSettings(limit=3, lengths=(8000,)))
    assert len(built.rows) >= 3
    assert all(one.error != "other document" for one in built.asked)
