"""Answers of a chat as its template writes them: what of it is trained, and whether all that the row says is there."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from lrf_training.tokens import Messages, UnusableRowError, common_prefix

Ids = list[int]
Form = Callable[[dict[str, Any]], dict[str, Any]]

_REASONING = ("reasoning_content", "reasoning", "thinking")
"""Fields of a message for its thoughts, by different templates."""

_TAG_AT_END = re.compile(r"<[^<>\s]+>\s*\Z")
_TAGS = re.compile(r"</?think>")
_MARK = re.compile(r"<[^<>]*>|\[[^\[\]]*\]")

AS_THE_ROW_SAYS = "answers_written_as_the_row_says"
"""Remark on a row with an answer of which the chat template leaves out a part."""

AS_THE_ROW_SAYS_NOTE = (
    "in {} rows the chat template leaves out a part of an answer (its thoughts, say); the row's own text is trained, "
    "after the template's generation prompt"
)

ADDS_TEXT = "answers_with_text_of_the_template"
"""Remark on a row with an answer that is trained with words of the chat template."""

ADDS_TEXT_NOTE = (
    "in {} rows the chat template writes something of its own with an answer (a header that its generation prompt "
    "lacks, say); it is trained with the answer, as the model would have to write it"
)

LEAVES_OUT = "the chat template leaves out a part of an answer"

PROMPT_CHANGED = "prompts_changed_by_template"
"""Remark on a row with a prompt of which the chat template leaves out a part."""

PROMPT_CHANGED_NOTE = "in {} rows the chat template leaves out or changes a part of the prompt (the system's, say)"


class ChatText:
    """A chat template that writes the parts of ``chat``, which may use ``tools``.

    Templates differ in the form of messages that they write: arguments of calls as an object or as a text, no content
    as null or as an empty text, thoughts in the content or in a field, content as a text or as a list of parts. The
    first form is taken of which the template leaves out nothing; ``whole`` is whether all prompts are there then.
    """

    def __init__(self, tokenizer: Any, tools: Any, chat: Messages) -> None:
        self.tokenizer, self.options = tokenizer, {"tools": tools} if tools else {}
        self.form, text = self._form_for(chat)
        squeezed = _squeezed(text)
        self.whole = not text or not any(_lost(message, squeezed) for message in chat if message["role"] != "assistant")

    def text(self, chat: Messages, *, prompt: bool = False) -> str:
        """The chat, with ``prompt`` the generation prompt after it.

        Raises :class:`lrf_training.tokens.UnusableRowError` if the template fails.
        """
        try:
            return self._render(chat, self.form, prompt)
        except Exception as error:  # a template is a program: it may raise anything
            raise UnusableRowError(f"the chat template failed: {error}", "set another chat_template") from error

    def _render(self, chat: Messages, form: Form, prompt: bool) -> str:
        rendered: str = self.tokenizer.apply_chat_template(
            [form(message) for message in chat], tokenize=False, add_generation_prompt=prompt, **self.options
        )
        return rendered

    def _form_for(self, chat: Messages) -> tuple[Form, str]:
        """The first form of messages of which the template leaves out nothing, or with which it works; and the text."""
        works = None
        for form in _FORMS:
            with suppress(Exception):  # see `text`, which raises it if the template fails with every form
                text = self._render(chat, form, False)
                if _is_whole(chat, text):
                    return form, text
                works = works or (form, text)
        return works or (_FORMS[0], "")

    @cached_property
    def _endings(self) -> tuple[str, str]:
        """What the template writes after an answer, and of that what is trained.

        Words, or the header of another answer, stand behind the first mark: it alone is trained then.
        """
        answer = "An answer that is 1 of a kind."
        try:
            written = self.text([{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}])
        except UnusableRowError:
            return "", ""
        whole = written.partition(answer)[2]
        if "assistant" not in whole and not _has_words(whole):
            return whole, whole
        mark = _MARK.search(whole)
        return whole, whole[: mark.end()] if mark else ""

    def _until_end(self, text: str) -> str:
        """A text that ends with an answer, without the words that the template writes behind its end."""
        whole, trained = self._endings
        return text.removesuffix(whole) + trained if whole != trained and text.endswith(whole) else text

    def adds_text(self, message: Mapping[str, Any], text: str) -> bool:
        """Whether what is trained of an answer has more than it says, white space, tags of thoughts and a mark.

        Calls of tools are written in each template's own words, so that an answer with them has none of its own.
        """
        content, ending = str(message.get("content") or "").strip(), self._endings[1]
        text = text.removesuffix(ending)
        if not content or content not in text or message.get("tool_calls"):
            return False
        before = text.rpartition(content)[0]
        for thoughts in (message[name] for name in _REASONING if isinstance(message.get(name), str)):
            before = before.replace(thoughts.strip(), "")
        return bool(_squeezed(_TAGS.sub("", before))) or _has_words(ending)

    def tokens(self, text: str) -> Tokens:
        """The tokens of a rendered text."""
        if not self.tokenizer.is_fast:
            return Tokens(self._ids(text), None, lambda end: self._ids(text[:end]))
        encoding = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return Tokens(list(encoding["input_ids"]), [end for _, end in encoding["offset_mapping"]], self._ids)

    def _ids(self, text: str) -> Ids:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def answer(self, before: Messages, answer: dict[str, Any]) -> Answer:
        """An answer after ``before``, as the template ends a chat with it.

        Where the template leaves out a part of the answer, the answer is written as the row says. Raises
        :class:`lrf_training.tokens.UnusableRowError` where that can't be done.
        """
        prompt = self.text(before, prompt=True)
        text = _without_end(self._until_end(self.text([*before, answer])), answer)
        start = self.diverging(prompt, text)
        if says_it(answer, text[start:]):
            return Answer(prompt, text, start, as_written=True)
        return Answer(prompt, self._as_the_row_says(prompt, answer), len(prompt), as_written=False)

    def answers(self, before: Messages, answers: Sequence[Messages]) -> tuple[Ids, list[Ids], list[str]]:
        """Token ids of a prompt, and of the chats with each of several answers; remarks.

        If the template leaves out a part of one, all are written as the row says, so that they don't differ in form.
        Raises as :meth:`answer` does.
        """
        prompt = self.text(before, prompt=True)
        texts = [_without_end(self._until_end(self.text([*before, *answer])), answer[-1]) for answer in answers]
        endings = [text[self.diverging(prompt, text) :] for text in texts]
        said = [(message, ending) for answer, ending in zip(answers, endings, strict=True) for message in answer]
        as_written = all(says_it(message, ending) for message, ending in said)
        if not as_written:
            for message, ending in said if any(len(answer) > 1 for answer in answers) else ():
                _refuse(lost(message, ending))
            texts = [self._as_the_row_says(prompt, answer[0]) for answer in answers]
            endings = [text[len(prompt) :] for text in texts]
        adds = any(
            len(answer) == 1 and self.adds_text(answer[-1], ending)
            for answer, ending in zip(answers, endings, strict=True)
        )
        remarks = [AS_THE_ROW_SAYS] * (not as_written) + [ADDS_TEXT] * adds
        return self._ids(prompt), [self._ids(text) for text in texts], remarks

    def _as_the_row_says(self, prompt: str, answer: dict[str, Any]) -> str:
        tag, spoken = _TAG_AT_END.search(prompt), self._spoken(answer)
        if tag and spoken.lstrip().startswith(tag[0].strip()):  # the prompt has begun the thoughts already
            spoken = spoken.lstrip().removeprefix(tag[0].strip()).lstrip("\n")
        _refuse(_lost(answer, _squeezed(spoken)))
        return prompt + spoken + ("" if is_cut_off(answer) else self._endings[1] or self.tokenizer.eos_token or "")

    def _spoken(self, answer: Mapping[str, Any]) -> str:
        """An answer's thoughts, if the template knows their tags, and its content as one text."""
        content = str(answer.get("content") or "")
        thoughts = next((answer[name] for name in _REASONING if answer.get(name)), None)
        if thoughts is None or "</think>" not in str(self.tokenizer.chat_template):
            return content
        return f"<think>\n{thoughts}\n</think>\n\n{content}"

    def turn(self, message: dict[str, Any]) -> tuple[str, str] | None:
        """Header and text with end of an answer in a chat of one question; None if that isn't all that it says."""
        question = [{"role": "user", "content": "?"}]
        try:
            before, prompt = self.text(question), self.text(question, prompt=True)
            text = self._until_end(self.text([*question, message]))
        except UnusableRowError:
            return None
        start = self.diverging(prompt, text)
        header, said = text[common_length(before, text) : start], text[start:]
        return (header, said) if says_it(message, said) else None

    def diverging(self, prompt: str, text: str) -> int:
        """Where ``text`` begins to differ from ``prompt``, which may be its beginning; never within a token."""
        if text.startswith(prompt):
            return len(prompt)
        place = common_length(prompt, text)
        first = max(0, place - 64)
        for part in (prompt, text) if self.tokenizer.is_fast else ():
            near = self.tokenizer(part[first : place + 64], add_special_tokens=False, return_offsets_mapping=True)
            for start, end in near["offset_mapping"]:
                if start < place - first < end:
                    place = first + start
        return place


