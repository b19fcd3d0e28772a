"""The errors of calls over HTTP: their class by status, code and kind of failure, and their words for people."""

from __future__ import annotations

import json
import math
import os
import time
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Any

from lrf.errors import (
    BadReplyError,
    ContextTooSmallError,
    JudgeError,
    JudgeMisconfiguredError,
    RateLimitedError,
    RejectedError,
    TimedOutError,
    UnavailableError,
)
from lrf.http import transport
from lrf.http.error_bodies import ErrorBody, page_text, read_error, reads_as_error
from lrf.http.error_classes import ErrorClass, ErrorCodes, class_of
from lrf.http.named_settings import settings_named
from lrf.http.settings import EndpointSettings
from lrf.http.usage import read_usage
from lrf.prompting.requests import Usage
from lrf.text.redaction import redact

_QUOTED = 300  # characters of a server's words in an error

_LONG_S = 900.0  # a longer wait that a server asks for is told
_VAGUE = frozenset({200, 400, 500})  # a status in the body says more than these
_NOT_WORKED_ON = frozenset({501, 503, 505, 521, 522, 523, 525, 526, 529, 530})  # refused, overloaded, or never reached


@dataclass(frozen=True, slots=True)
class EndpointErrors:
    """Makes the errors of one endpoint. They quote the server's words, without secrets (:mod:`lrf.text.redaction`)."""

    endpoint: EndpointSettings
    codes: ErrorCodes = field(default_factory=ErrorCodes)

    def of_transport(self, error: Exception, sending: transport.Sending) -> JudgeError:
        where, words = self.where, self.quote(error)
        if isinstance(error, transport.TooLongError):
            most = f"{self.endpoint.max_reply_mb:g} MB (`max_reply_mb`)"
            return BadReplyError(f"{where}: the reply is longer than {most}")
        if isinstance(error, transport.CertificateError):
            return JudgeMisconfiguredError(
                f"{where}: the server's certificate is not trusted: {words}; the environment variable SSL_CERT_FILE "
                "can name a file of certificates to trust"
            )
        if isinstance(error, transport.ConnectError):
            return UnavailableError(f"{where}: can't connect ({words}); is the server up?")
        return UnavailableError(f"{where}: the connection broke ({words})", sent=sending.begun)

    def timed_out(self, limit_s: float, sending: transport.Sending) -> TimedOutError:
        return TimedOutError(f"{self.where}: no reply within {limit_s:g} s", sent=sending.begun)

    def of_answer(self, answer: transport.HttpResponse) -> JudgeError:
        if 300 <= answer.status < 400:
            to = self.quote(answer.headers.get("location", "another address"))
            return JudgeMisconfiguredError(
                f"{self.where}: the server redirects to {to}; set `base_url` to the right address"
            )
        return self.of_status(answer.status, json_or_text(answer.body), answer.headers)

    def of_body(self, value: Any, headers: Mapping[str, str] = MappingProxyType({})) -> JudgeError:
        """The error in the body of an answer with status 200."""
        return self._classified(200, value, headers)

    def of_status(self, status: int, value: Any, headers: Mapping[str, str] = MappingProxyType({})) -> JudgeError:
        """The error for a status of 400 or more and its body, which is parsed JSON or text."""
        return self._classified(status, value, headers)

    def of_page(self, body: str) -> JudgeError:
        """The error for a web page with status 200, where a reply should be."""
        said = ErrorBody(message=page_text(body))
        message = f"{self.where}: the server answered with a web page: {self.quote(said.message)}"
        if class_of(None, said, self.codes) is ErrorClass.KEY:
            return JudgeMisconfiguredError(f"{message}; {self._at_sign_in()}", certain=False)
        return BadReplyError(f"{message}; check `base_url` (most end in /v1)")

    def of_other_json(self, value: Any, problem: str) -> JudgeError:
        """The error for JSON that is no reply: the error that it words, else that it lacks what ``problem`` says."""
        if reads_as_error(value):
            return self.of_body(value)
        start = self.quote(read_error(value).message)
        return billed(BadReplyError(f"{self.where}: the reply is JSON, but {problem}: {start}"), read_usage(value))

    def _classified(self, answered: int, value: Any, headers: Mapping[str, str]) -> JudgeError:
        body = read_error(value)
        status = body.status if answered in _VAGUE and body.status else answered
        kind = class_of(status if status >= 400 else None, body, self.codes)
        within = f", but an error{f' ({status})' if status >= 400 else ''}" if answered == 200 else ""
        message = f"{self.where}: status {answered}{within}: {self.quote(body.message) or 'no reason given'}"
        return billed(self._of_class(kind, status, message, body, headers), read_usage(value))

    def _of_class(
        self, kind: ErrorClass, status: int, message: str, body: ErrorBody, headers: Mapping[str, str]
    ) -> JudgeError:
        known = self.codes.hints
        hint = next((known[code] for code in sorted(body.codes) if code in known), "")
        wait_s = retry_after(headers)
        wait_s = body.retry_after_s if wait_s is None else wait_s
        if wait_s is not None and wait_s >= _LONG_S:
            message += f" (it asks to wait {wait_s / 3600:.3g} h)"
        if kind is ErrorClass.WAIT:
            return RateLimitedError(message, retry_after_s=wait_s)
        if kind is ErrorClass.BUSY:
            worked = status < 400 or (
                status >= 500 and status not in _NOT_WORKED_ON
            )  # it failed on the way, maybe late
            return UnavailableError(message, retry_after_s=wait_s, sent=worked)
        if kind is ErrorClass.CONTEXT:
            return ContextTooSmallError(message)
        if kind is ErrorClass.REFUSED:
            return RejectedError(message, hint=hint or self._hint(kind, status, body))
        certain = kind in (ErrorClass.STOP, ErrorClass.CREDIT) or status == 401
        return JudgeMisconfiguredError(message + _then(hint or self._hint(kind, status, body)), certain=certain)

    def _hint(self, kind: ErrorClass, status: int, body: ErrorBody) -> str:
        """What the user can do about an error that hits every request."""
        endpoint = self.endpoint
        if kind is ErrorClass.CREDIT:
            return "the account has no credit or quota left: add some, then run again"
        if status in (404, 405):
            return f"check `base_url` (most end in /v1) and `model` ({endpoint.model})"
        named = settings_named(body.message, type(endpoint).model_fields)
        if kind is ErrorClass.REFUSED and status != 403:
            return f"check {named}"
        key = "no key is sent, since `api_key_env` is null; it names the environment variable that holds the key"
        if variable := endpoint.api_key_env:
            state = "is set" if os.environ.get(variable, "").strip() else "is not set"
            key = (
                f"the key is read from the environment variable {variable}, which {state} (`api_key_env` names another)"
            )
        return f"{key}; or check {named}" if kind is ErrorClass.REFUSED else key

    def _at_sign_in(self) -> str:
        return f"check `base_url` (most end in /v1) and the key; {self._hint(ErrorClass.KEY, 401, ErrorBody())}"

    @property
    def where(self) -> str:
        return f"{self.endpoint.base_url} (model {self.endpoint.model})"

    def quote(self, said: object) -> str:
        """A server's words as one short printable line without secrets."""
        text = redact(str(said))  # before anything is cut, since half a key is not recognised
        text = " ".join("".join(c if unicodedata.category(c)[0] != "C" else " " for c in text[: 20 * _QUOTED]).split())
        return text if len(text) <= _QUOTED else text[:_QUOTED] + " …"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from ``Retry-After-Ms`` or ``Retry-After`` (seconds or an HTTP date); None without either."""
    try:
        if (milliseconds := headers.get("retry-after-ms")) is not None:
            seconds = float(milliseconds) / 1000
        elif (wish := headers.get("retry-after")) is None:
            return None
        elif wish.strip()[:1].isalpha():
            seconds = parsedate_to_datetime(wish).timestamp() - time.time()
        else:
            seconds = float(wish)
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def json_or_text(body: bytes) -> Any:
    """The body's JSON value, else its text."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body.decode("utf-8", "replace")


def _then(hint: str) -> str:
    return f"; {hint}" if hint else ""


def billed(error: JudgeError, usage: Usage) -> JudgeError:
    """The error, with the usage that the server reported besides it."""
    if usage.told:
        error.usage, error.sent = usage, True
    return error
