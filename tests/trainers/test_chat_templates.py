"""What is trained under published chat templates, turn by turn: what the row says and the end mark, and nothing else.

The templates are those that TRL ships as the models' makers published them.
"""

from __future__ import annotations

import copy
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import trl
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from lrf_dpo import rows as preferences
from lrf_sft.objective import SFTCollator
from lrf_sft.packing import pack
from lrf_sft.rows import Conversation, encode
from lrf_training.chat_text import ADDS_TEXT, AS_THE_ROW_SAYS, PROMPT_CHANGED
from lrf_training.tokens import END_ADDED, EncodedRow, Rules, UnusableRowError, write_tokens

FOLDER = Path(trl.__file__).parent / "chat_templates"
REVISIONS = {"diffusion_gemma", "gemma4", "gemma4_v2", "gemma4_v3", "gemma4_v4", "gemma4_v5", "lfm2_2_5_vl", "llama3_2"}
REVISIONS |= {"muse_glimmer", "nemotron_3_super", "nemotron_3_ultra", "nemotron_3_5_lightning", "qwen3_5_think"}
NAMES = [
    pytest.param(file.stem, marks=[pytest.mark.slow] if file.stem in REVISIONS else [])
    for file in sorted(FOLDER.glob("*.jinja"))
    if not file.stem.endswith("_training")
]
MARKS = re.compile(
    r"<[|｜][^|｜<>]*[|｜]>|<(?:start|end)_of_turn>|<turn\|>|<\|turn>|<\|tool_response>|<end_of_utterance>"
)
STOPS = {"<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|user|>", "<|observation|>", "<|END_OF_TURN_TOKEN|>", "<|end|>"}
STOPS |= {"<｜end▁of▁sentence｜>", "<|return|>", "<|call|>", "<turn|>", "<end_of_utterance>", "</s>", "<|eot|>"}
STOPS |= {"<|tool_response>"}

CALL = {"type": "function", "function": {"name": "search", "arguments": {"q": "tram"}}}
PARAMETERS = {"type": "object", "properties": {"q": {"type": "string", "description": "words"}}, "required": ["q"]}
TOOLS = [{"type": "function", "function": {"name": "search", "description": "finds", "parameters": PARAMETERS}}]


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def thinking(text: str, thoughts: str) -> dict[str, Any]:
    return assistant(text, reasoning_content=thoughts, thinking=thoughts)


CHATS = {
    "plain": [user("QQ1?"), assistant("One."), user("QQ2?"), assistant("Two."), user("QQ3?"), assistant("Three.")],
    "thoughts in the text": [
        *(user("QQ1?"), assistant("<think>\nHm one\n</think>\n\nOne.")),
        *(user("QQ2?"), assistant("<think>\nHm two\n</think>\n\nTwo.")),
    ],
    "thoughts in a field": [user("QQ1?"), thinking("One.", "Hm one"), user("QQ2?"), thinking("Two.", "Hm two")],
    "calls of tools": [
        *(user("QQ1?"), assistant("", tool_calls=[CALL]), {"role": "tool", "content": "QQ1997", "name": "search"}),
        *(assistant("Two."), user("QQ3?"), assistant("Three.")),
    ],
}
SAYS = {
    "plain": ["One.", "Two.", "Three."],
    "thoughts in the text": ["Hm one One.", "Hm two Two."],
    "thoughts in a field": ["Hm one One.", "Hm two Two."],
    "calls of tools": ["search tram", "Two.", "Three."],
}
NO_FIELD = {"cohere", "cohere2", "gemma", "gemma3", "gemma4", "gemma4_v2", "gemma4_v3", "gemma4_v4", "idefics3"}
NO_FIELD |= {"lfm2", "lfm2_v2", "llama3", "llama3_1", "llama3_2", "llava_next", "phi3", "phi3_5", "qwen2_5"}
NO_FIELD |= {"qwen2_5_vl", "qwen3_instruct_2507", "qwen3_vl", "smolvlm"}
NO_TOOLS = {"cohere", "cohere2", "deepseek_r1_distill", "gemma", "gemma3", "idefics3", "lfm2", "llama3", "llava_next"}
NO_TOOLS |= {"phi3", "phi3_5", "qwen2_5_vl", "smolvlm"}
REFUSED = {"thoughts in a field": NO_FIELD, "calls of tools": NO_TOOLS}