@dataclass(frozen=True, slots=True)
class Answer:
    """A chat that ends with an answer.

    Parameters
    ----------
    prompt: the chat before it, with the generation prompt.
    text: the chat with the answer.
    start: where the answer begins in ``text``.
    as_written: by the template, and not from the row's own text because the template leaves a part out.
    """

    prompt: str
    text: str
    start: int
    as_written: bool


@dataclass(frozen=True, slots=True)
class Tokens:
    """A text's token ids; ``ends`` are the characters at which they end, None if the tokenizer doesn't tell."""

    ids: Ids
    ends: Sequence[int] | None
    tokenize_until: Callable[[Any], Ids]

    def until(self, character: int) -> int:
        """Number of tokens that end at or before a character of the text."""
        if self.ends is not None:
            return bisect_right(self.ends, character)
        return common_prefix(self.tokenize_until(character), self.ids)


def common_length(a: str, b: str) -> int:
    """Length of the longest common prefix of two texts."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def says_it(message: Mapping[str, Any], text: str) -> bool:
    """Whether a text has all that a message says, and no second block of thoughts beside it (an empty one, say)."""
    thoughts = str(message.get("content") or "").count("</think>")
    return not lost(message, text) and text.count("</think>") <= max(thoughts, 1)


def lost(message: Mapping[str, Any], text: str) -> list[str]:
    """Parts of what a message says (content, thoughts, calls of tools) that a text lacks; white space doesn't count."""
    return _lost(message, _squeezed(text))


