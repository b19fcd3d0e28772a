"""Thoughts that a server left in the text of a reply. They are no analysis, and a mark in them is no rating.

Models that think write ``<think>…</think>`` before their answer. A server that knows the model takes it out; others
(vLLM without a reasoning parser, Ollama, llama.cpp, a model in this process) leave it in the text. The chat templates
of some (DeepSeek-R1, QwQ) have opened the block already, so that only its end stands in the reply.
"""

from __future__ import annotations

import re
from dataclasses import replace

from lrf.prompting.requests import Reply
from lrf.prompting.templates import Prompt

_BEGIN = re.compile(r"\s*<think(?:ing)?>")
_END = re.compile(r"</think(?:ing)?>")
_LIKE_AN_END = re.compile(r"/\s*think(?:ing)?\b", re.IGNORECASE)


def without_thoughts(reply: Reply, prompt: Prompt) -> Reply:
    """The reply with the thoughts that its text begins with moved to ``reasoning``; thoughts without end leave no text.

    They end at the last end of a block. But where the judged text holds what looks like one, an end may be a quotation,
    which must not make the judge's own words before it disappear: then only a block counts that the reply itself opens
    with, up to its first end. Doing this twice changes nothing.
    """
    text = reply.text
    if "</think" not in text and not _BEGIN.match(text):
        return reply
    ends = [m.end() for m in _END.finditer(text)]
    quotable = ends and any(_LIKE_AN_END.search(segment.text) for segment in prompt if not segment.trusted)
    end = ends[-1] if ends and not quotable else 0
    while begin := _BEGIN.match(text, end):
        closing = _END.search(text, begin.end())
        end = closing.end() if closing else len(text)
    if not end:
        return reply
    thoughts = (reply.reasoning, _tags_off(text[:end]))
    return replace(reply, text=text[end:].lstrip(), reasoning="\n".join(t for t in thoughts if t) or None)


def _tags_off(block: str) -> str:
    """The block without its own tags; those within belong to the thoughts."""
    begin = _BEGIN.match(block)
    inner = block[begin.end() :] if begin else block
    ends = list(_END.finditer(inner))
    return (inner[: ends[-1].start()] if ends and ends[-1].end() == len(inner) else inner).strip()
