"""Pairs of an agent's trajectory: tools and their calls reach the chat template, and none is lost in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from lrf_dpo.rows import answers_of, encode, read_pairs
from lrf_sft import rows as sft
from lrf_training.models import PLAIN_TEMPLATE
from lrf_training.tokens import UnusableRowError

TEMPLATE = (
    "{% for t in tools or [] %}<tool {{ t.function.name }}>{% endfor %}"
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}"
    "{% for c in m.tool_calls or [] %}[{{ c.function.name }} {{ c.function.arguments.q }}]{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
CALL = {"type": "function", "function": {"name": "search", "arguments": {"q": "tram"}}}
ROW: dict[str, Any] = {
    "prompt": [
        {"role": "user", "content": "When?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "1997"},
    ],
    "chosen": [{"role": "assistant", "content": "In 1997."}],
    "rejected": [{"role": "assistant", "content": "Never."}],
    "tools": [{"type": "function", "function": {"name": "search"}}],
}


def tokenizer(template: str) -> Any:
    alphabet = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    bpe = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=bpe)
    made.chat_template = template
    return made


def encoded(folder: Path, template: str, row: dict[str, Any]) -> tuple[str, str, str]:
    (folder / "pairs.jsonl").write_text(json.dumps(row) + "\n")
    made = tokenizer(template)
    (pair,) = read_pairs(folder / "pairs.jsonl")
    row = encode(pair, made)
    chosen, rejected = answers_of(row.columns | row.numbers)
    return made.decode(row.columns["prompt_ids"]), made.decode(chosen), made.decode(rejected)


def test_tools_and_their_calls_stand_in_the_prompt_that_is_trained_on(tmp_path: Path) -> None:
    prompt = "<tool search><user>When?<assistant>[search tram]<tool>1997<assistant>"
    assert encoded(tmp_path, TEMPLATE, ROW) == (prompt, "In 1997.", "Never.")


@pytest.mark.parametrize(
    ("row", "what"), [(ROW, "tools"), ({**ROW, "tools": None}, "calls of tools")], ids=("tools", "calls")
)
def test_a_template_that_cant_write_tools_stops_the_training(tmp_path: Path, row: dict[str, Any], what: str) -> None:
    with pytest.raises(UnusableRowError, match=f"the chat template failed: the plain template knows no {what}"):
        encoded(tmp_path, PLAIN_TEMPLATE, row)


def test_sft_trains_the_answer_after_a_prompt_with_its_tools(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text(json.dumps(ROW) + "\n")
    made = tokenizer(TEMPLATE)
    (row,) = sft.read_pairs(tmp_path / "pairs.jsonl", "")
    found = sft.encode(row, made)
    ids, (start, end) = found.columns["input_ids"], map(int, found.numbers["spans"])
    assert made.decode(ids[:start]) == "<tool search><user>When?<assistant>[search tram]<tool>1997<assistant>"
    assert made.decode(ids[start:end]) == "In 1997."