def _lost(message: Mapping[str, Any], squeezed: str) -> list[str]:
    """As :func:`lost`, for a text without white space."""
    missing, place = [], 0
    for part in _TAGS.split(message.get("content") or ""):
        at = squeezed.find(_squeezed(part), place)
        if at < 0:
            missing.append(part)
        else:
            place = at + len(_squeezed(part))
    thoughts = {message[name] for name in _REASONING if isinstance(message.get(name), str)}
    calls = list(_said_in_calls(message.get("tool_calls") or ()))
    return missing + [part for part in (*thoughts, *calls) if not _written(part, squeezed)]


def _said_in_calls(calls: Any) -> Iterator[str]:
    for call in calls:
        function = call.get("function", call) if isinstance(call, Mapping) else {}
        yield str(function.get("name") or "")
        yield from _leaves(_as_object(function.get("arguments")))


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | Sequence):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _leaves(item)


def _written(part: str, squeezed: str) -> bool:
    """Whether a text has a part: as it is, or as JSON writes it."""
    forms = (part, json.dumps(part)[1:-1], json.dumps(part, ensure_ascii=False)[1:-1])
    return any(_squeezed(form) in squeezed for form in forms)


def _has_words(ending: str) -> bool:
    """Whether there are words outside the marks of an answer's end."""
    return any(map(str.isalnum, _MARK.sub("", ending)))


