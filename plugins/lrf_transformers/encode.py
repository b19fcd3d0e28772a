"""Prompts to tokens, such that untrusted text can't spell a turn or an end of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_MARK = "\ue000content\ue001"  # private-use characters: no template contains them


class Encoder:
    """A tokenizer with its chat template, if it has one.

    With a chat template the prompt becomes the user's message and the assistant's turn is opened; else the prompt
    is plain text to be continued. Only the template's own words are read as special tokens: ``<eos>`` in a document
    stays five characters.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._chat = chat_frame(tokenizer)
        plain, whole = self._plain("x"), self._template("x", add_special_tokens=True)
        self._start = whole[: whole.index(plain[0])] if plain and plain[0] in whole else []

    @property
    def chat(self) -> bool:
        return self._chat is not None

    def prompt(self, text: str, seed: str = "") -> list[int]:
        """Token ids of the prompt. ``seed`` is the beginning of the reply, put into the judge's mouth."""
        if self._chat is None:
            return self._start + self._plain(text + seed)
        before, after = self._chat
        return self._template(before) + self._plain(text) + self._template(after) + self.continuation(seed)

    def continuation(self, text: str) -> list[int]:
        """Token ids of a text that follows other text: without the space some tokenizers begin a text with."""
        if not text:
            return []
        anchor, both = self._plain("x"), self._plain("x" + text)
        return both[len(anchor) :] if both[: len(anchor)] == anchor else self._plain(text)

    def text(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _plain(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False).input_ids)

    def _template(self, text: str, add_special_tokens: bool = False) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=add_special_tokens, verbose=False).input_ids)


def chat_frame(tokenizer: Any) -> tuple[str, str] | None:
    """What the tokenizer's chat template puts before and after a user's message; None without a template."""
    if not getattr(tokenizer, "chat_template", None):
        return None
    turns = [{"role": "user", "content": _MARK}]
    before, _, after = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True).partition(_MARK)
    return before, after
