"""``pairs.jsonl`` and ``lists.jsonl`` to token ids: a pair is a list of two."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lrf.errors import StageError
from lrf_training.chat_text import CUT_OFF, PROMPT_CHANGED, ChatText, is_cut_off
from lrf_training.rounding import ROUNDING
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

PROMPT_ENDS_CHANGED = "prompt_ends_changed"
UNSCORED = "unscored_answers"
EMPTY = "empty_answers"
SAME = "same_answers"
TOO_LONG = "too_long_answers"
"""Remarks on rows: counted in the trainer's result."""

_MEND = "mend the row, or set on_bad_pair: drop and max_lost"


@dataclass(frozen=True, slots=True)
class PreferenceRow:
    """A prompt with its answers, as chat messages, and their rewards.

    Parameters
    ----------
    where: locates the row in errors.
    answers: at least two; of a pair, the chosen one comes first.
    rewards: one for each answer; None for one that has none. A pair has 1 and 0: which is better is all that it says.
    tools: definitions for the chat template, if any.
    pair: whether the row is a pair, where both answers are needed.
    """

    where: str
    prompt: Messages
    answers: Sequence[Messages]
    rewards: Sequence[float | None] = (1.0, 0.0)
    tools: Any = None
    pair: bool = True

    @property
    def messages(self) -> Messages:
        return [*self.prompt, *(message for answer in self.answers for message in answer)]


def read_pairs(path: Path, prompt_template_sha256: str | None = None) -> Iterator[PreferenceRow]:
    """The pairs of ``path`` in order.

    Raises :class:`lrf.errors.StageError` if a row isn't a pair, or if its prompt was rendered with another prompt
    template than the pipeline's (``prompt_template_sha256``; None accepts any).
    """
    for where, row in _read(path, prompt_template_sha256):
        prompt, chosen, rejected = (messages(row, name, where) for name in ("prompt", "chosen", "rejected"))
        yield PreferenceRow(where, prompt, (chosen, rejected), tools=row.get("tools"))


def read_lists(path: Path, prompt_template_sha256: str | None = None) -> Iterator[PreferenceRow]:
    """The ranked lists of ``path`` in order; raises what :func:`read_pairs` does."""
    for where, row in _read(path, prompt_template_sha256):
        candidates = row.get("candidates")
        if not isinstance(candidates, list) or not all(isinstance(each, dict) for each in candidates):
            raise StageError(f"{where}: candidates must be a list of objects, each with messages and a reward")
        answers = [messages(each, "messages", where) for each in candidates]
        rewards = [_reward(each.get("reward"), where) for each in candidates]
        yield PreferenceRow(where, messages(row, "prompt", where), answers, rewards, row.get("tools"), pair=False)


def _read(path: Path, prompt_template_sha256: str | None) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for where, row in read_jsonl(path, missing="run the stage `pairs` first"):
        made_with = row.get("prompt_template_sha256")
        if None not in (made_with, prompt_template_sha256) and made_with != prompt_template_sha256:
            raise StageError(
                f"{where}: the prompt was made with the template {made_with}, but the pipeline's "
                f"policy.prompt_template is {prompt_template_sha256}; run the stage `pairs` again, or put the old "
                "template back"
            )
        yield where, row


