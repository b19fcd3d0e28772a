"""Reasoning that a server left in the text of a reply: it is no analysis, and a mark in it is no rating.

A server that knows its model sends reasoning apart; others leave it in the text (vLLM without a reasoning parser,
Ollama, llama.cpp, a model in this process). These forms are recognised, in any case:

- ``<think>…</think>``, and the same with thinking, thought, reasoning, seed:think and others (most models);
- ``[THINK]…[/THINK]`` (Magistral), ``◁think▷…◁/think▷`` (Kimi-VL);
- ``<|begin_of_thought|>…<|end_of_thought|>``, ``<|START_THINKING|>…<|END_THINKING|>`` (Sky-T1, Command A);
- the channels of gpt-oss: ``<|channel|>analysis<|message|>…<|end|>…<|channel|>final<|message|>answer``, also where the
  server dropped the special tokens (``analysis…assistantfinal…``).

Some chat templates (DeepSeek-R1, QwQ) open the block themselves, so the reply has only its end. Untrusted text can't
spell any of these when it reaches the judge (see :mod:`lrf.prompting.escaping`), so they are always the judge's own.
"""

from __future__ import annotations

import re
from dataclasses import replace

from lrf.prompting.requests import Reply

_NAME = r"(?:think(?:ing)?|thoughts?|reasoning|reflection|scratchpad|(?:seed|mm):think|longcat_think)"
_SPECIAL_BEGIN = r"<\|(?:begin_of_thought|start_thinking|think)\|>"
_SPECIAL_END = r"<\|(?:end_of_thought|end_thinking|/think)\|>"
_BEGIN = re.compile(rf"<{_NAME}>|\[think(?:ing)?\]|◁think(?:ing)?▷|{_SPECIAL_BEGIN}", re.IGNORECASE)
_END = re.compile(rf"</{_NAME}>|\[/think(?:ing)?\]|◁/think(?:ing)?▷|{_SPECIAL_END}", re.IGNORECASE)
_ANSWER_TAGS = re.compile(r"<\|(?:begin_of_solution|end_of_solution|start_response|end_response)\|>", re.IGNORECASE)
_ENDS_WITH_A_MARK = re.compile(r"(?:[\]］】]{2}|</statement>|\})[\s.。*_]{0,20}\Z", re.IGNORECASE)
_CHANNEL = r"(analysis|commentary|final)\b[^<\n]{0,200}<\|message\|>"
_CHANNELS = re.compile(rf"\s*+(?:<\|start\|>assistant)?\s*+(?:<\|channel\|>)?\s*+{_CHANNEL}")
_MESSAGE = re.compile(rf"{_CHANNEL}((?:(?!<\|(?:end|return|call|start|channel)\|>).)*)", re.DOTALL)
_TAG = re.compile(rf"<(?:/?{_NAME}>|\|)", re.IGNORECASE)
_BARE_CHANNELS = re.compile(r"\s*analysis(?=\S)(.*?)assistant\s?final(.*)", re.DOTALL)
_MOST_TURNS = 8


def _may_hold_thoughts(text: str) -> bool:
    """Whether the text has a part of any form. Most replies have none, and this look is many times quicker."""
    if "[t" in text or "[T" in text or "[/" in text or "◁" in text or text.lstrip().startswith("analysis"):
        return True
    return "<" in text and _TAG.search(text) is not None


def without_thoughts(reply: Reply) -> Reply:
    """The reply with the reasoning in its text moved to ``reasoning``; reasoning that doesn't end leaves no text.

    A block ends at its first end. An end before any block ends a block that the chat template opened, unless nothing
    follows it and the text before is a finished answer (it ends with a mark, or the server sent reasoning apart).
    Other stray ends are dropped. What is left may itself have a form of reasoning, which is taken out in turn; after
    eight turns the rest is reasoning, too. Applying this twice changes nothing.
    """
    if not _may_hold_thoughts(reply.text):
        return reply
    for _ in range(_MOST_TURNS):
        text, thoughts = _channels_apart(reply.text)
        if _BEGIN.search(text) or _END.search(text):
            text, blocks = _blocks_apart(text, stray_end=bool(reply.reasoning))
            thoughts += blocks
        if text == reply.text:
            return reply
        reply = replace(reply, text=text.lstrip(), reasoning=_joined(reply.reasoning, *thoughts))
    return replace(reply, text="", reasoning=_joined(reply.reasoning, reply.text))


def _joined(reasoning: str | None, *thoughts: str) -> str | None:
    return "\n".join(t for t in (reasoning, *(t.strip() for t in thoughts)) if t) or None


def _channels_apart(text: str) -> tuple[str, list[str]]:
    """(text of the final channel, texts of the others); the text as it is if it has no channels."""
    if _CHANNELS.match(text):
        messages = [(m[1], m[2]) for m in _MESSAGE.finditer(text)]
        return "".join(t for name, t in messages if name == "final"), [t for name, t in messages if name != "final"]
    if bare := _BARE_CHANNELS.match(text):
        return bare[2], [bare[1]]
    return text, []


def _is_finished(text: str, end: re.Match[str], stray_end: bool) -> bool:
    return not text[end.end() :].strip() and (stray_end or _ENDS_WITH_A_MARK.search(text, 0, end.start()) is not None)


def _blocks_apart(text: str, *, stray_end: bool) -> tuple[str, list[str]]:
    """(text without its blocks of reasoning and without stray ends, texts of the blocks)."""
    text = _ANSWER_TAGS.sub("\n", text)
    thoughts: list[str] = []
    end, begin = _END.search(text), _BEGIN.search(text)
    if end and not (begin and begin.start() < end.start()) and not _is_finished(text, end, stray_end):
        thoughts.append(text[: end.start()])
        text = text[end.end() :]
    kept: list[str] = []
    at = 0
    while begin := _BEGIN.search(text, at):
        end = _END.search(text, begin.end())
        before = text[at : begin.start()]
        if end is None:
            if before.strip() or any(k.strip() for k in kept):  # no block: the judge speaks of the tag
                break
            thoughts.append(text[begin.end() :])
            return "", thoughts
        kept.append(before)
        thoughts.append(text[begin.end() : end.start()])
        at = end.end()
    return _END.sub("\n", "".join((*kept, text[at:]))).strip(), thoughts
