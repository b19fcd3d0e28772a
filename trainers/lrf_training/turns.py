"""Several answers of one chat: which of them one sequence trains, and where they are in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from lrf_training.chat_text import Answer, ChatText, Tokens, is_cut_off, lost
from lrf_training.tokens import Messages, says_something

_SLACK = 16
"""Characters that a template may write more after an earlier answer than after the last."""


@dataclass(frozen=True, slots=True)
class AnswerSequence:
    """A sequence that ends with an answer.

    Parameters
    ----------
    ids: its token ids.
    spans: start, end, start, end, … of the answers that it trains.
    as_written: by the template, the last of them (see :class:`lrf_training.chat_text.Answer`), as all others are.
    cut_off: the last of them has no end.
    """

    ids: list[int]
    spans: list[int]
    as_written: bool
    cut_off: bool = False


def answer_sequences(
    chat: ChatText, messages: Messages, answers: Sequence[int], stop_ids: frozenset[int]
) -> list[AnswerSequence]:
    """Sequences that train each of ``answers`` (indices of messages, ascending) once; the first ends with the last.

    An answer is trained within a longer chat if it is written there as it would be at the end of one, or with all that
    the row says and a token of ``stop_ids``; else at the end of a sequence of its own. Time is linear in the number of
    turns where the template writes each turn alike, whatever follows.

    Raises as :meth:`lrf_training.chat_text.ChatText.answer` does.
    """
    alone = cache(lambda i: chat.answer(messages[:i], messages[i]))
    sequences, left = [], list(answers)
    while left:
        *earlier, last = left
        left = []
        base = alone(last)
        tokens = chat.tokens(base.text)
        spans = _appended(chat, messages[: last + 1], earlier, base.text, alone)
        if spans is None:
            spans = {}
            for i in earlier:
                if (span := _within(chat, alone(i), base.text, tokens, stop_ids, messages[i])) is None:
                    left.append(i)
                else:
                    spans[i] = span
        spans[last] = (base.start, len(base.text))
        # nothing predicts the first token
        places = [(max(1, tokens.until(start)), tokens.until(end)) for start, end in spans.values()]
        flat = [place for start, end in places if start < end for place in (start, end)]
        if flat:
            sequences.append(AnswerSequence(tokens.ids, flat, base.as_written, is_cut_off(messages[last])))
    return sequences


def _appended(
    chat: ChatText, messages: Messages, earlier: Sequence[int], text: str, alone: Callable[[int], Answer]
) -> dict[int, tuple[int, int]] | None:
    """Where all earlier answers are in ``text`` if the template writes each turn alike, whatever follows, else None.

    Each message is looked for after the one before it, an answer with its header and its end as the template writes
    them in a chat of one question; three answers are compared in full.
    """
    spans, place = dict[int, tuple[int, int]](), 0
    for i, message in enumerate(messages[:-1]):
        header, said = "", str(message["content"] or "").strip()
        if message["role"] == "assistant" and says_something(message):
            if (turn := chat.turn(message)) is None:
                return None
            header, said = turn
        found = text.find(header + said, place)
        if found < 0:
            return None
        place = found + len(header + said)
        if i in earlier:
            spans[i] = (found + len(header), place)
    for i in {earlier[0], earlier[len(earlier) // 2], earlier[-1]} if earlier else ():
        answer = alone(i)
        whole = answer.as_written and text.startswith(answer.text)
        if not whole or spans[i] != (answer.start, len(answer.text)):
            return None
    return spans


def _within(
    chat: ChatText, answer: Answer, text: str, tokens: Tokens, stop_ids: frozenset[int], message: dict[str, Any]
) -> tuple[int, int] | None:
    """Where an earlier answer is in the text of a longer chat, in characters; None if it isn't there as it should."""
    if answer.as_written and text.startswith(answer.text):
        return answer.start, len(answer.text)
    if answer.as_written:
        end = chat.diverging(answer.text, text)
        rest = answer.text[end:]  # Phi-3 ends a whole chat with <|endoftext|>
        if end > answer.start and len(rest) <= _SLACK and stop_ids.issuperset(chat.tokens(rest).ids):
            count = tokens.until(end)
            if not stop_ids.isdisjoint(tokens.ids[max(0, count - 4) : count]):
                return answer.start, end
    if not answer.as_written or tokens.ends is None or not text.startswith(answer.prompt):
        return None
    first = tokens.until(len(answer.prompt))
    stop = next((n for n in range(first, len(tokens.ids)) if tokens.ids[n] in stop_ids), None)
    if stop is None:
        return None
    start, end = len(answer.prompt), tokens.ends[stop]
    short = end - start <= len(answer.text) - answer.start + _SLACK
    return (start, end) if short and not lost(message, text[start:end]) else None