def _reward(value: Any, where: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise StageError(f"{where}: a candidate's reward must be a finite number or null; got {value!r}")
    return float(value)


def encode(
    row: PreferenceRow, tokenizer: Any, stop_ids: frozenset[int] = frozenset(), *, margin: float = 0.0
) -> EncodedRow:
    """Token ids of prompt and answers, as :func:`token_row` lays them out.

    Some templates end a prompt differently if an answer follows (with an empty block of thoughts, say). The answers
    then begin where the token ids differ, and the row gets the remark "prompt_ends_changed". If the template writes no
    token of ``stop_ids`` after an answer, the end-of-sequence token is added, with the remark "end_of_turn_added". From
    a list, answers without a reward, empty ones, and those equal to a better one are left out, each with a remark, and
    with ``within`` those that are too long.
    Further remarks: "answers_cut_off" (no end is trained then), "answers_written_as_the_row_says",
    "answers_with_text_of_the_template", "prompts_changed_by_template".

    Raises :class:`lrf_training.tokens.UnusableRowError`, also if no two rewards of a list differ by ``margin``.
    """
    if not row.answers:
        raise UnusableRowError("there are no answers", _MEND)
    chat = ChatText(tokenizer, row.tools, row.prompt + list(row.answers[0]))
    prompt, chats, chat_remarks = chat.answers(row.prompt, row.answers)
    start = min(common_prefix(prompt, each) for each in chats)
    tokens = start + sum(len(each) - start for each in chats)
    answers = [each[start:] for each in chats]
    ended = [
        answer if is_cut_off(messages[-1]) or not stop_ids else with_end(answer, tokenizer, stop_ids)
        for answer, messages in zip(answers, row.answers, strict=True)
    ]
    ids, rewards, remarks = _usable(row, ended if all(answers) else answers, tokens)
    if not start or not all(ids) or len(set(map(tuple, ids))) < len(ids):
        raise UnusableRowError(
            "through the chat template, prompt and answers can't be told apart",
            "look at the chat template, or set on_bad_pair: drop and max_lost",
            tokens,
        )
    if not _differ(rewards, margin):
        raise UnusableRowError("no two rewards differ enough", f"lower margin ({margin:g}), or set max_lost", tokens)
    remarks += [PROMPT_ENDS_CHANGED] if start < len(prompt) else []
    remarks += chat_remarks + [PROMPT_CHANGED] * (not chat.whole)
    remarks += [CUT_OFF] * any(is_cut_off(answer[-1]) for answer in row.answers)
    remarks += [END_ADDED] if ended != answers else []
    encoded = _encoded(chats[0][:start], ids, rewards, remarks)
    if row.pair:
        return encoded

    def within(limit: int) -> EncodedRow | None:
        fitting = [n for n, answer in enumerate(ids) if start + len(answer) <= limit]
        kept = [rewards[n] for n in fitting]
        if len(fitting) < 2 or not _differ(kept, margin):
            return None
        left_out = [TOO_LONG] * (len(ids) - len(fitting))
        return _encoded(chats[0][:start], [ids[n] for n in fitting], kept, remarks + left_out)

    return replace(encoded, within=within)


def _encoded(
    prompt: list[int], answers: Sequence[list[int]], rewards: Sequence[float], remarks: Sequence[str]
) -> EncodedRow:
    columns, numbers = token_row(prompt, answers, rewards)
    longest = len(prompt) + max(map(len, answers))
    return EncodedRow(columns, longest=longest, remarks=tuple(remarks), numbers=numbers)


def _differ(rewards: Sequence[float], margin: float) -> bool:
    """Whether any two rewards differ by ``margin``, but for rounding, and at all."""
    return max(rewards) - min(rewards) >= max(margin, 2 * ROUNDING) - ROUNDING


def _usable(
    row: PreferenceRow, ids: Sequence[list[int]], tokens: int
) -> tuple[list[list[int]], list[float], list[str]]:
    """Token ids and rewards of the answers that can be trained on, best first; a remark for each of the others."""
    empty = [not any(map(says_something, answer)) for answer in row.answers]
    if row.pair:
        for name, is_empty in zip(("chosen", "rejected"), empty, strict=True):
            if is_empty:
                raise UnusableRowError(f"the {name} answer is empty", _MEND, tokens)
        if row.answers[0] == row.answers[1]:
            raise UnusableRowError("chosen and rejected are the same", _MEND, tokens)
        return list(ids), [reward for reward in row.rewards if reward is not None], []
    usable: list[tuple[list[int], float]] = []
    remarks: list[str] = []
    scored = [(reward, n) for n, reward in enumerate(row.rewards) if reward is not None]
    for reward, n in sorted(scored, key=lambda each: -each[0]):
        if empty[n] or any(ids[n] == better for better, _ in usable):
            remarks.append(EMPTY if empty[n] else SAME)
        else:
            usable.append((ids[n], reward))
    remarks += [UNSCORED] * (len(row.answers) - len(scored))
    if len(usable) < 2:
        raise UnusableRowError("fewer than two different answers with a reward", _MEND, tokens)
    return [answer for answer, _ in usable], [reward for _, reward in usable], remarks


def token_row(
    prompt: list[int], answers: Sequence[list[int]], rewards: Sequence[float] = (1.0, 0.0)
) -> tuple[dict[str, list[int]], dict[str, list[float]]]:
    """A row's columns of token ids, and of numbers. :func:`answers_of` gets the answers back.

    >>> token_row([1, 2], [[3, 4], [5]])
    ({'prompt_ids': [1, 2], 'answer_ids': [3, 4, 5]}, {'answer_lengths': [2.0, 1.0], 'rewards': [1.0, 0.0]})
    """
    columns = {"prompt_ids": prompt, "answer_ids": [token for answer in answers for token in answer]}
    return columns, {"answer_lengths": [float(len(answer)) for answer in answers], "rewards": list(rewards)}


def answers_of(row: Mapping[str, Any]) -> list[list[int]]:
    """Token ids of each answer of a row of :func:`token_row`."""
    answers, start = [], 0
    for length in map(int, row["answer_lengths"]):
        answers.append(row["answer_ids"][start : start + length])
        start += length
    return answers
