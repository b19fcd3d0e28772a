"""``pairs.jsonl`` to token ids."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrf.errors import StageError
from lrf_training.chat_text import AS_THE_ROW_SAYS, PROMPT_CHANGED, ChatText
from lrf_training.tokens import (
    END_ADDED,
    EncodedRow,
    Messages,
    UnusableRowError,
    common_prefix,
    messages,
    read_jsonl,
    says_something,
    with_end,
)


@dataclass(frozen=True, slots=True)
class PreferenceRow:
    """A prompt with a chosen and a rejected answer, as chat messages.

    ``where`` locates the row in errors; ``tools`` are definitions for the chat template, if any.
    """

    where: str
    prompt: Messages
    chosen: Messages
    rejected: Messages
    tools: Any = None

    @property
    def messages(self) -> Messages:
        return [*self.prompt, *self.chosen, *self.rejected]


def read(path: Path, prompt_template_sha256: str | None = None) -> Iterator[PreferenceRow]:
    """The rows of ``path`` in order.

    Raises :class:`lrf.errors.StageError` if a row isn't a pair, or if its prompt was rendered with another prompt
    template than the pipeline's (``prompt_template_sha256``; None accepts any).
    """
    for where, row in read_jsonl(path, missing="run the stage `pairs` first"):
        made_with = row.get("prompt_template_sha256")
        if None not in (made_with, prompt_template_sha256) and made_with != prompt_template_sha256:
            raise StageError(
                f"{where}: the prompt was made with the template {made_with}, but the pipeline's "
                f"policy.prompt_template is {prompt_template_sha256}; run the stage `pairs` again, or put the old "
                "template back"
            )
        prompt, chosen, rejected = (messages(row, name, where) for name in ("prompt", "chosen", "rejected"))
        yield PreferenceRow(where, prompt, chosen, rejected, row.get("tools"))


def encode(pair: PreferenceRow, tokenizer: Any, stop_ids: frozenset[int] = frozenset()) -> EncodedRow:
    """Token ids of prompt and answers: ``prompt_ids``, ``chosen_ids`` and ``rejected_ids``.

    Some templates end a prompt differently if an answer follows (with an empty block of thoughts, say). The answer
    then begins where the token ids differ, and the row gets the remark "prompt_ends_changed". If the template writes
    no token of ``stop_ids`` after an answer, the end-of-sequence token is added, with the remark "end_of_turn_added".
    Further remarks: "answers_written_as_the_row_says", "prompts_changed_by_template".

    Raises :class:`lrf_training.tokens.UnusableRowError`.
    """
    chat = ChatText(tokenizer, pair.tools, pair.prompt + pair.chosen)
    prompt, (chosen, rejected), as_written = chat.answers(pair.prompt, (pair.chosen, pair.rejected))
    start = min(common_prefix(prompt, chosen), common_prefix(prompt, rejected))
    row = {"prompt_ids": chosen[:start], "chosen_ids": chosen[start:], "rejected_ids": rejected[start:]}
    tokens, mend = sum(map(len, row.values())), "mend the row, or set on_bad_pair: drop and max_lost"
    for name, answer in (("chosen", pair.chosen), ("rejected", pair.rejected)):
        if not any(map(says_something, answer)):
            raise UnusableRowError(f"the {name} answer is empty", mend, tokens)
    if pair.chosen == pair.rejected:
        raise UnusableRowError("chosen and rejected are the same", mend, tokens)
    if not start or not row["chosen_ids"] or not row["rejected_ids"] or row["chosen_ids"] == row["rejected_ids"]:
        raise UnusableRowError(
            "through the chat template, prompt and answers can't be told apart",
            "look at the chat template, or set on_bad_pair: drop and max_lost",
            tokens,
        )
    remarks = ["prompt_ends_changed"] if start < len(prompt) else []
    remarks += [AS_THE_ROW_SAYS] * (not as_written) + [PROMPT_CHANGED] * (not chat.whole)
    if stop_ids:
        ended = {name: with_end(row[name], tokenizer, stop_ids) for name in ("chosen_ids", "rejected_ids")}
        remarks += [END_ADDED] if any(row[name] != ids for name, ids in ended.items()) else []
        row |= ended
    longest = start + max(len(row["chosen_ids"]), len(row["rejected_ids"]))
    return EncodedRow(row, longest=longest, remarks=tuple(remarks))
