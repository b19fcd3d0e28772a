"""Conversations to token ids and spans of answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lrf.errors import StageError
from lrf_training.chat_text import ADDS_TEXT, AS_THE_ROW_SAYS, CUT_OFF, PROMPT_CHANGED, ChatText
from lrf_training.tokens import (
    END_ADDED,
    EncodedRow,
    Messages,
    UnusableRowError,
    messages,
    read_jsonl,
    says_something,
    with_end,
)
from lrf_training.turns import AnswerSequence, answer_sequences


@dataclass(frozen=True, slots=True)
class Conversation:
    """Chat messages; those of the assistant from index ``start`` on are trained.

    ``where`` locates the row in errors; ``tools`` are definitions for the chat template, if any.
    """

    where: str
    messages: Messages
    start: int = 0
    tools: Any = None


def read(path: Path) -> Iterator[Conversation]:
    """The rows of a source in order. Raises :class:`lrf.errors.StageError` if a row isn't a conversation."""
    for where, row in read_jsonl(path, missing="give the path of a JSONL file of conversations"):
        if "messages" in row:
            yield Conversation(where, messages(row, "messages", where), tools=row.get("tools"))
        elif "prompt" in row and "completion" in row:
            prompt = _as_messages(row, "prompt", "user", where)
            yield Conversation(
                where, prompt + _as_messages(row, "completion", "assistant", where), len(prompt), row.get("tools")
            )
        else:
            raise StageError(
                f"{where}: expected `messages`, or `prompt` and `completion`; got {', '.join(sorted(row)) or 'nothing'}"
            )


def read_pairs(path: Path, prompt_template_sha256: str) -> Iterator[Conversation]:
    """The chosen answers of the run's pairs in order. Raises :class:`lrf.errors.StageError`."""
    for where, row in read_jsonl(path, missing="run the stage `pairs` first"):
        made_with = row.get("prompt_template_sha256")
        if made_with is not None and made_with != prompt_template_sha256:
            raise StageError(
                f"{where}: the prompt was made with the template {made_with}, but the pipeline's "
                f"policy.prompt_template is {prompt_template_sha256}; run `pairs` again, or put the old template back"
            )
        prompt = messages(row, "prompt", where)
        yield Conversation(where, prompt + messages(row, "chosen", where), len(prompt), row.get("tools"))


def _as_messages(row: Mapping[str, Any], name: str, role: str, where: str) -> Messages:
    text = row[name]
    return [{"role": role, "content": text}] if isinstance(text, str) else messages(row, name, where)


def encode(
    row: Conversation, tokenizer: Any, stop_ids: frozenset[int] = frozenset(), *, separate: bool = True
) -> EncodedRow:
    """Token ids (``input_ids``) of a conversation and the ``spans`` of its answers: start, end, start, end, …

    ``ends`` are position, token, position, token, … where a span's last token is to be another than the conversation
    has there (:class:`lrf_training.turns.AnswerSequence`).

    A span begins after the template's generation prompt and includes what the template writes after the answer (the
    end-of-turn token). If it writes no token of ``stop_ids``, the next one is trained where it ends generation (as
    GLM's ``<|user|>`` does); else the end-of-sequence token is predicted there, and added after the last answer.

    An earlier answer of which the template leaves something out once more turns follow (its thoughts, say) gets a
    sequence of its own, which ends with it; these are the row's ``more``. Without ``separate`` it isn't trained.

    Remarks: "answers_rewritten_by_template" or "answers_left_out" for each such answer; "answers_with_weight_0";
    "answers_empty"; "prompts_changed_by_template"; "answers_written_as_the_row_says";
    "answers_with_text_of_the_template"; "end_of_turn_added".

    Raises :class:`lrf_training.tokens.UnusableRowError` if no answer is left to train on, or if what the row says
    can't be written with the template.
    """
    turns = [i for i in range(row.start, len(row.messages)) if row.messages[i]["role"] == "assistant"]
    speaking = [i for i in turns if says_something(row.messages[i])]
    answers = [i for i in speaking if row.messages[i].get("weight") != 0]
    chat = ChatText(tokenizer, row.tools, row.messages)
    if not answers:
        mend, tokens = "mend the row, or set on_bad_row: drop and max_lost", chat.tokens(chat.text(row.messages))
        raise UnusableRowError("there is no answer to train on", mend, len(tokens.ids))
    sequences = answer_sequences(chat, row.messages, answers, stop_ids)
    if not sequences:
        raise UnusableRowError(
            "through the chat template, no answer can be told apart",
            "look at the chat template, or set on_bad_row: drop and max_lost",
            len(chat.tokens(chat.text(row.messages)).ids),
        )
    last, *more = [_sequence(sequence, tokenizer, stop_ids) for sequence in sequences]
    rewritten = sum(len(sequence.spans) // 2 for sequence in sequences[1:])
    remarks = ["answers_rewritten_by_template" if separate else "answers_left_out"] * rewritten
    remarks += [PROMPT_CHANGED] * (not chat.whole)
    remarks += ["answers_with_weight_0"] * (len(speaking) - len(answers))
    remarks += ["answers_empty"] * (len(turns) - len(speaking))
    return replace(last, remarks=(*remarks, *last.remarks), more=tuple(more) if separate else ())


def _sequence(sequence: AnswerSequence, tokenizer: Any, stop_ids: frozenset[int]) -> EncodedRow:
    spans, ends = [*sequence.spans], [*sequence.ends]
    whole = _with_ends(sequence, spans, ends, tokenizer, stop_ids)
    added = len(whole) > len(sequence.ids) or len(ends) > len(sequence.ends)
    said = {
        CUT_OFF: sequence.cut_off,
        AS_THE_ROW_SAYS: not sequence.as_written,
        ADDS_TEXT: sequence.adds_text,
        END_ADDED: added,
    }
    return EncodedRow(
        {"input_ids": whole},
        longest=len(whole),
        remarks=tuple(remark for remark, so in said.items() if so),
        numbers={"spans": list(map(float, spans)), "ends": list(map(float, ends))},
    )


def _with_ends(
    sequence: AnswerSequence, spans: list[int], ends: list[int], tokenizer: Any, stop_ids: frozenset[int]
) -> list[int]:
    """Extend spans (and ``ends``) of answers without an end, in place; the token ids, with an end after the last."""
    ids = sequence.ids
    for n in range(1, len(spans), 2):
        start, end = spans[n - 1 : n + 1]
        if end == len(ids) or end - 1 in sequence.ends[::2] or not stop_ids.isdisjoint(ids[start:end][-4:]):
            continue
        if ids[end] in stop_ids:
            spans[n] = end + 1
        elif stop_ids and tokenizer.eos_token_id is not None:
            spans[n] = end + 1
            ends += (end, tokenizer.eos_token_id)
    if sequence.cut_off or not stop_ids or spans[-1] < len(ids):
        return ids
    whole = [*ids[: spans[-2]], *with_end(ids[spans[-2] :], tokenizer, stop_ids)]
    spans[-1] = len(whole)
    return whole
