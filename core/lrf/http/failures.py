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
    JudgeError,
    JudgeMisconfiguredError,
    RateLimitedError,
    RejectedError,
    TimedOutError,
    UnavailableError,
)
from lrf.http import transport
from lrf.http.settings import EndpointSettings
from lrf.text.redaction import redact

_QUOTED = 300  # characters of a server's words in an error

_LOST_BY_GATEWAY = frozenset({502, 504, 520, 524})  # its server failed or took long, and may have worked all the same


@dataclass(frozen=True, slots=True)
class ErrorCodes:
    """Codes in a provider's error bodies that say more than the status does, in lower case.

    ``wait``: ask again later. ``stop``: no request can succeed. ``reject``: this request can't be served.
    ``busy``: the server failed, worth another attempt. ``hints``: what the user can do about a code.
    """

    wait: frozenset[str] = frozenset()
    stop: frozenset[str] = frozenset()
    reject: frozenset[str] = frozenset()
    busy: frozenset[str] = frozenset()
    hints: Mapping[str, str] = field(default_factory=dict)


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

    def of_answer(self, answer: transport.Answer) -> JudgeError:
        if 300 <= answer.status < 400:
            to = self.quote(answer.headers.get("location", "another address"))
            return JudgeMisconfiguredError(
                f"{self.where}: the server redirects to {to}; set `base_url` to the right address"
            )
        return self.of_status(answer.status, json_or_text(answer.body), answer.headers)

    def of_body(self, value: Mapping[str, Any]) -> JudgeError:
        error = value["error"]
        code = error.get("code") if isinstance(error, dict) else None
        return self.of_status(code if isinstance(code, int) and 400 <= code < 600 else 502, value)

    def of_status(self, status: int, value: Any, headers: Mapping[str, str] = MappingProxyType({})) -> JudgeError:
        """The error for a status of 400 or more and its body, which is parsed JSON or text."""
        codes, said = _codes_and_message(value)
        message = f"{self.where}: status {status}: {self.quote(said) or 'no reason given'}"
        known = self.codes
        hint = next((known.hints[code] for code in codes if code in known.hints), "")
        if codes & known.stop:
            return JudgeMisconfiguredError(message + _then(hint or self._hint(status)))
        if codes & known.reject:
            return RejectedError(message + _then(hint))
        if status == 429 or codes & known.wait:
            return RateLimitedError(message, retry_after_s=retry_after(headers))
        if status >= 500 or status in (408, 409, 425) or codes & known.busy:
            return UnavailableError(message, retry_after_s=retry_after(headers), sent=status in _LOST_BY_GATEWAY)
        if status in (401, 402, 403, 404, 405):
            return JudgeMisconfiguredError(message + _then(hint or self._hint(status)))
        return RejectedError(message)

    def _hint(self, status: int) -> str:
        endpoint = self.endpoint
        if status in (404, 405):
            return f"check `base_url` (most end in /v1) and `model` ({endpoint.model})"
        variable = endpoint.api_key_env
        state = "is set" if os.environ.get(variable, "").strip() else "is not set"
        return f"the key is read from the environment variable {variable}, which {state} (`api_key_env` names another)"

    @property
    def where(self) -> str:
        return f"{self.endpoint.base_url} (model {self.endpoint.model})"

    def quote(self, said: object) -> str:
        """A server's words as one short printable line without secrets."""
        text = redact(str(said))  # before anything is cut, since half a key is not recognised
        text = " ".join("".join(c if unicodedata.category(c)[0] != "C" else " " for c in text[: 20 * _QUOTED]).split())
        return text if len(text) <= _QUOTED else text[:_QUOTED] + " …"


def _codes_and_message(value: Any) -> tuple[frozenset[str], Any]:
    """The words in an error's body that could be codes, in lower case, and its message for people."""
    if not isinstance(value, dict):
        return frozenset(), value
    error = value.get("error", value)
    if not isinstance(error, dict):
        error = {**value, "message": error}
    words = (error.get("code"), error.get("type"), error.get("status"))
    codes = frozenset(str(w).lower() for w in words if isinstance(w, str | int) and w)
    message = error.get("message") or error.get("detail") or error.get("msg")
    try:
        return codes, message or json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return codes, None


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
