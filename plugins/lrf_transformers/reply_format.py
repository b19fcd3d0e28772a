"""What is generated for each kind of request: how it begins, where it stops, and how it is brought to its form.

A base model never ends by itself, so the judge ends its reply: at the mark it was asked for, at a blank line, or at
the judge's own limit of tokens. All of these count as a finished reply ("stop"); only the request's ``max_tokens``
makes it cut short ("length").
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lrf.prompting.labels import cue_of
from lrf.prompting.requests import FinishReason, Request
from lrf.prompting.templates import untrusted_text
from lrf_transformers.settings import TransformersSettings

_OPEN, _CLOSE = "<statement>", "</statement>"
_BLANK_LINE = re.compile(r"\n[ \t]*\n")
_MARK = re.compile(r"\[\[[^\[\]\n]*\]\]")
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|[。！？]")
_LIST_NUMBER = re.compile(r"(?:^|\n)\s*\d+\.\Z")


@dataclass(frozen=True, slots=True)
class ReplyFormat:
    """How one request is generated.

    Parameters
    ----------
    seed: the beginning of the reply, given to the model and a part of the reply.
    limit: most tokens to generate.
    own_limit: the limit is the judge's setting, not the request's ``max_tokens``.
    stop: where the text first matching this begins, the reply ends; None: nowhere.
    stop_after: the reply ends after the ``count``-th match of this.
    count: see ``stop_after``.
    cue: what stands between an analysis and the rating; None where no options are weighed.
    """

    limit: int
    own_limit: bool
    seed: str = ""
    stop: re.Pattern[str] | None = None
    stop_after: re.Pattern[str] | None = None
    count: int = 1
    cue: str | None = None

    def end(self, text: str) -> int | None:
        """Where the generated text (without the seed) is complete, or None while it isn't."""
        lead = len(text) - len(text.lstrip())
        found = [m.start() for m in [self.stop.search(text, lead)] if m] if self.stop else []
        if self.stop_after and len(marks := list(self.stop_after.finditer(self.seed + text))) >= self.count:
            found.append(marks[self.count - 1].end() - len(self.seed))
        return min(found) if found else None

    def refuses(self, text: str, ended: bool) -> bool:
        """Whether a model held to statements (see ``seed``) must write something else than this.

        A statement has words, is on one line and is closed before the next begins.
        """
        _, opened, statement = (self.seed + text).rpartition(_CLOSE)[2].partition(_OPEN)
        if not self.seed or not opened:
            return False
        words, less, rest = statement.partition("<")
        if ended or "\n" in words or (statement and not words.strip()):
            return True
        return bool(less) and not _CLOSE.startswith(less + rest)

    def finish(self, text: str, ended: bool) -> tuple[str, FinishReason]:
        """The reply's text and why it ended; ``ended`` is False when the limit of tokens came first."""
        whole = self.seed + text.strip() if self.seed else text.strip()
        if ended:
            return whole, "stop"
        if not self.own_limit:
            return whole, "length"
        if self.stop_after is None:
            return whole_sentences(whole), "stop"
        complete = whole.rfind(_CLOSE) + len(_CLOSE)
        return (whole[:complete], "stop") if _CLOSE in whole else (whole_sentences(whole) + _CLOSE, "stop")


def reply_format(request: Request, settings: TransformersSettings, chat: bool) -> ReplyFormat:
    """The form for a request.

    A chat model begins and ends its turn by itself. For a base model the judge opens the first statement, holds it
    to the form of statements, and takes a blank line for the end.
    """
    kind, most = request.expects.kind, request.max_tokens
    brief, number = settings.brief(chat), settings.most_statements(chat)
    stop = None if chat else _BLANK_LINE
    if request.reply_mode == "logprobs":
        cue = cue_of(request.prompt, request.options)
        wanted = brief if settings.analysis_tokens is None else settings.analysis_tokens
        ends = [r"\[\["] + ([] if chat else [_BLANK_LINE.pattern])
        if cue.strip() not in untrusted_text(request.prompt):  # else a quotation would end the analysis
            ends.append(rf"\n\s*{re.escape(cue.strip())}")
        stop = re.compile("|".join(ends))
        return ReplyFormat(most if wanted is None else min(most, wanted), True, stop=stop, cue=cue)
    if kind == "statements":
        seed = "" if chat else _OPEN
        if number is None:
            return ReplyFormat(most, False, seed=seed, stop=stop)
        limit = most if brief is None else min(most, brief * number)
        return ReplyFormat(limit, limit < most, seed=seed, stop=stop, stop_after=re.compile(_CLOSE), count=number)
    if kind == "text":
        limit = min(most, brief or most)
        return ReplyFormat(limit, limit < most, stop=stop)
    return ReplyFormat(most, False, stop_after=_MARK if request.options else None)


def whole_sentences(text: str) -> str:
    """The text up to its last sentence's end, else its last whole word; never with half a mark at its end."""
    if text.rfind("[[") > text.rfind("]]"):
        text = text[: text.rfind("[[")].rstrip()
    ends = [m.end() for m in _SENTENCE_END.finditer(text)]
    ends = [end for end in ends if not _LIST_NUMBER.search(text[:end])]
    if ends:
        return text[: ends[-1]]
    words = text.rsplit(maxsplit=1)
    return words[0] if len(words) == 2 else text
