"""How the reply to each kind of request begins, where generation stops, and what is kept of it.

A base model doesn't end its turn, so the judge stops it: at the expected mark, at a blank line, or at the judge's own
limit of tokens. These finish a reply with "stop"; only the request's ``max_tokens`` finishes it with "length".
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
_LIST_NUMBER = re.compile(r"\s*\d+\.")


@dataclass(frozen=True, slots=True)
class ReplyFormat:
    """Format and stopping criteria of a reply.

    Parameters
    ----------
    limit: largest number of tokens to generate.
    own_limit: whether the limit is the judge's setting rather than the request's ``max_tokens``.
    seed: the beginning of the reply, which the model continues.
    stop: the reply ends before the first match of this; None: no such pattern.
    stop_after: the reply ends after the ``count``-th match of this.
    count: see ``stop_after``.
    cue: text between analysis and rating; None if no options are scored.
    """

    limit: int
    own_limit: bool
    seed: str = ""
    stop: re.Pattern[str] | None = None
    stop_after: re.Pattern[str] | None = None
    count: int = 1
    cue: str | None = None

    def end(self, text: str) -> int | None:
        """Where the generated text (without the seed) ends, or None while it isn't complete."""
        lead = len(text) - len(text.lstrip())
        ends = [m.start() for m in [self.stop.search(text, lead)] if m] if self.stop else []
        if self.stop_after and len(marks := list(self.stop_after.finditer(self.seed + text))) >= self.count:
            ends.append(marks[self.count - 1].end() - len(self.seed))
        return min(ends, default=None)

    def refuses(self, text: str, ended: bool) -> bool:
        """Whether the text violates the format of statements, so that the model must choose another token.

        A statement has words, is on one line and is closed before the next begins. Only with a ``seed``.
        """
        _, opened, statement = (self.seed + text).rpartition(_CLOSE)[2].partition(_OPEN)
        if not self.seed or not opened:
            return False
        words, less, rest = statement.partition("<")
        if ended or "\n" in words or (statement and not words.strip()):
            return True
        return bool(less) and not _CLOSE.startswith(less + rest)

    def finish(self, text: str, ended: bool) -> tuple[str, FinishReason]:
        """The reply's text and finish reason; ``ended`` is False if generation stopped at the limit of tokens."""
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
    """The reply format of a request.

    A chat model begins and ends its turn by itself. For a base model the judge opens the first statement, enforces the
    format of statements, and takes a blank line for the end.
    """
    kind, max_tokens = request.expects.kind, request.max_tokens
    brief, number = settings.brief(chat), settings.most_statements(chat)
    stop = None if chat else _BLANK_LINE
    if request.reply_mode == "logprobs":
        cue = cue_of(request.prompt, request.options)
        if request.material:
            return ReplyFormat(0, True, cue=cue)
        wanted = brief if settings.analysis_tokens is None else settings.analysis_tokens
        ends = [r"\[\["] + ([] if chat else [_BLANK_LINE.pattern])
        if cue.strip() not in untrusted_text(request.prompt):  # else a quotation would end the analysis
            ends.append(rf"\n\s*{re.escape(cue.strip())}")
        stop = re.compile("|".join(ends))
        return ReplyFormat(max_tokens if wanted is None else min(max_tokens, wanted), True, stop=stop, cue=cue)
    if kind == "statements":
        seed = "" if chat else _OPEN
        if number is None:
            return ReplyFormat(max_tokens, False, seed=seed, stop=stop)
        limit = max_tokens if brief is None else min(max_tokens, brief * number)
        return ReplyFormat(limit, limit < max_tokens, seed=seed, stop=stop, stop_after=re.compile(_CLOSE), count=number)
    if kind == "text":
        limit = min(max_tokens, brief or max_tokens)
        return ReplyFormat(limit, limit < max_tokens, stop=stop)
    return ReplyFormat(max_tokens, False, stop_after=_MARK if request.options else None)


def whole_sentences(text: str) -> str:
    """The text up to the end of its last sentence, else of its last whole word; without a partial mark."""
    if text.rfind("[[") > text.rfind("]]"):
        text = text[: text.rfind("[[")].rstrip()
    ends = [m.end() for m in _SENTENCE_END.finditer(text)]
    for end in reversed(ends):
        line = text[text.rfind("\n", 0, end) + 1 : end]
        if not _LIST_NUMBER.fullmatch(line):
            return text[:end]
    words = text.rsplit(maxsplit=1)
    return words[0] if len(words) == 2 else text
