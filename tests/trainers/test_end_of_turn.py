"""What of an answer is trained under the chat templates of several model families, as published: text and end mark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoModelForCausalLM, GenerationConfig, GlmConfig, PreTrainedTokenizerFast

from lrf.errors import StageError
from lrf.protocols import TrainingJob
from lrf_dpo import rows as preferences
from lrf_dpo.rows import answers_of
from lrf_sft.rows import Conversation, encode, read
from lrf_sft.settings import SFTSettings
from lrf_sft.trainer import SFT
from lrf_training.chat_text import CUT_OFF
from lrf_training.models import set_chat_template
from lrf_training.tokens import END_ADDED, UnusableRowError


class Family(NamedTuple):
    """A chat template with its special tokens (the first is BOS, the second EOS), and what is trained of two turns."""

    template: str
    special: tuple[str, ...]
    stops: tuple[str, ...]
    trained: list[str]


FAMILIES = {
    "ChatML (Qwen)": Family(
        "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + "
        "'\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        ("<|endoftext|>", "<|im_end|>", "<|im_start|>"),
        ("<|im_end|>", "<|endoftext|>"),
        ["one<|im_end|>\n", "two<|im_end|>\n"],
    ),
    "Llama 3": Family(
        "{% for message in messages %}"
        "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content']"
        " | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}"
        "{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
        ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"),
        ("<|end_of_text|>", "<|eot_id|>"),
        ["one<|eot_id|>", "two<|eot_id|>"],
    ),
    "Gemma": Family(
        "{{ bos_token }}{% for message in messages %}{% set role = 'model' if message['role'] == 'assistant' else "
        "message['role'] %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}",
        ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
        ("<eos>", "<end_of_turn>"),
        ["one<end_of_turn>\n", "two<end_of_turn>\n"],
    ),
    "Phi-3": Family(
        "{% for message in messages %}{% if message['role'] == 'user' %}"
        "{{'<|user|>\n' + message['content'] + '<|end|>\n'}}"
        "{% else %}{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}",
        ("<s>", "<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>"),
        ("<|endoftext|>", "<|assistant|>", "<|end|>"),
        ["one<|end|>\n", "two<|end|>\n<|endoftext|>"],
    ),
    "Mistral": Family(
        "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
        "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% else %}{{ message['content'] + eos_token}}{% endif %}"
        "{% endfor %}",
        ("<s>", "</s>"),
        ("</s>",),
        ["one</s>", "two</s>"],
    ),
    "GLM-4": Family(
        "[gMASK]<sop>{% for item in messages %}{% if item['role'] == 'user' %}{{ '<|user|>\n' + item['content'] }}"
        "{% else %}{{ '<|assistant|>\n' + item['content'] }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}",
        ("[gMASK]", "<|endoftext|>", "<sop>", "<|user|>", "<|assistant|>", "<|observation|>"),
        ("<|endoftext|>", "<|user|>", "<|observation|>"),
        ["\none<|user|>", "\ntwo<|endoftext|>"],
    ),
    "no end anywhere": Family(
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}",
        ("<s>", "</s>"),
        ("</s>",),
        ["one\n</s>", "two\n</s>"],
    ),
}
ENDLESS = ("GLM-4", "no end anywhere")
CHAT = [
    {"role": "user", "content": "first?"},
    {"role": "assistant", "content": "one"},
    {"role": "user", "content": "second?"},
    {"role": "assistant", "content": "two"},
]
CALL = {"type": "function", "function": {"name": "search", "arguments": {"q": "tram"}}}


def tokenizer_of(family: Family) -> Any:
    inner = Tokenizer(
        models.BPE(vocab={c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[])
    )
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    bos, eos, *more = family.special
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token=bos, eos_token=eos, pad_token=eos, additional_special_tokens=more
    )
    made.chat_template = family.template
    return made


def stop_ids(family: Family, tokenizer: Any) -> frozenset[int]:
    return frozenset(tokenizer.convert_tokens_to_ids(list(family.stops)))


def trained(family: Family, chat: Any = CHAT) -> tuple[list[str], tuple[str, ...]]:
    """The texts that SFT trains, with the ends that it predicts, and the remarks."""
    tokenizer = tokenizer_of(family)
    row = encode(Conversation("here", chat), tokenizer, stop_ids(family, tokenizer))
    ids, spans = list(row.columns["input_ids"]), [int(place) for place in row.numbers["spans"]]
    for place, token in zip(row.numbers["ends"][::2], row.numbers["ends"][1::2], strict=True):
        ids[int(place)] = int(token)
    texts = [tokenizer.decode(ids[start:end]) for start, end in zip(spans[::2], spans[1::2], strict=True)]
    return texts, row.remarks


@pytest.mark.parametrize("name", FAMILIES)
def test_each_answer_is_trained_with_a_token_that_ends_generation(name: str) -> None:
    texts, remarks = trained(FAMILIES[name])
    assert texts == FAMILIES[name].trained
    assert remarks == ((END_ADDED,) if name in ENDLESS else ())


@pytest.mark.parametrize("name", FAMILIES)
def test_both_answers_of_a_pair_end_with_a_token_that_ends_generation(name: str) -> None:
    family, chosen, rejected = FAMILIES[name], CHAT[3], {"role": "assistant", "content": "no"}
    tokenizer = tokenizer_of(family)
    row = preferences.encode(
        preferences.PreferenceRow("here", CHAT[:3], ([chosen], [rejected])), tokenizer, stop_ids(family, tokenizer)
    )
    answers = answers_of(row.columns | row.numbers)
    texts = list(map(tokenizer.decode, answers))
    assert texts == [family.trained[1], family.trained[1].replace("two", "no")]
    assert row.remarks == ((END_ADDED,) if name in ENDLESS else ())
    assert row.longest == len(row.columns["prompt_ids"]) + len(answers[0])


def test_a_glm_policy_is_trained_to_end_its_answers_and_the_report_says_so(tmp_path: Path) -> None:
    family, folder = FAMILIES["GLM-4"], tmp_path / "glm"
    tokenizer = tokenizer_of(family)
    tokenizer.save_pretrained(folder)
    sizes = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "head_dim": 8,
    }
    config = GlmConfig(vocab_size=len(tokenizer), num_key_value_heads=2, pad_token_id=tokenizer.pad_token_id, **sizes)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    GenerationConfig(eos_token_id=sorted(stop_ids(family, tokenizer))).save_pretrained(folder)
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": CHAT}) + "\n")
    job = TrainingJob(tmp_path / "pairs.jsonl", tmp_path / "out", str(folder), 1, "")
    settings = SFTSettings.model_validate(
        {"sources": [{"path": tmp_path / "rows.jsonl"}], "max_steps": 1, "global_batch": 1}
    )
    metrics = SFT(settings).train(job).metrics
    assert metrics[END_ADDED] == 1
    assert metrics["answer_tokens"] == len("\none") + 1 + len("\ntwo") + 1
    assert any("writes no end after an answer" in note for note in metrics["notes"])


@pytest.mark.parametrize("name", FAMILIES)
def test_an_answer_that_was_cut_off_is_trained_without_an_end_and_counted(name: str) -> None:
    family = FAMILIES[name]
    texts, remarks = trained(family, [*CHAT[:3], CHAT[3] | {"cut_off": True}])
    assert texts == [family.trained[0], ("\n" if name == "GLM-4" else "") + "two"]
    assert remarks == (CUT_OFF,) + (END_ADDED,) * (name == "no end anywhere")
    tokenizer = tokenizer_of(family)
    pair = preferences.PreferenceRow(
        "here", CHAT[:3], [[CHAT[3]], [{"role": "assistant", "content": "no", "cut_off": True}]]
    )
    row = preferences.encode(pair, tokenizer, stop_ids(family, tokenizer))
    assert [tokenizer.decode(ids) for ids in answers_of(row.columns | row.numbers)] == [
        family.trained[1],
        ("\n" if name == "GLM-4" else "") + "no",
    ]


def test_an_answer_of_weight_0_is_not_trained_and_counted() -> None:
    chat = [CHAT[0], CHAT[1] | {"weight": 0}, CHAT[2], CHAT[3] | {"weight": 1}]
    assert trained(FAMILIES["Llama 3"], chat) == (["two<|eot_id|>"], ("answers_with_weight_0",))
    with pytest.raises(UnusableRowError, match="no answer to train on"):
        trained(FAMILIES["Llama 3"], chat[:2])


def test_any_other_weight_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": [CHAT[0], CHAT[1] | {"weight": 0.5}]}) + "\n")
    with pytest.raises(StageError, match=r"rows.jsonl:1: a message's weight must be 0 \(not trained\) or 1; got 0.5"):
        list(read(tmp_path / "rows.jsonl"))


def test_a_turn_that_calls_a_tool_is_trained_though_its_content_is_null(tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}"
        "{% for c in m.tool_calls or [] %}[{{ c.function.name }} {{ c.function.arguments.q }}]"
        "{% endfor %}{{ eos_token if m.role == 'assistant' }}{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    turns = [CHAT[0], {"role": "assistant", "content": None, "tool_calls": [CALL]}, {"role": "tool", "content": "1997"}]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": [*turns, CHAT[3]]}) + "\n")
    (row,) = read(tmp_path / "rows.jsonl")
    family = Family(template, ("<s>", "</s>"), ("</s>",), [])
    assert trained(family, row.messages) == (["[search tram]</s>", "two</s>"], ())


@pytest.mark.parametrize("adds_bos", [True, False])
def test_the_plain_template_begins_with_bos_if_the_tokenizer_does(adds_bos: bool) -> None:
    tokenizer = tokenizer_of(Family("", ("<s>", "</s>"), (), []))
    tokenizer.chat_template = None
    if adds_bos:
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
        )
    set_chat_template(tokenizer, None)
    text = tokenizer.decode(tokenizer.apply_chat_template(CHAT[:1], return_dict=True)["input_ids"])
    assert text == ("<s>" if adds_bos else "") + "### user\nfirst?\n\n"
