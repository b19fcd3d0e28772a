"""What an error means, by the provider's codes, the status, and the words: the one place that classifies errors.

What follows from a class is decided in :mod:`lrf.engine.retries`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from lrf.http.error_bodies import ErrorBody

_LOOKED_AT = 4_000  # characters of a message


class ErrorClass(Enum):
    """What an error says about the request, the server, or the account."""

    WAIT = auto()  # ask again later
    BUSY = auto()  # the server failed; another attempt may succeed
    KEY = auto()  # the key is missing or wrong: no request can succeed
    CREDIT = auto()  # no credit or quota left: no request can succeed
    STOP = auto()  # no request can succeed, for another reason
    SETUP = auto()  # no request can succeed, unless others already have: unknown model, path or parameter
    CONTEXT = auto()  # this request is longer than the model takes
    REFUSED = auto()  # this request, or all of this form


@dataclass(frozen=True, slots=True)
class ErrorCodes:
    """Codes in a provider's error bodies that say more than the status does, in lower case.

    ``wait``: ask again later. ``stop``: no request can succeed. ``setup``: likewise, unless others have succeeded
    before. ``reject``: this request can't be served. ``context``: it is longer than the model takes. ``busy``: the
    server failed, worth another attempt. ``context_statuses``: statuses that mean, where the body says nothing else,
    that the request is longer than the model takes. ``hints``: what the user can do about a code.
    """

    wait: frozenset[str] = frozenset()
    stop: frozenset[str] = frozenset()
    setup: frozenset[str] = frozenset()
    reject: frozenset[str] = frozenset()
    context: frozenset[str] = frozenset()
    busy: frozenset[str] = frozenset()
    context_statuses: frozenset[int] = frozenset()
    hints: Mapping[str, str] = field(default_factory=dict)


def _any_of(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns))


_CONTEXT = _any_of(
    r"(max(imum)?|model'?s?) (context|input|sequence|prompt)[ _](length|size|window)",
    r"context[ _](length|window|size)",
    r"exceed_context|max_model_len|max_seq_len|max_input_(tokens|length)|max_position_embeddings|num_ctx|n_ctx",
    r"\b(prompt|inputs?|messages?|request|query|text|conversation) (is|are|was|were) \w{0,10} ?too long",
    r"(prompt|input) (length|tokens?|token count)[^.]{0,60}(exceed|(long|larg|great)er than|more than|over )",
    r"too many (input |prompt )?tokens",
    r"(exceed|longer than|more than)[^.]{0,60}(max|limit)[^.]{0,40}\btokens?\b",
    r"\btokens?\b[^.]{0,60}(exceed|longer than|more than)[^.]{0,60}(max|limit|context|window)",
    r"must have less than \d+ tokens|reduce (the )?(length of|your prompt|the prompt|prompt)",
    r"string_above_max_length|string too long",
    r"上下文|(输入|提示|prompt|请求|文本).{0,16}(超长|过长|超过|超出)|(超过|超出).{0,20}(长度|token|上限|限制)",
)
_TOO_LARGE_TO_WAIT = _any_of(r"request too large", r"maximum context length")  # waiting would never help
_CREDIT = _any_of(
    r"insufficient[ _](balance|credits?|quota|funds?|account)",
    r"(no|not enough|more|out of|low|lacks?|zero|negative) credits?\b",
    r"credits?( balance)? (is|are|was|were|has|have|exhausted|depleted|required)",
    r"arrears|payment required|billing[ _](hard|not)|spending limit|余额|欠费",
)
_A_KEY = r"(api|access|auth|secret)[ _-]?(key|token)"
_KEY = _any_of(
    _A_KEY + r"[^.]{0,60}(invalid|incorrect|not valid|wrong|missing|expired|revoked|disabled|required|not found)",
    r"\b(invalid|incorrect|wrong|missing|expired|bad|no|unknown|revoked|malformed|not a valid)[^.]{0,40}\b"
    r"(api[ _-]?key|access[ _-]?(key|token)|auth\w*[ _-]?(key|token|header)|credentials?|bearer)",
    r"unauthenticated|unauthori[sz]ed|not (authenticated|authori[sz]ed)|authentication[ _](fail|error|required)",
    r"\b(sign|log)[ -]?in\b|鉴权|密钥.{0,20}(无效|错误|过期|不存在)|身份验证|未授权",
)
_WAIT = _any_of(
    r"rate[ _-]?limit|too[ _]many[ _](concurrent|requests)|throttl|requests? per (minute|second|day|hour|min)\b",
    r"tokens per (minute|day|min)\b|slow ?down|resource[ _]exhausted|quota[ _](exceeded|exhausted)",
    r"\bqps\b|(request|concurrency) limit",
    r"请求过于频繁|频率|限流|并发",
)
_BUSY = _any_of(
    r"overload|unavailable|(try|retry)( again)?[ ,]*(later|in \d|in a|after|shortly|soon)|temporar|timed?[ _-]?out",
    r"(internal|server|backend|gateway|network|connection)[ _](server[ _])?error|upstream|bad gateway",
    r"at capacity|over capacity|no capacity|\bbusy\b|maintenance|connection (refused|reset|closed)|no healthy",
    r"(is|still) (loading|starting|warming)|loading model|out of memory|not ready|\boutage\b|going down|down for",
    r"繁忙|稍后|重试|超时|维护|内部错误|服务.{0,8}(不可用|异常)",
)

_LATER = frozenset({408, 409, 425})
_NEVER = frozenset({451, 501, 505})  # "unavailable" for legal reasons, and what the server doesn't implement


def class_of(status: int | None, body: ErrorBody, codes: ErrorCodes) -> ErrorClass:
    """The class of an error. ``status`` is that of the answer, or the one in a body of status 200; None without one."""
    return _by_codes(body, codes) or _by_words(status, body) or _by_status(status, codes)


def _by_codes(body: ErrorBody, codes: ErrorCodes) -> ErrorClass | None:
    known = (
        (codes.stop, ErrorClass.STOP),
        (codes.setup, ErrorClass.SETUP),
        (codes.context, ErrorClass.CONTEXT),
        (codes.reject, ErrorClass.REFUSED),
        (codes.wait, ErrorClass.WAIT),
        (codes.busy, ErrorClass.BUSY),
    )
    given = next((kind for listed, kind in known if body.codes & listed), None)
    if given in (ErrorClass.REFUSED, ErrorClass.SETUP) and _CONTEXT.search(_said(body)):
        return ErrorClass.CONTEXT  # one code for many faults of a request: the words say which
    if given is ErrorClass.WAIT and _TOO_LARGE_TO_WAIT.search(_said(body)):
        return ErrorClass.CONTEXT
    if given is ErrorClass.REFUSED and _CREDIT.search(_said(body)):
        return ErrorClass.CREDIT
    return given


def _by_words(status: int | None, body: ErrorBody) -> ErrorClass | None:
    said = _said(body)
    if status == 401:
        return ErrorClass.KEY
    if status == 402 or _CREDIT.search(said):
        return ErrorClass.CREDIT
    if status in _NEVER:
        return ErrorClass.REFUSED
    if status == 429:
        return ErrorClass.CONTEXT if _TOO_LARGE_TO_WAIT.search(said) else ErrorClass.WAIT
    if status is not None and status >= 500:
        return ErrorClass.CONTEXT if _CONTEXT.search(said) else ErrorClass.BUSY
    words = (
        (_WAIT, ErrorClass.WAIT),
        (_CONTEXT, ErrorClass.CONTEXT),
        (_BUSY, ErrorClass.BUSY),
        (_KEY, ErrorClass.KEY),
    )
    return next((kind for pattern, kind in words if pattern.search(said)), None)


def _by_status(status: int | None, codes: ErrorCodes) -> ErrorClass:
    if status is None or status in _LATER:
        return ErrorClass.BUSY
    if status in codes.context_statuses:
        return ErrorClass.CONTEXT
    return ErrorClass.SETUP if status in (404, 405) else ErrorClass.REFUSED


def _said(body: ErrorBody) -> str:
    return " ".join((body.message[:_LOOKED_AT], *sorted(body.codes))).lower()
