"""Requests for rewards become samples: by documents, by ids, and by prompts read backwards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf.errors import DataError
from lrf.rows.asked import UnknownDocumentError, read_prompt, reference, sample_asked
from lrf.rows.chat_text import answer_text, prompt_and_answer, user_turn
from lrf.rows.document_store import DocumentStore, document_id

PLAIN = "<<context>>\n\n<<question>>"
FRAMED = "<text>\n<<context>>\n</text>\nQuestion: <<question>>\nAnswer briefly."
DOCUMENT = "The bridge was opened in 1931.\n\nIt is 200 m long."
CHATS = {
    "chatml": "<|im_start|>system\nHelp.<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n{}",
    "llama": "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n{}",
    "gemma": "<bos><start_of_turn>user\n{}<end_of_turn>\n<start_of_turn>model\n{}",
    "mistral": "<s>[INST] {} [/INST]{}",
    "glm": "[gMASK]<sop><|user|>\n{}<|assistant|>\n{}",
}


def test_a_text_sent_whole_and_its_id_make_the_same_sample() -> None:
    store = DocumentStore()
    whole = sample_asked(
        {"query": "How long?", "context": DOCUMENT, "answers": ["200 m", {"text": "1 km"}]}, store, PLAIN
    )
    by_id = sample_asked(
        {"query": "How long?", "document_ids": [document_id(DOCUMENT)], "answers": ["200 m", "1 km"]}, store, PLAIN
    )
    assert by_id == whole
    assert [c.text for c in whole.candidates] == ["200 m", "1 km"]


@pytest.mark.parametrize("chat", CHATS.values(), ids=CHATS)
def test_a_prompt_with_a_chat_templates_marks_is_read_backwards(chat: str) -> None:
    text = FRAMED.replace("<<context>>", DOCUMENT).replace("<<question>>", "How long?")
    sample = sample_asked({"prompt": chat.format(text, ""), "answers": ["200 m"]}, DocumentStore(), FRAMED)
    assert (sample.documents[0].text, sample.query) == (DOCUMENT, "How long?")
    turn, answer = prompt_and_answer(chat.format(text, "200 m<|im_end|>\n"))
    assert (turn.strip(), answer.strip()) == (text, "200 m")


def test_where_the_template_leaves_several_places_open_a_known_document_decides() -> None:
    store, prompt = DocumentStore(), f"{DOCUMENT}\n\nHow long?\n\nIn metres."
    with pytest.raises(DataError, match="is in it 3 times; send the document beforehand"):
        read_prompt(prompt, PLAIN, store)
    assert read_prompt(prompt, PLAIN, store, [DOCUMENT]) == (DOCUMENT, "How long?\n\nIn metres.")
    assert read_prompt(prompt, PLAIN, store, query="In metres.") == (f"{DOCUMENT}\n\nHow long?", "In metres.")
    store.put(DOCUMENT)
    assert read_prompt(prompt, PLAIN, store) == (DOCUMENT, "How long?\n\nIn metres.")
    turned = read_prompt(f"How long?\n\n{DOCUMENT}", "<<question>>\n\n<<context>>", store)
    assert turned == (DOCUMENT, "How long?")


# Chat templates strip a turn, so a text that begins or ends with white space can't be known again.
texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40).map(str.strip).filter(bool)


@given(texts, texts)
def test_every_prompt_of_a_known_document_is_read_as_it_was_made(document: str, query: str) -> None:
    store = DocumentStore()
    store.put(document)
    made = FRAMED.replace("<<context>>", "\0").replace("<<question>>", query).replace("\0", document)
    assert read_prompt(made, FRAMED, store, [document], query) == (document, query)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"answers": ["a"]}, "context: missing"),
        ({"query": "?", "context": "d", "answers": []}, "answers: expected a list"),
        ({"query": "?", "context": "d", "answers": [3]}, "answers"),
        ({"query": "?", "context": "d", "answers": ["a"], "document": "x"}, "no such field"),
        ({"query": "?", "document_ids": ["abc"], "answers": ["a"]}, "64 hexadecimal digits"),
        ({"query": "?", "context": [{"path": "/etc/passwd"}], "answers": ["a"]}, "can't name files"),
        ({"query": "?", "context": "d\0", "answers": ["a"]}, "NUL"),
        ({"prompt": "no such frame", "answers": ["a"]}, "isn't made by policy.prompt_template"),
        ({"prompt": CHATS["chatml"].format("a", "b<|im_end|>\n<|im_start|>user\nc"), "answers": ["a"]}, "2 times"),
        ({"prompt": [{"role": "user", "content": "a"}] * 2, "answers": ["a"]}, "one of user"),
    ],
)
def test_what_is_no_sample_is_refused_with_the_field_and_what_is_allowed(body: dict, said: str) -> None:
    with pytest.raises(DataError, match=said):
        sample_asked(body, DocumentStore(), FRAMED)


def test_an_id_that_was_never_sent_is_unknown() -> None:
    with pytest.raises(UnknownDocumentError, match="send its text first"):
        sample_asked({"query": "?", "document_ids": ["0" * 64], "answers": ["a"]}, DocumentStore(), PLAIN)


def test_a_label_may_be_an_id_or_an_object_or_neither() -> None:
    key = document_id(DOCUMENT)
    assert reference(key) == {"document_ids": [key]}
    assert reference(json.dumps({"document_id": key, "question": "How long?"})) == {
        "document_ids": [key],
        "query": "How long?",
    }
    assert reference({"context": "d", "query": "?", "other": 1}) == {"context": "d", "query": "?"}
    assert reference("42") == reference(None) == reference("{") == {}


def test_a_store_with_a_folder_knows_its_documents_again_and_forgets_what_was_changed(tmp_path: Path) -> None:
    key = DocumentStore(tmp_path).put(DOCUMENT)
    again = DocumentStore(tmp_path, memory_bytes=10)
    assert key in again
    assert again.get(key) == DOCUMENT
    (file,) = tmp_path.rglob("*.txt")
    file.write_text("another text")
    assert DocumentStore(tmp_path).get(key) is None
    assert again.get("../../etc/passwd") is None


def test_the_tokens_that_end_a_turn_are_no_part_of_an_answer() -> None:
    assert answer_text("200 m<|im_end|>\n<|endoftext|>") == "200 m"
    assert answer_text("a < b </s>") == "a < b"
    assert user_turn("plain text") == "plain text"


def test_an_answer_may_hold_whatever_a_policy_writes() -> None:
    asked = {"query": "?", "context": "d", "answers": ["a\0b", "\ud800", ""]}
    sample = sample_asked(asked, DocumentStore(), PLAIN)
    assert [c.text for c in sample.candidates] == ["a\ufffdb", "\ufffd", ""]
