"""Prompts as a chat template wrote them: which part is the user's turn, and which the answer.

Trainers often hand on nothing but such a text. The formats are those of the usual open models.
"""

from __future__ import annotations

from typing import NamedTuple

from lrf.errors import DataError


class _Format(NamedTuple):
    """What opens the user's turn, what may end it, and what opens the assistant's."""

    user: str
    end: str
    assistant: str


_FORMATS = (
    _Format("<|im_start|>user\n", "<|im_end|>", "<|im_start|>assistant\n"),
    _Format("<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>",
            "<|start_header_id|>assistant<|end_header_id|>\n\n"),
    _Format("<start_of_turn>user\n", "<end_of_turn>", "<start_of_turn>model\n"),
    _Format("[INST]", "", "[/INST]"),
    _Format("<|user|>\n", "<|end|>", "<|assistant|>"),
    _Format("<｜User｜>", "", "<｜Assistant｜>"),
)  # fmt: skip
_LAST_TOKENS = (
    "<|im_end|>", "<|eot_id|>", "<|end|>", "<|endoftext|>", "<|end_of_text|>", "<|user|>", "<|return|>", "<|eom_id|>",
    "</s>", "<eos>", "<end_of_turn>", "<｜end▁of▁sentence｜>",
)  # fmt: skip
_ELSE = 'name document and question instead: {"document_ids": […], "query": …}'


def user_turn(prompt: str) -> str:
    """What the user says in a prompt with one turn of the user; a text without a chat's marks is the turn itself.

    Raises :class:`lrf.errors.DataError` for a prompt with several turns.
    """
    chat, turn = _chat_and_turn(prompt)
    if chat is None:
        return prompt
    before, opened, after = turn.rpartition(chat.assistant)
    if opened and after.strip():
        raise DataError(f"prompt: text follows the mark {chat.assistant.strip()!r}, so it is no prompt; {_ELSE}")
    return _without_end(before if opened else turn, chat)


def prompt_and_answer(text: str) -> tuple[str, str]:
    """The user's turn and the assistant's answer of a whole chat with one turn of each.

    Raises :class:`lrf.errors.DataError` for a text with several turns or without marks.
    """
    chat, turn = _chat_and_turn(text)
    if chat is None or chat.assistant not in turn:
        marks = ", ".join(repr(f.user.strip()) for f in _FORMATS)
        raise DataError(f"messages: no marks of a chat template that lrf knows ({marks}), so the answer isn't found")
    before, _, answer = turn.partition(chat.assistant)
    return _without_end(before, chat), answer_text(answer)


def answer_text(answer: str) -> str:
    """The answer without the tokens that end a turn."""
    without = len(answer)
    while token := next((token for token in _LAST_TOKENS if answer.endswith(token, 0, _end(answer, without))), ""):
        without = _end(answer, without) - len(token)
    return answer if without == len(answer) else answer[: _end(answer, without)]


def _end(text: str, end: int) -> int:
    """Where the text before this place ends without white space."""
    while end and text[end - 1].isspace():
        end -= 1
    return end


def _chat_and_turn(text: str) -> tuple[_Format | None, str]:
    """The chat's format, and what follows the mark of the user's only turn."""
    chat = next((f for f in _FORMATS if f.user in text), None)
    if chat is None:
        return None, text
    if (turns := text.count(chat.user)) > 1:
        raise DataError(
            f"prompt: the mark {chat.user.strip()!r} is in it {turns} times, so the turns aren't clear; {_ELSE}"
        )
    return chat, text.partition(chat.user)[2]


def _without_end(turn: str, chat: _Format) -> str:
    turn = turn.rstrip()
    return turn.removesuffix(chat.end) if chat.end else turn
