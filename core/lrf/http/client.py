"""A lean client for JSON over HTTP, for judges and embedders: one POST, one reply, one class of error.

It retries nothing and waits for nothing but the reply. Every failure is a :class:`lrf.errors.JudgeError` whose class
says what to do about it. Keys come from the environment and appear in no message.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import ssl
import time
import unicodedata
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from pydantic_core import PydanticSerializationError, to_json

import lrf
from lrf.errors import (
    BadReplyError,
    JudgeError,
    JudgeMisconfiguredError,
    RateLimitedError,
    RejectedError,
    TimedOutError,
    UnavailableError,
)
from lrf.http.connections import Answer, Broken, CannotConnect, Connections, TooLong
from lrf.http.settings import EndpointSettings
from lrf.http.target import Target
from lrf.types import JSON

_QUOTED = 300  # characters of a server's words in an error
_ERROR_BYTES = 65_536  # read of an error's body
_CLOSING_S = 5  # that another thread's event loop, which may be ending, has for closing its connections
_KEEPALIVE_S = 4  # shorter than the servers' own (uvicorn: 5), so that none closes a connection being used


@dataclass(frozen=True, slots=True)
class ErrorCodes:
    """Codes of a provider's error bodies that say more than the status does, in lower case.

    ``wait``: ask again later. ``stop``: no request can succeed. ``reject``: this request can't be served.
    ``busy``: the server failed, worth another try. ``hints``: what the user can do about a code.
    """

    wait: frozenset[str] = frozenset()
    stop: frozenset[str] = frozenset()
    reject: frozenset[str] = frozenset()
    busy: frozenset[str] = frozenset()
    hints: Mapping[str, str] = field(default_factory=dict)


class HttpClient:
    """Sends JSON to one endpoint, from any number of tasks of any event loop.

    Connections are kept per event loop, at most ``endpoint.max_concurrency`` of them. Proxies are taken from the
    environment (``HTTPS_PROXY``, ``NO_PROXY``) as usual, but never used for this machine's own address.

    The key goes as ``Authorization: Bearer``, or bare in the header that ``key_header`` names. ``headers`` are sent
    with every request, too.

    Raises :class:`lrf.errors.JudgeMisconfiguredError` when a key in the environment can't be sent as a header.
    """

    def __init__(
        self,
        endpoint: EndpointSettings,
        codes: ErrorCodes | None = None,
        *,
        key_header: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._codes = codes or ErrorCodes()
        self._limit = int(endpoint.max_reply_mb * 1_000_000)
        self._secrets: list[str] = []
        self._headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": f"lrf/{lrf.__version__}",
            **(headers or {}),
        }
        key = self._secret(endpoint.api_key_env)
        if key and key_header:
            self._headers[key_header] = key
        elif key:
            self._headers["Authorization"] = f"Bearer {key}"
        for name, variable in endpoint.header_env.items():
            if value := self._secret(variable):
                same = [other for other in self._headers if other.lower() == name.lower()]
                for other in same:
                    del self._headers[other]
                self._headers[name] = value
        try:
            self._place = Target(endpoint.base_url, _proxy(endpoint.base_url))
        except ValueError as error:
            raise JudgeMisconfiguredError(
                f"{self._where()}: this is no address that can be asked ({error}); check `base_url` and the environment's "
                "proxies"
            ) from None
        self._heads: dict[tuple[str, str], bytes] = {}
        self._connections: dict[asyncio.AbstractEventLoop, Connections] = {}

    def __repr__(self) -> str:
        return f"<HttpClient {self._endpoint.base_url}>"

    async def post(self, path: str, body: Mapping[str, JSON], *, timeout_s: float | None = None) -> Any:
        """The JSON value that the server answers; ``path`` starts with "/" and follows the base URL.

        ``timeout_s`` shortens the endpoint's ``request_timeout_s``; either covers connecting, waiting and reading.
        Raises a :class:`lrf.errors.JudgeError`.
        """
        data = _encode(body)
        value = self._parse(await self._exchange("POST", path, data, timeout_s))
        if isinstance(value, dict) and value.get("error") and "choices" not in value and "data" not in value:
            raise self._answered_error(value)  # some gateways answer 200 and put the error inside
        return value

    async def get_text(self, path: str, *, timeout_s: float | None = None) -> str:
        """The text at ``path``. Raises a :class:`lrf.errors.JudgeError`."""
        return self._decode(await self._exchange("GET", path, None, timeout_s))

    async def aclose(self) -> None:
        """Close all connections."""
        here = asyncio.get_running_loop()
        while self._connections:
            loop, connections = self._connections.popitem()
            if loop is here:
                await connections.aclose()
            elif loop.is_running():
                with contextlib.suppress(RuntimeError):  # it was closed in this moment
                    closing = asyncio.run_coroutine_threadsafe(connections.aclose(), loop)
                    await asyncio.wait([asyncio.wrap_future(closing)], timeout=_CLOSING_S)

    # --- one exchange ----------------------------------------------------------------------------------------------

    async def _exchange(self, method: str, path: str, data: bytes | None, timeout_s: float | None) -> bytes:
        limit_s = self._endpoint.request_timeout_s
        if timeout_s is not None:
            limit_s = min(limit_s, timeout_s)
        head = self._heads.get((method, path)) or self._head(method, path)
        try:
            async with asyncio.timeout(limit_s):
                answer = await self._here().ask(head, data, most=self._limit, most_of_error=_ERROR_BYTES)
        except TimeoutError:
            raise TimedOutError(f"{self._where()}: no reply within {limit_s:g} s") from None
        except TooLong:
            most = f"{self._endpoint.max_reply_mb:g} MB (`max_reply_mb`)"
            raise BadReplyError(f"{self._where()}: the reply is longer than {most}") from None
        except ssl.SSLCertVerificationError as error:
            raise JudgeMisconfiguredError(
                f"{self._where()}: the server's certificate is not trusted: {self._quote(error)}"
            ) from None
        except CannotConnect as error:
            raise UnavailableError(
                f"{self._where()}: can't connect ({self._quote(error)}); is the server up?"
            ) from None
        except (Broken, OSError) as error:
            raise UnavailableError(
                f"{self._where()}: the connection broke ({self._quote(error) or type(error).__name__})"
            ) from None
        if answer.status == 200:
            return answer.body
        raise self._refused(answer)

    def _head(self, method: str, path: str) -> bytes:
        """The beginning of a request, made once for each path."""
        try:
            head = self._heads[method, path] = self._place.head(method, path, self._headers)
        except ValueError as error:
            raise JudgeMisconfiguredError(f"{self._where()}: {error}; check `header_env`") from None
        return head

    def _here(self) -> Connections:
        """The connections of the event loop that asks."""
        loop = asyncio.get_running_loop()
        if (found := self._connections.get(loop)) is None:
            for ended in [other for other in list(self._connections) if other.is_closed()]:
                self._connections.pop(ended, None)
            found = Connections(self._place, self._endpoint.max_concurrency, keep_s=_KEEPALIVE_S)
            self._connections[loop] = found
        return found

    def _decode(self, body: bytes) -> str:
        try:
            return body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadReplyError(f"{self._where()}: the reply is not UTF-8 (byte {error.start})") from None

    def _parse(self, body: bytes) -> Any:
        try:
            return json.loads(self._decode(body))
        except (ValueError, RecursionError):
            start = self._quote(body[:_ERROR_BYTES].decode("utf-8", "replace"))
            what = f"no JSON but: {start}" if body.strip() else "nothing"
            raise BadReplyError(f"{self._where()}: the server answered {what}") from None

    # --- what went wrong -------------------------------------------------------------------------------------------

    def _refused(self, answer: Answer) -> JudgeError:
        if 300 <= answer.status < 400:
            to = self._quote(answer.headers.get("location", "another address"))
            return JudgeMisconfiguredError(
                f"{self._where()}: the server redirects to {to}; set `base_url` to the right address"
            )
        try:
            value = json.loads(answer.body)
        except (ValueError, RecursionError):
            value = answer.body.decode("utf-8", "replace")
        return self.error(answer.status, value, answer.headers)

    def _answered_error(self, value: Mapping[str, Any]) -> JudgeError:
        error = value["error"]
        code = error.get("code") if isinstance(error, dict) else None
        return self.error(code if isinstance(code, int) and 400 <= code < 600 else 502, value)

    def error(self, status: int, value: Any, headers: Mapping[str, str] = MappingProxyType({})) -> JudgeError:
        """The error for a status of 400 or more and the body, parsed where it is JSON, that came with it."""
        words, said = _codes_and_message(value)
        message = f"{self._where()}: status {status}: {self._quote(said) or 'no reason given'}"
        known = self._codes
        hint = next((known.hints[w] for w in words if w in known.hints), "")
        if words & known.stop:
            return JudgeMisconfiguredError(message + _then(hint or self._hint(status)))
        if words & known.reject:
            return RejectedError(message + _then(hint))
        if status == 429 or words & known.wait:
            return RateLimitedError(message, retry_after_s=_retry_after(headers))
        if status >= 500 or status in (408, 409, 425) or words & known.busy:
            return UnavailableError(message, retry_after_s=_retry_after(headers))
        if status in (401, 402, 403, 404, 405):
            return JudgeMisconfiguredError(message + _then(hint or self._hint(status)))
        return RejectedError(message)

    def _hint(self, status: int) -> str:
        endpoint = self._endpoint
        if status in (404, 405):
            return f"check `base_url` (most end in /v1) and `model` ({endpoint.model})"
        variable = endpoint.api_key_env
        state = "is set" if os.environ.get(variable, "").strip() else "is not set"
        return f"the key is read from the environment variable {variable}, which {state} (`api_key_env` names another)"

    def _where(self) -> str:
        return f"{self._endpoint.base_url} (model {self._endpoint.model})"

    def _quote(self, said: object) -> str:
        """What a server said, as one short printable line without keys."""
        text = str(said)
        # before anything is cut, since half a key is none of these; a key that another one begins with after that one
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        text = " ".join("".join(c if unicodedata.category(c)[0] != "C" else " " for c in text[: 20 * _QUOTED]).split())
        return text if len(text) <= _QUOTED else text[:_QUOTED] + " …"

    def _secret(self, variable: str) -> str | None:
        value = os.environ.get(variable, "").strip()
        if not value:
            return None
        if not value.isascii() or not value.isprintable():
            raise JudgeMisconfiguredError(
                f"the environment variable {variable} holds characters that can't be sent in a header; set it again"
            )
        self._secrets.append(value)
        return value


def _encode(body: Mapping[str, JSON]) -> bytes:
    try:
        return to_json(body)  # a third of the time that json takes
    except PydanticSerializationError:  # half a surrogate pair, most likely
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _then(hint: str) -> str:
    return f"; {hint}" if hint else ""


def _codes_and_message(value: Any) -> tuple[frozenset[str], Any]:
    """The words in an error's body that could be codes, in lower case, and what it says to people."""
    if not isinstance(value, dict):
        return frozenset(), value
    error = value.get("error", value)
    if not isinstance(error, dict):
        error = {**value, "message": error}
    words = (error.get("code"), error.get("type"), error.get("status"))
    found = frozenset(str(w).lower() for w in words if isinstance(w, str | int) and w)
    said = error.get("message") or error.get("detail") or error.get("msg")
    try:
        return found, said or json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return found, None


def _retry_after(headers: Mapping[str, str]) -> float | None:
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


def _proxy(base_url: str) -> str | None:
    url = urlsplit(base_url)
    host = url.hostname or ""
    if host in ("localhost", "::1") or host.startswith("127.") or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(url.scheme)