def _squeezed(text: str) -> str:
    return "".join(text.split())


CUT_OFF = "answers_cut_off"
"""Remark on a row with an answer that was cut off: it is trained without an end."""

CUT_OFF_NOTE = "{} rows have an answer that was cut off at max_tokens (on_cut_off: keep); no end is trained after it"


def is_cut_off(message: Mapping[str, Any]) -> bool:
    """Whether an answer has no end, since it was as long as it may be."""
    return bool(message.get("cut_off"))


def _without_end(text: str, answer: Mapping[str, Any]) -> str:
    """A chat's text without what the template writes after an answer that was cut off."""
    content = str(answer.get("content") or "").strip()
    place = text.rfind(content) if is_cut_off(answer) and content else -1
    return text if place < 0 else text[: place + len(content)]


def _refuse(lost: Sequence[str]) -> None:
    if lost:
        raise UnusableRowError(LEAVES_OUT, f"lost is {shown(lost[0])!r}; set a chat_template that writes it")


def shown(text: str) -> str:
    """A text on one line, shortened for a message."""
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:57]}…"


def _is_whole(chat: Messages, text: str) -> bool:
    """Whether a chat's text has all of its prompts, calls of tools and its last answer, and no thoughts twice.

    Thoughts of earlier answers are left out by many templates, as they are when the model is used.
    """
    squeezed = _squeezed(text)
    for i, message in enumerate(chat):
        spoken = message["role"] != "assistant" or message.get("tool_calls") or i == len(chat) - 1
        if spoken and _lost(message, squeezed):
            return False
    tags = sum(str(message["content"]).count("</think>") for message in chat)
    return text.count("</think>") <= max(tags, len([m for m in chat if m["role"] == "assistant"]))


def _form(message: dict[str, Any], *, arguments: Callable[[Any], Any], empty: Any, parts: str) -> dict[str, Any]:
    """A message in the form that some templates want; see :data:`_FORMS`."""
    message = {name: value for name, value in message.items() if name != "cut_off"}
    if calls := message.get("tool_calls"):
        message["tool_calls"] = [
            {**call, "function": {**call["function"], "arguments": arguments(call["function"].get("arguments"))}}
            if isinstance(call, Mapping) and isinstance(call.get("function"), Mapping)
            else call
            for call in calls
        ]
        message["content"] = message["content"] or empty
    if parts == "thoughts" and message["role"] == "assistant":
        thoughts, tag, content = (message["content"] or "").partition("</think>")
        if tag:
            message |= {"reasoning_content": thoughts.partition("<think>")[2].strip(), "content": content.lstrip()}
    if parts == "list":
        message["content"] = [{"type": "text", "text": message["content"] or ""}]
    return message


def _as_is(arguments: Any) -> Any:
    return arguments


def _as_object(arguments: Any) -> Any:
    if not isinstance(arguments, str):
        return arguments
    try:
        value = json.loads(arguments)
    except ValueError:
        return arguments
    return value if isinstance(value, dict) else arguments


def _as_text(arguments: Any) -> Any:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


_FORMS: tuple[Form, ...] = tuple(
    partial(_form, arguments=arguments, empty=empty, parts=parts)
    for parts in ("as they are", "thoughts", "list")
    for empty in ("", None)
    for arguments in (_as_is, _as_object, _as_text)
)