@cache
def tokenizer(name: str) -> tuple[Any, frozenset[int]]:
    """A byte-level tokenizer with a template's special tokens, and those of them that end a generation."""
    template = (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")
    bytes_ = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    inner = Tokenizer(models.BPE(vocab=bytes_, merges=[]))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    marks = sorted(set(MARKS.findall(template)))
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="</s>", additional_special_tokens=marks
    )
    made.chat_template = template
    stops = {"</s>", *marks} & STOPS - ({"<|end|>"} if name == "gptoss" else set())
    return made, frozenset(made.convert_tokens_to_ids(sorted(stops)))


def spans(name: str, kind: str) -> tuple[list[tuple[str, str]], tuple[str, ...]]:
    """The text before each span that is trained and the span's, in the order of the answers; and the remarks."""
    made, stops = tokenizer(name)
    row = encode(Conversation("here", CHATS[kind], tools=TOOLS if "tools" in kind else None), made, stops)
    found = []
    for sequence in (*reversed(row.more), row):
        ids, places = list(sequence.columns["input_ids"]), [int(place) for place in sequence.numbers["spans"]]
        ends = [int(number) for number in sequence.numbers["ends"]]
        for place, token in zip(ends[::2], ends[1::2], strict=True):
            assert ids[place] not in stops
            ids[place] = token  # as it is predicted
        for start, end in zip(places[::2], places[1::2], strict=True):
            assert any(ids[place] in stops for place in range(end - 3, end)), made.decode(ids[start:end])
            found.append((made.decode(ids[:start]), made.decode(ids[start:end])))
    return sorted(found, key=lambda span: span[0].count("QQ")), row.remarks


def test_at_least_25_published_templates_are_tried() -> None:
    assert len(NAMES) >= 25


@pytest.mark.parametrize("kind", CHATS)
@pytest.mark.parametrize("name", NAMES)
def test_each_answer_is_trained_once_with_all_that_the_row_says_and_an_end(name: str, kind: str) -> None:
    if name in REFUSED.get(kind, ()):
        with pytest.raises(UnusableRowError, match=r"leaves out a part of an answer|the chat template failed"):
            spans(name, kind)
        return
    found, _ = spans(name, kind)
    assert len(found) == len(SAYS[kind])
    for (before, trained), says in zip(found, SAYS[kind], strict=True):
        assert re.search(".*".join(map(re.escape, says.split())), trained, re.DOTALL), trained
        assert "QQ" not in trained  # nothing of a prompt
        assert before.count("QQ") == 1 + SAYS[kind].index(says)


@pytest.mark.parametrize("name", ["qwen3", "gptoss", "deepseek_r1_distill", "glm4moe", "phi3", "llama3_1", "smolvlm"])
def test_an_answer_is_trained_as_the_model_would_have_written_it_there(name: str) -> None:
    assert [trained for _, trained in spans(name, "thoughts in the text")[0]] == {
        "qwen3": [f"<think>\nHm {n}\n</think>\n\n{n.title()}.<|im_end|>\n" for n in ("one", "two")],
        "gptoss": [
            f"<|channel|>final<|message|><think>\nHm {n}\n</think>\n\n{n.title()}.<|return|>" for n in ("one", "two")
        ],
        "deepseek_r1_distill": [f"Hm {n}\n</think>\n\n{n.title()}.<｜end▁of▁sentence｜>" for n in ("one", "two")],
        "glm4moe": [f"\n<think>Hm {n}</think>\n{n.title()}.</s>" for n in ("one", "two")],
        "phi3": [
            "<think>\nHm one\n</think>\n\nOne.<|end|>\n",
            "<think>\nHm two\n</think>\n\nTwo.<|end|>\n</s>",
        ],
        "llama3_1": [f"<think>\nHm {n}\n</think>\n\n{n.title()}.<|eot_id|>" for n in ("one", "two")],
        "smolvlm": [f" <think>\nHm {n}\n</think>\n\n{n.title()}.<end_of_utterance>\n" for n in ("one", "two")],
    }[name]


def test_what_a_template_leaves_out_or_rewrites_is_counted() -> None:
    assert spans("llama3", "plain")[1] == ()
    assert spans("qwen3", "plain")[1] == ()
    assert spans("qwen3", "thoughts in a field")[1] == ("answers_rewritten_by_template",)
    assert spans("gptoss", "plain")[1] == (ADDS_TEXT,)  # <|channel|>final<|message|>, which the model writes itself
    assert spans("gptoss", "thoughts in a field")[1] == ("answers_rewritten_by_template", ADDS_TEXT)
    assert spans("deepseek_r1_distill", "thoughts in the text")[1] == (
        *("answers_rewritten_by_template", AS_THE_ROW_SAYS),
    )
    made, stops = tokenizer("phi3")
    chat = [{"role": "developer", "content": "Be brief."}, *CHATS["plain"][:2], assistant(" ")]
    remarks = encode(Conversation("here", chat), made, stops).remarks
    assert remarks == (PROMPT_CHANGED, "answers_empty")


