from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lrf.errors import DataError
from lrf.rows.data import FIELDS, Row, RowError, sample_from_row, samples_from_rows, text_problem
from lrf.rows.fields import SampleRow
from lrf.testing.strategies import samples
from lrf.types import BadRow, Document, Message, Sample

GOOD: dict[str, Any] = {"context": "It rained.", "query": "Did it rain?", "candidates": [{"text": "Yes."}]}


def made(row: Any, folder: Path | None = None) -> Sample:
    return sample_from_row(row, folder=folder, file="data.jsonl", line=7)


def problem(row: Any, folder: Path | None = None) -> str:
    with pytest.raises(RowError) as caught:
        made(row, folder)
    assert isinstance(caught.value, DataError)
    assert str(caught.value) == f"data.jsonl:7: {caught.value.message}"
    return caught.value.message


def as_row(sample: Sample) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": sample.id,
        "query": sample.query,
        "context": [{"id": d.id, "title": d.title, "text": d.text} for d in sample.documents],
        "candidates": [{"id": c.id, "text": c.text, "source": c.source} for c in sample.candidates],
        "reference": sample.reference,
    }
    return row


@given(samples())
def test_a_sample_written_as_a_row_is_read_back_unchanged(sample: Sample) -> None:
    row = json.loads(json.dumps(as_row(sample)))
    assert made(row) == sample


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from((*FIELDS, "text", "x")), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from((*FIELDS, "quary")), JSON_VALUES))
def test_any_row_becomes_a_sample_or_a_row_error_and_nothing_else(row: dict[str, Any]) -> None:
    try:
        sample = made({**GOOD, **row})
    except RowError as error:
        shown = error.message
    else:
        shown = sample.query + sample.context
    assert shown.strip()
    shown.encode()


def test_ids_are_given_by_place_where_the_row_has_none() -> None:
    sample = made({**GOOD, "context": [{"text": "a"}, {"text": "b", "id": "x"}], "candidates": [{"text": ""}] * 2})
    assert sample.id == "6"
    assert [d.id for d in sample.documents] == ["0", "x"]
    assert [c.id for c in sample.candidates] == ["0", "1"]


def test_a_whole_number_is_an_id() -> None:
    assert made({**GOOD, "id": 11}).id == "11"


@pytest.mark.parametrize("value", [True, 1.0, "", "  ", [], {}])
def test_other_values_are_no_ids(value: object) -> None:
    assert problem({**GOOD, "id": value}).startswith("id: ")


def test_a_context_is_a_text_or_a_document_or_a_list_of_documents() -> None:
    assert made({**GOOD, "context": "a"}).documents == (Document("0", "a"),)
    assert made({**GOOD, "context": {"text": "a", "title": "T"}}).documents == (Document("0", "a", "T"),)
    assert made({**GOOD, "context": [{"text": "a"}]}).documents == (Document("0", "a"),)


def test_candidates_may_be_absent_and_their_texts_empty() -> None:
    assert made({"context": "a", "query": "b"}).candidates == ()
    assert made({**GOOD, "candidates": [{"text": ""}]}).candidates[0].text == ""


def test_null_is_the_same_as_absent() -> None:
    assert made({**GOOD, **dict.fromkeys(("id", "reference", "messages", "metadata"))}) == made(GOOD)


