"""From conversations to token ids: which tokens are trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lrf.errors import StageError
from lrf_sft.objective import IGNORE_INDEX, SFTCollator
from lrf_sft.rows import Conversation, encode, read, read_pairs
from lrf_training.models import PLAIN_TEMPLATE, new_tokenizer
from lrf_training.settings import Init
from lrf_training.tokens import UnusableRowError

FORGETFUL = """
{%- for m in messages %}
{{- '<' + m['role'] + '>' }}
{%- set thoughts = m['role'] == 'assistant' and not loop.last %}
{{- m['content'].split('=>')[-1] if thoughts else m['content'] }}
{{- eos_token if m['role'] == 'assistant' else '' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<assistant>' }}{% endif %}"""
"""Drops thoughts of earlier answers, as templates of reasoning models do."""


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    made = new_tokenizer(["a few words, no more"], Init(vocab=320))
    made.chat_template = PLAIN_TEMPLATE
    return made


def chat(*turns: str) -> list[dict[str, str]]:
    """Turns of user and assistant by turns."""
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns)]


def trained(row: Conversation, tokenizer: Any) -> list[str]:
    """The text of each span that is trained."""
    found = encode(row, tokenizer)
    ids, spans = found.columns["input_ids"], [int(place) for place in found.numbers["spans"]]
    return [tokenizer.decode(ids[start:end]) for start, end in zip(spans[::2], spans[1::2], strict=True)]


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_an_answer_is_trained_to_its_end_and_nothing_else(tokenizer: Any) -> None:
    row = Conversation("here", chat("how many?", "three", "sure?", "yes, three"))
    assert trained(row, tokenizer) == ["three<|end|>", "yes, three<|end|>"]


def test_of_a_prompt_with_completion_answers_in_the_prompt_are_read_only(tokenizer: Any) -> None:
    row = Conversation("here", chat("how many?", "three", "sure?", "yes"), start=3)
    assert trained(row, tokenizer) == ["yes<|end|>"]


def test_an_answer_that_the_template_rewrites_later_is_not_trained_and_counted(tokenizer: Any) -> None:
    forgetful = new_tokenizer(["words"], Init(vocab=320))
    forgetful.chat_template = FORGETFUL
    row = Conversation("here", chat("how many?", "one, two =>three", "sure?", "I am =>yes"))
    assert trained(row, forgetful) == ["I am =>yes<|end|>"]
    assert encode(row, forgetful).remarks == ("answers_rewritten_by_template",)


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\\0"), min_size=1, max_size=12)


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4), st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_answer_is_found_at_its_place_in_any_text(turns: list[tuple[str, str]], system: bool) -> None:
    tokenizer = new_tokenizer(["a few words"], Init(vocab=300))
    tokenizer.chat_template = PLAIN_TEMPLATE
    messages = [{"role": "system", "content": "be brief"}] if system else []
    messages += chat(*(text for turn in turns for text in turn))
    answers = [answer for _, answer in turns if answer.strip()]
    if not answers:
        return
    found = trained(Conversation("here", messages), tokenizer)
    assert found == [f"{answer}<|end|>" for answer in answers]


@pytest.mark.parametrize("turns", [("how many?",), ("how many?", "  ")])
def test_a_conversation_without_an_answer_can_not_be_used(turns: tuple[str, ...], tokenizer: Any) -> None:
    with pytest.raises(UnusableRowError, match="no answer to train on"):
        encode(Conversation("here", chat(*turns)), tokenizer)


def test_rows_are_read_in_each_of_their_forms(tmp_path: Path) -> None:
    found = list(
        read(
            write(
                tmp_path / "rows.jsonl",
                {"messages": chat("q", "a")},
                {"prompt": "q", "completion": "a"},
                {"prompt": chat("q"), "completion": chat("", "a")[1:]},
            )
        )
    )
    assert [row.messages for row in found] == [chat("q", "a")] * 3
    assert [row.start for row in found] == [0, 1, 1]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"text": "q"}, r"rows.jsonl:1: expected `messages`, or `prompt` and `completion`; got text"),
        ({"messages": "q"}, r"rows.jsonl:1: messages must be a list of messages"),
        ({"prompt": "q", "completion": [{"role": "assistant"}]}, "each message of completion must have a role"),
        (["q"], "rows.jsonl:1: expected an object"),
    ],
)
def test_a_row_of_no_such_form_is_named(row: Any, problem: str, tmp_path: Path) -> None:
    with pytest.raises(StageError, match=problem):
        list(read(write(tmp_path / "rows.jsonl", row)))


def test_pairs_made_with_another_prompt_template_are_refused(tmp_path: Path) -> None:
    pair = {"prompt": chat("q"), "chosen": chat("", "a")[1:], "prompt_template_sha256": "one"}
    path = write(tmp_path / "pairs.jsonl", pair)
    assert [row.messages for row in read_pairs(path, "one")] == [chat("q", "a")]
    with pytest.raises(StageError, match="made with the template one"):
        list(read_pairs(path, "another"))


def test_a_batch_is_padded_on_the_right_and_has_no_mask() -> None:
    rows = [{"input_ids": [5, 6, 7], "spans": [2.0, 3.0]}, {"input_ids": [8, 9], "spans": [1.0, 2.0]}]
    batch = SFTCollator(pad_token_id=0)(rows)
    assert set(batch) == {"input_ids", "labels", "position_ids"}
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 9, 0]]
    assert batch["labels"].tolist() == [[IGNORE_INDEX, IGNORE_INDEX, 7], [IGNORE_INDEX, 9, IGNORE_INDEX]]
    assert batch["position_ids"].tolist() == [[0, 1, 2], [0, 1, 2]]


def test_the_parts_of_processes_make_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"input_ids": [4, 5, 6, 7, 8], "spans": [2.0, 5.0]}]
    monkeypatch.setenv("WORLD_SIZE", "4")
    parts = []
    for rank in (2, 3):
        monkeypatch.setenv("RANK", str(rank))
        parts.append(SFTCollator(pad_token_id=0, processes=2)(rows))
    whole = {name: torch.cat([part[name] for part in parts], dim=1)[0].tolist() for name in parts[0]}
    assert whole["input_ids"] == [4, 5, 6, 7, 8, 0]
    assert whole["shift_labels"] == [IGNORE_INDEX, 6, 7, 8, IGNORE_INDEX, IGNORE_INDEX]
    assert whole["position_ids"] == [0, 1, 2, 3, 4, 5]