def test_rewritten_answers_can_be_left_out() -> None:
    made, stops = tokenizer("gptoss")
    row = encode(Conversation("here", CHATS["thoughts in a field"]), made, stops, separate=False)
    assert (row.more, row.remarks) == ((), ("answers_left_out", ADDS_TEXT))


def test_an_answer_that_ends_otherwise_in_the_chat_is_trained_there_with_the_end_it_stops_at(
    tmp_path: Path,
) -> None:
    made, stops = tokenizer("gptoss")
    row = encode(Conversation("here", CHATS["plain"]), made, stops)
    (labels,) = SFTCollator(0)([row.columns | row.numbers])["labels"]
    assert row.more == ()
    trained = made.decode([label for label in labels.tolist() if label >= 0])
    assert trained == "".join(f"<|channel|>final<|message|>{n}.<|return|>" for n in ("One", "Two", "Three"))
    assert made.decode(row.columns["input_ids"]).count("<|return|>") == 1
    rules, rows = Rules("stop", "stop", 0.0, None), [Conversation("here", CHATS["plain"])] * 2
    into = tmp_path / "tokens"
    write_tokens(rows, lambda each: encode(each, made, stops), rules, into, what="rows", source=into)
    pack(into, tmp_path / "b", 10_000)
    together = SFTCollator(0, packed=True)(Dataset.from_file(str(tmp_path / "b")).to_list())
    assert together["labels"].tolist() == [labels.tolist() * 2]


@pytest.mark.parametrize("name", NAMES)
def test_both_answers_of_a_pair_are_trained_in_one_form_with_their_thoughts(name: str) -> None:
    made, stops = tokenizer(name)
    chosen, rejected = assistant("<think>\nHm one\n</think>\n\nOne."), assistant("Two.")
    row = preferences.encode(preferences.PreferenceRow("here", [user("QQ1?")], ([chosen], [rejected])), made, stops)
    texts = list(map(made.decode, preferences.answers_of(row.columns | row.numbers)))
    assert "Hm one" in texts[0]
    assert texts[0].partition("One.")[2] == texts[1].partition("Two.")[2] != ""
    assert (AS_THE_ROW_SAYS in row.remarks) == (name in ("deepseek_r1_distill", "deepseekv3"))


def with_template(template: str) -> tuple[Any, frozenset[int]]:
    made, stops = tokenizer("llama3")
    made = copy.deepcopy(made)
    made.chat_template = template
    return made, stops


WITHOUT_END = (  # as SOLAR's
    "{% for m in messages %}### {{ m.role }}:\n{{ m.content }}\n\n{% endfor %}"
    "{% if add_generation_prompt %}### assistant:\n{% endif %}"
)


def test_every_answer_gets_an_end_where_the_template_writes_none() -> None:
    made, stops = with_template(WITHOUT_END)
    row = encode(Conversation("here", CHATS["plain"]), made, stops)
    (labels,) = SFTCollator(0)([row.columns | row.numbers])["labels"]
    trained = made.decode([label for label in labels.tolist() if label >= 0])
    assert trained == "".join(f"{n}.\n\n</s>" for n in ("One", "Two", "Three"))
    assert made.decode(row.columns["input_ids"]).count("</s>") == 1
    assert row.remarks == (END_ADDED,)


TURNS = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|eot_id|>\n{% endfor %}"


def trained_of(row: EncodedRow, made: Any) -> list[str]:
    """What is trained of each of a row's sequences."""
    trained = []
    for one in (*row.more, row):
        (labels,) = SFTCollator(0)([one.columns | one.numbers])["labels"]
        trained.append(made.decode([label for label in labels.tolist() if label >= 0]))
    return trained