def test_messages_and_metadata_are_kept_as_they_are() -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Did it rain?"}]
    sample = made({**GOOD, "messages": turns, "metadata": {"whatever": [1, {"you": None}]}})
    assert sample.messages == (Message("system", "Be brief."), Message("user", "Did it rain?"))
    assert sample.metadata == {"whatever": [1, {"you": None}]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context": None}, "context: missing"),
        ({"query": None}, "query: missing"),
        ({"query": " \n"}, "query: is empty"),
        ({"query": 5}, "query: expected a text, got a number"),
        ({"context": ""}, "context: is empty"),
        ({"context": 5}, "context: expected a text, a document or a list of documents, got a number"),
        ({"context": []}, "context: the list has no documents"),
        ({"context": ["a"]}, "context[0]: expected an object, got a text"),
        ({"context": [{"text": "a"}, {"text": ""}]}, "context[1].text: is empty"),
        ({"context": [{"title": "a"}]}, 'context[0]: expected either "text" or "path"'),
        ({"context": [{"text": "a", "path": "b"}]}, 'context[0]: expected either "text" or "path"'),
        ({"context": [{"text": "a", "id": 1}, {"text": "a"}]}, 'context[1].id: "1" is already the id of context[0]'),
        ({"candidates": {}}, "candidates: expected a list, got an object"),
        ({"candidates": "a"}, "candidates: expected a list, got a text"),
        ({"candidates": ["a", 3]}, "candidates[1]: expected an object, got a number"),
        ({"candidates": [{"id": "a"}]}, "candidates[0].text: missing"),
        ({"candidates": [{"text": "a", "source": 5}]}, "candidates[0].source: expected a text, got a number"),
        ({"candidates": [{"text": "a", "id": "x"}] * 2}, 'candidates[1].id: "x" is already the id of candidates[0]'),
        ({"reference": 5}, "reference: expected a text, got a number"),
        ({"messages": {}}, "messages: expected a list, got an object"),
        (
            {"messages": [{"role": "bot", "content": ""}]},
            "messages[0].role: expected 'system', 'user', 'assistant' or 'tool'; got \"bot\"",
        ),
        (
            {"messages": [{"role": "assistant", "content": ""}]},
            'messages: must end with a turn that the policy answers, of role "user" or "tool"',
        ),
        ({"messages": []}, 'messages: must end with a turn that the policy answers, of role "user" or "tool"'),
        ({"metadata": []}, "metadata: expected an object, got a list"),
        ({"metadata": {"a": [math.nan]}}, "metadata.a[0]: nan is not a JSON value"),
        ({"metadata": {"a": b"x"}}, "metadata.a: a value of type bytes is not a JSON value"),
        ({"query": "a\0b"}, "query: contains the NUL character at character 1; remove it"),
        ({"query": "ab\ud83d"}, "query: contains the lone surrogate U+D83D at character 2; remove it"),
        (
            {"candidates": [{"text": "\ud83d"}]},
            "candidates[0].text: contains the lone surrogate U+D83D at character 0; ",
        ),
        ({"metadata": {"a": {"\ud83d": 1}}}, "metadata.a: key: contains the lone surrogate U+D83D at character 0; "),
    ],
)
def test_an_error_names_the_field_and_what_is_wrong_with_it(change: dict[str, Any], message: str) -> None:
    assert problem({**GOOD, **change}).startswith(message)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"quary": "a"}, 'unknown field "quary"; allowed: id, context, query,'),
        ({"quary": "a"}, "(other data of yours goes under metadata); did you mean query?"),
        ({"question": "a"}, "did you mean query?"),
        (
            {"candidates": [{"answer": "a"}]},
            'candidates[0]: unknown field "answer"; allowed: id, text, source, metadata',
        ),
        ({"candidates": [{"answer": "a"}]}, "did you mean text?"),
        ({"context": [{"txet": "a"}]}, 'context[0]: unknown field "txet"; allowed: id, title, text, path'),
        ({"\x1b[31m": 1}, "unknown field '\\x1b[31m'"),
    ],
)
def test_an_unknown_field_is_an_error_with_a_near_match(row: dict[str, Any], message: str) -> None:
    assert message in problem({**GOOD, **row})


@pytest.mark.parametrize("row", [None, [], "a", 5, True])
def test_a_row_that_is_no_object_is_an_error(row: object) -> None:
    assert problem(row).startswith("a row must be an object with the fields id, context, query")


