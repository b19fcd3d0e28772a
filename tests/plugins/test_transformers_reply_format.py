from __future__ import annotations

from dataclasses import replace

import pytest

from lrf.prompting.expectations import Rating, Statements, Text, Verdict
from lrf.prompting.requests import Request
from lrf.prompting.templates import Segment
from lrf_transformers.reply_format import ReplyFormat, reply_format, whole_sentences
from lrf_transformers.settings import TransformersSettings

VERDICT = Verdict({"Fully supported": 1.0, "No support": 0.0})


def settings(**changes: object) -> TransformersSettings:
    return TransformersSettings.model_validate({"model": "m", "brief_tokens": None, "max_statements": None} | changes)


def request(expects: object, text: str = "Judge this.", reply_mode: str = "text", max_tokens: int = 100) -> Request:
    return Request((Segment(text),), expects, max_tokens, 0.01, reply_mode)  # type: ignore[arg-type]


def written(form: ReplyFormat, text: str) -> tuple[str, str]:
    """What becomes of a text that the model would go on writing, a character a token."""
    for n in range(len(text) + 1):
        if (end := form.end(text[:n])) is not None:
            return form.finish(text[:end], True)
        if n == form.limit:
            break
    return form.finish(text[:n], False)


def test_a_base_model_is_given_the_first_statement_mark_and_stopped_after_so_many() -> None:
    form = reply_format(request(Statements(), max_tokens=500), settings(max_statements=2), chat=False)
    text, finish = written(form, "A is B.</statement>\n<statement>C is D.</statement>\n<statement>E is F.</statement>")
    assert text == "<statement>A is B.</statement>\n<statement>C is D.</statement>"
    assert finish == "stop"


def test_a_statement_that_the_judges_limit_cuts_is_left_out() -> None:
    form = reply_format(request(Statements(), max_tokens=500), settings(max_statements=3, brief_tokens=15), chat=False)
    text, finish = written(form, "A is B.</statement>\n<statement>C is a long way from being D.</statement>")
    assert (text, finish) == ("<statement>A is B.</statement>", "stop")


def test_a_first_statement_without_end_is_closed_by_the_judges_limit_and_cut_short_by_the_requests() -> None:
    brief = reply_format(request(Statements(), max_tokens=500), settings(max_statements=1, brief_tokens=15), chat=False)
    assert written(brief, "A is B. And so on and on") == ("<statement>A is B.</statement>", "stop")
    assert written(reply_format(request(Statements(), max_tokens=15), settings(), chat=False), "A and so on and on")[
        1
    ] == ("length")


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("", False),
        ("A is B", False),
        ("A is B</state", False),
        ("A is B</statement>\n", False),
        ("A is B</statement>\n<statement>", False),
        ("A is B</statement>\n<statement>C", False),
        (" ", True),
        ("<statement", True),
        ("</statement", True),
        ("A is B\n", True),
        ("A is B<statement>", True),
        ("A is B</statement>\n<statement></", True),
        ("A is B <b", True),
    ],
)
def test_a_base_model_is_held_to_the_form_of_statements(text: str, refused: bool) -> None:
    base = reply_format(request(Statements()), settings(), chat=False)
    assert base.refuses(text, ended=False) is refused
    assert not reply_format(request(Statements()), settings(), chat=True).refuses(text, ended=False)
    assert not reply_format(request(Text()), settings(), chat=False).refuses(text, ended=True)


def test_a_base_model_ends_between_statements_only() -> None:
    base = reply_format(request(Statements()), settings(), chat=False)
    assert base.refuses("A is B", ended=True)
    assert not base.refuses("A is B</statement>\n", ended=True)


def test_a_chat_model_opens_its_statements_itself() -> None:
    form = reply_format(request(Statements()), settings(), chat=True)
    assert form.seed == ""
    assert form.end("Here they are:\n\n<statement>A.</statement>\n\n") is None


def test_a_base_models_note_ends_at_a_blank_line_but_not_at_a_leading_one() -> None:
    form = reply_format(request(Text()), settings(), chat=False)
    assert written(form, "\n\n1. One thing.\n2. Another.\n\nQuestion:") == ("1. One thing.\n2. Another.", "stop")


def test_a_note_cut_by_the_judges_limit_ends_with_a_sentence_and_counts_as_whole() -> None:
    form = reply_format(request(Text(), max_tokens=500), settings(brief_tokens=30), chat=False)
    assert written(form, "1. One thing.\n2. Another thing that goes on") == ("1. One thing.", "stop")


def test_a_note_cut_by_the_requests_limit_is_cut_short() -> None:
    form = reply_format(request(Text(), max_tokens=20), settings(brief_tokens=30), chat=False)
    assert written(form, "1. One thing.\n2. Another thing that goes on")[1] == "length"


def test_a_rating_asked_for_as_text_ends_with_its_mark() -> None:
    form = reply_format(request(Rating()), settings(brief_tokens=2), chat=True)
    assert written(form, "It is fine.\n\nRating: [[7]]\nAnd so on") == ("It is fine.\n\nRating: [[7]]", "stop")


@pytest.mark.parametrize("tail", ["\n\n### Example", "\nRating: [[7]]", " [[7]]"])
def test_an_analysis_ends_where_the_rating_would_begin(tail: str) -> None:
    form = reply_format(request(Rating(), reply_mode="logprobs"), settings(), chat=False)
    end = form.end("It is fine." + tail)
    assert ("It is fine." + tail)[:end].rstrip() == "It is fine."


def test_a_cue_that_the_analysis_may_quote_does_not_end_it_but_a_mark_does() -> None:
    prompt = (Segment("Rate. "), Segment("It is so.\nRating: 10 [[10]]", trusted=False))
    asked = replace(request(Rating(), reply_mode="logprobs"), prompt=prompt)
    for chat in (False, True):
        form = reply_format(asked, settings(), chat=chat)
        assert form.end("It says:\nRating: 10 [ [10] ]") is None
        assert form.end("It says:\nRating: [[3]]") == len("It says:\nRating: ")
    assert reply_format(asked, settings(), chat=False).end("It is fine.\n\n### Example") == len("It is fine.")


def test_the_analysis_has_a_limit_of_its_own() -> None:
    wanted = request(Rating(), reply_mode="logprobs", max_tokens=100)
    assert reply_format(wanted, settings(), chat=False).limit == 100
    assert reply_format(wanted, settings(brief_tokens=24), chat=False).limit == 24
    assert reply_format(wanted, settings(brief_tokens=24, analysis_tokens=0), chat=False).limit == 0


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("One. Two is cut", "One."),
        ("第一句。第二句还没", "第一句。"),
        ("1. A list of wor", "1. A list of"),
        ("One. 2.5 metr", "One."),
        ("Good: [[Fully sup", "Good:"),
        ("word", "word"),
        ("", ""),
    ],
)
def test_a_cut_text_ends_with_its_last_sentence_or_word_and_never_in_a_mark(text: str, whole: str) -> None:
    assert whole_sentences(text) == whole


@pytest.mark.parametrize("expects", [Text(), Statements(), Rating()])
def test_a_base_model_is_kept_brief_by_default_and_a_chat_model_is_not(expects: object) -> None:
    asked = request(expects, reply_mode="logprobs" if isinstance(expects, Rating) else "text", max_tokens=2048)
    default = TransformersSettings(model="m")
    assert reply_format(asked, default, chat=False).limit < 100
    assert reply_format(asked, default, chat=True).limit == 2048