def trained_with(template: str) -> tuple[str, tuple[str, ...], list[str]]:
    """What is trained of a chat's answers, its remarks, and both answers of a pair."""
    made, stops = with_template(template)
    row = encode(Conversation("here", CHATS["plain"]), made, stops)
    pair = preferences.PreferenceRow("here", [user("QQ1?")], ([assistant("One.")], [assistant("Two.")]))
    encoded = preferences.encode(pair, made, stops)
    assert (ADDS_TEXT in row.remarks) == (ADDS_TEXT in encoded.remarks)
    texts = [made.decode(ids) for ids in preferences.answers_of(encoded.columns | encoded.numbers)]
    return "".join(trained_of(row, made)), row.remarks, texts


def test_a_header_that_the_generation_prompt_lacks_is_trained_and_counted() -> None:
    trained, remarks, pair = trained_with(TURNS)
    assert trained == "".join(f"<|assistant|>{n}.<|eot_id|>\n" for n in ("One", "Two", "Three"))
    assert pair == ["<|assistant|>One.<|eot_id|>\n", "<|assistant|>Two.<|eot_id|>\n"]
    assert remarks == (ADDS_TEXT,)


@pytest.mark.parametrize("behind", ["Next turn.\n", "{% if not add_generation_prompt %}<|assistant|>{% endif %}"])
def test_words_behind_the_end_of_an_answer_are_not_trained(behind: str) -> None:
    trained, remarks, pair = trained_with(TURNS + "{% if add_generation_prompt %}<|assistant|>{% endif %}" + behind)
    assert [text.strip() for text in trained.split("<|eot_id|>")] == ["One.", "Two.", "Three.", ""]
    assert [text.strip() for text in pair] == ["One.<|eot_id|>", "Two.<|eot_id|>"]
    assert ADDS_TEXT not in remarks


def test_words_between_an_answer_and_its_end_are_trained_and_counted() -> None:
    template = TURNS.replace("{{ m.content }}", "{{ m.content }} (over)")
    trained, remarks, pair = trained_with(template + "{% if add_generation_prompt %}<|assistant|>{% endif %}")
    assert "Three. (over)<|eot_id|>" in trained
    assert pair[1].strip() == "Two. (over)<|eot_id|>"
    assert ADDS_TEXT in remarks


def test_of_answers_of_several_turns_none_lends_its_text_to_another() -> None:
    made, stops = with_template(TURNS + "{% if add_generation_prompt %}<|assistant|>{% endif %}")
    answers = [[assistant("Two."), user("Sure?"), assistant("Yes.")], [assistant("Yes.")]]
    row = preferences.encode(preferences.PreferenceRow("here", [user("QQ1?")], answers), made, stops)
    assert ADDS_TEXT not in row.remarks


EMPTY_THOUGHTS = (  # as Kimi-K2-Thinking's history
    "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>"
    "{% if m.role == 'assistant' %}<think></think>{% endif %}{{ m.content }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>{% endif %}"
)


def test_thoughts_do_not_follow_an_empty_block_of_thoughts() -> None:
    made, stops = with_template(EMPTY_THOUGHTS)
    row = encode(Conversation("here", CHATS["thoughts in the text"]), made, stops)
    assert trained_of(row, made) == [f"<think>\nHm {n}\n</think>\n\n{n.title()}.<|eot_id|>" for n in ("one", "two")]
    assert AS_THE_ROW_SAYS in row.remarks
    plain = encode(Conversation("here", CHATS["plain"]), made, stops)
    assert (plain.more, plain.remarks) == ((), ())
    pair = preferences.PreferenceRow("here", [user("?")], ([assistant("<think>\nHm\n</think>\nA")], [assistant("B")]))
    encoded = preferences.encode(pair, made, stops)
    texts = [made.decode(ids) for ids in preferences.answers_of(encoded.columns | encoded.numbers)]
    assert texts == ["<think>\nHm\n</think>\nA<|eot_id|>", "B<|eot_id|>"]


@pytest.mark.parametrize("name", ["llama3", "qwen2_5", "qwen3"])
def test_time_is_linear_in_the_number_of_turns(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made, stops = tokenizer(name)
    tokenized: list[int] = []
    whole = type(made).__call__

    def counting(self: Any, text: str, **options: Any) -> Any:
        tokenized.append(len(text))
        return whole(self, text, **options)

    monkeypatch.setattr(type(made), "__call__", counting)

    def work(turns: int) -> int:
        tokenized.clear()
        chat = [message for n in range(turns) for message in (user(f"QQ{n}?"), assistant(f"Answer {n}. " * 20))]
        assert len(encode(Conversation("here", chat), made, stops).numbers["spans"]) == 2 * turns
        return sum(tokenized)

    assert work(40) < 4.5 * work(10)