@pytest.mark.parametrize(
    "row",
    [{"context": [1] * 99}, {"candidates": [1] * 99}, {"messages": [1] * 99},
     {"messages": [{"role": "user", "content": [1] * 99}]}, {"messages": [{"role": "user", "tool_calls": [1] * 99}]}],
)  # fmt: skip
def test_of_a_list_only_the_first_mistake_is_looked_into(row: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        SampleRow.model_validate(row)
    assert caught.value.error_count() <= 2


def test_an_error_holds_nothing_that_a_terminal_would_act_on() -> None:
    odd = "\x1b[31m\u202e" * 50
    for change in ({odd: 1}, {"metadata": {odd: b""}}, {"candidates": [{"id": odd, "text": ""}] * 2}):
        message = problem({**GOOD, **change})
        assert message.isprintable()
        assert len(message) < 500


def test_metadata_nested_without_end_is_an_error() -> None:
    nested: Any = {}
    for _ in range(500):
        nested = {"a": nested}
    assert problem({**GOOD, "metadata": nested}) == "metadata: nested deeper than 64 levels"


def by_path(path: str) -> dict[str, Any]:
    return {**GOOD, "context": {"path": path}}


def test_a_document_can_be_a_file_in_the_data_folder(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_bytes("\ufeff第一节\r\nIt rained.".encode())
    assert made(by_path("texts/a.txt"), tmp_path).documents == (Document("0", "第一节\r\nIt rained."),)
    assert made(by_path("texts/../texts/a.txt"), tmp_path).documents[0].text.startswith("第一节")


def test_a_document_in_a_list_can_be_a_file_too(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("It rained.")
    row = {**GOOD, "context": [{"path": "a.txt", "title": "T", "id": "x"}, {"text": "b"}]}
    assert made(row, tmp_path).documents == (Document("x", "It rained.", "T"), Document("1", "b"))


@pytest.mark.parametrize("path", ["../secret.txt", "/etc/passwd", "in/../../secret.txt", "link.txt", "linked/a.txt"])
def test_a_path_that_leaves_the_data_folder_is_refused(tmp_path: Path, path: str) -> None:
    folder = tmp_path / "data"
    (folder / "in").mkdir(parents=True)
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "linked").symlink_to(tmp_path)
    (tmp_path / "a.txt").write_text("secret")
    message = problem(by_path(path), folder)
    assert message == f'context.path: "{path}" leads out of the data\'s folder; keep the texts beside the data'


@pytest.mark.parametrize("path", [".env", ".git/config", "texts/.hidden.txt", "link.txt"])
def test_a_path_with_a_part_that_begins_with_a_dot_is_refused(tmp_path: Path, path: str) -> None:
    for folder in (".git", "texts"):
        (tmp_path / folder).mkdir()
    for file in (".env", ".git/config", "texts/.hidden.txt"):
        (tmp_path / file).write_text("KEY=sk-0123456789")
    (tmp_path / "link.txt").symlink_to(".env")
    message = f'context.path: "{path}" is hidden: no part of a path may begin with a dot'
    assert problem(by_path(path), tmp_path) == message


def test_a_symlink_that_stays_in_the_data_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("It rained.")
    (tmp_path / "b.txt").symlink_to("a.txt")
    assert made(by_path("b.txt"), tmp_path).documents[0].text == "It rained."


def test_the_text_files_of_a_row_are_bounded_together(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x" * 400)
    rows = [{**GOOD, "id": n, "context": [{"path": "a.txt"}] * n} for n in (2, 3)]
    read = samples_from_rows((Row("data", n, row, tmp_path) for n, row in enumerate(rows)), max_file_bytes=1000)
    fits, too_large = read
    assert isinstance(fits, Sample)
    assert isinstance(too_large, BadRow)
    assert too_large.message == (
        'context[2].path: with "a.txt" (400 bytes) the row\'s text files have more than 1,000 bytes together; '
        "`max_file_bytes` of the data's source allows more"
    )


def test_files_that_cannot_be_read_as_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "nul.txt").write_text("a\0")
    (tmp_path / "loop.txt").symlink_to("loop.txt")
    assert problem(by_path("gone.txt"), tmp_path) == 'context.path: no file "gone.txt" in the data\'s folder'
    assert "is not a text file in UTF-8: unexpected end of data at byte 3" in problem(by_path("latin.txt"), tmp_path)
    assert problem(by_path("empty.txt"), tmp_path) == 'context.path: "empty.txt" is empty'
    assert "NUL" in problem(by_path("nul.txt"), tmp_path)
    assert problem(by_path("loop.txt"), tmp_path).startswith("context.path: ")
    assert problem(by_path("."), tmp_path).startswith("context.path: no file")


def test_data_from_elsewhere_cannot_name_files(tmp_path: Path) -> None:
    assert problem(by_path("a.txt")) == "context.path: this data can't name files; give the text itself"


def test_rows_without_an_id_are_numbered_over_all_rows() -> None:
    rows = [Row("a", 1, GOOD), BadRow("a", 2, "not JSON"), Row("b", 1, {**GOOD, "id": "x"}), Row("b", 2, GOOD)]
    ids = [s.id for s in samples_from_rows(rows) if isinstance(s, Sample)]
    assert ids == ["0", "x", "3"]


def test_an_id_given_twice_makes_the_later_row_bad() -> None:
    rows = [Row("a", n, {**GOOD, "id": id}) for n, id in enumerate(("x", "y", "x"), start=1)]
    assert [type(s) for s in samples_from_rows(rows)] == [Sample, Sample, BadRow]
    assert list(samples_from_rows(rows))[2] == BadRow("a", 3, 'id: "x" is already the id of an earlier row')


def test_a_bad_row_does_not_stop_the_others() -> None:
    rows = [Row("a", 1, []), Row("a", 2, GOOD)]
    bad, good = samples_from_rows(rows)
    assert isinstance(bad, BadRow)
    assert (bad.file, bad.line) == ("a", 1)
    assert isinstance(good, Sample)


@given(st.lists(st.integers(0, 5), max_size=20))
def test_as_many_rows_come_out_as_went_in(numbers: list[int]) -> None:
    rows = [Row("a", i, {**GOOD, "id": n}) for i, n in enumerate(numbers, start=1)]
    outcome = list(samples_from_rows(rows))
    assert len(outcome) == len(rows)
    assert sum(isinstance(s, Sample) for s in outcome) == len(set(numbers))


@given(st.text(st.characters()))
def test_a_text_without_a_problem_can_be_stored_and_sent(text: str) -> None:
    if text_problem(text) is None:
        assert "\0" not in text
        assert text.encode().decode() == text
    else:
        assert "\0" in text or any(0xD800 <= ord(c) < 0xE000 for c in text)


def test_a_plain_text_among_the_candidates_is_a_candidate() -> None:
    row = {"context": "It rained.", "query": "Did it rain?", "candidates": ["Yes.", {"text": "No.", "id": "n"}]}
    sample = sample_from_row(row, folder=None, file="f", line=1)
    assert [(c.id, c.text) for c in sample.candidates] == [("0", "Yes."), ("n", "No.")]
