"""Several answers of one chat: which of them one sequence trains, and where they are in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from lrf_training.chat_text import Answer, ChatText, Tokens, is_cut_off, says_it
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
    adds_text: the template writes something of its own with the last.
    ends: position, token, position, token, … of answers that end otherwise in the chat than a model ends them (gpt-oss
        writes ``<|return|>``, and the chat has ``<|end|>`` there): what is to be predicted at a span's last token.
    """

    ids: list[int]
    spans: list[int]
    as_written: bool
    cut_off: bool = False
    adds_text: bool = False
    ends: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an answer is in a text, in characters; ``end_token`` is predicted after it, if the text has another."""

    start: int
    end: int
    end_token: int | None = None


def answer_sequences(
    chat: ChatText, messages: Messages, answers: Sequence[int], stop_ids: frozenset[int]
) -> list[AnswerSequence]:
    """Sequences that train each of ``answers`` (indices of messages, ascending) once; the first ends with the last.

    An answer is trained within a longer chat if it is written there as it would be at the end of one, but perhaps for
    the token of ``stop_ids`` at its end, or with all that the row says and one of them; else at the end of a sequence
    of its own. Time is linear in the number of turns where the template writes each turn alike, whatever follows.

    Raises as :meth:`lrf_training.chat_text.ChatText.answer` does.
    """
    alone = cache(lambda i: chat.answer(messages[:i], messages[i]))
    sequences, left = [], list(answers)
    while left:
        *earlier, last = left
        left = []
        base = alone(last)
        tokens = chat.tokens(base.text)
        places = _appended(chat, messages[: last + 1], earlier, base.text, alone)
        if places is None:
            places = {}
            for i in earlier:
                if (place := _within(chat, alone(i), base.text, tokens, stop_ids, messages[i])) is None:
                    left.append(i)
                else:
                    places[i] = place
        places[last] = _Place(base.start, len(base.text))
        spans, ends = _in_tokens(places.values(), tokens)
        if spans:
            flags = is_cut_off(messages[last]), chat.adds_text(messages[last], base.text[base.start :])
            sequences.append(AnswerSequence(tokens.ids, spans, base.as_written, *flags, ends))
    return sequences


def _in_tokens(places: Iterable[_Place], tokens: Tokens) -> tuple[list[int], list[int]]:
    """The ``spans`` and ``ends`` of :class:`AnswerSequence`."""
    spans, ends = list[int](), list[int]()
    for place in places:
        start, end = max(1, tokens.until(place.start)), tokens.until(place.end)  # nothing predicts the first token
        if start >= end:
            continue
        if place.end_token is not None:
            ends += (end, place.end_token)
            end += 1
        spans += (start, end)
    return spans, ends


def _appended(
    chat: ChatText, messages: Messages, earlier: Sequence[int], text: str, alone: Callable[[int], Answer]
) -> dict[int, _Place] | None:
    """Where all earlier answers are in ``text`` if the template writes each turn alike, whatever follows, else None.

    Each message is looked for after the one before it, an answer with its header and its end as the template writes
    them in a chat of one question; three answers are compared in full.
    """
    places, place = dict[int, _Place](), 0
    for i, message in enumerate(messages[:-1]):
        header, said = "", str(message["content"] or "").strip()
        if message["role"] == "assistant" and says_something(message):
            if (turn := chat.turn(message)) is None:
                return None
            header, said = turn
        at = text.find(header + said, place)
        if at < 0:
            return None
        place = at + len(header + said)
        if i in earlier:
            places[i] = _Place(at + len(header), place)
    for i in {earlier[0], earlier[len(earlier) // 2], earlier[-1]} if earlier else ():
        answer = alone(i)
        whole = answer.as_written and text.startswith(answer.text)
        if not whole or places[i] != _Place(answer.start, len(answer.text)):
            return None
    return places


def _within(
    chat: ChatText, answer: Answer, text: str, tokens: Tokens, stop_ids: frozenset[int], message: dict[str, Any]
) -> _Place | None:
    """Where an earlier answer is in the text of a longer chat; None if it isn't there as it should."""
    if answer.as_written and text.startswith(answer.text):
        return _Place(answer.start, len(answer.text))
    if answer.as_written and (place := _with_another_end(chat, answer, text, tokens, stop_ids)) is not None:
        return place
    if not answer.as_written or tokens.ends is None or not text.startswith(answer.prompt):
        return None
    first = tokens.until(len(answer.prompt))
    stop = next((n for n in range(first, len(tokens.ids)) if tokens.ids[n] in stop_ids), None)
    if stop is None:
        return None
    start, end = len(answer.prompt), tokens.ends[stop]
    short = end - start <= len(answer.text) - answer.start + _SLACK
    return _Place(start, end) if short and says_it(message, text[start:end]) else None


def _with_another_end(
    chat: ChatText, answer: Answer, text: str, tokens: Tokens, stop_ids: frozenset[int]
) -> _Place | None:
    """Where an answer is in a longer chat that has all of it, but for a token that would stop the model there."""
    end = chat.diverging(answer.text, text)
    rest = answer.text[end:]
    if end <= answer.start or len(rest) > _SLACK or not stop_ids.issuperset(last := chat.tokens(rest).ids):
        return None
    count = tokens.until(end)
    if not stop_ids.isdisjoint(tokens.ids[max(0, count - 4) : count]):
        return _Place(answer.start, end)  # Phi-3 ends a whole chat with one more, <|endoftext|>
    if len(last) == 1 and tokens.ends is not None and tokens.ends[count - 1] == end and count < len(tokens.ids):
        return _Place(answer.start, end, last[0])
    return None
