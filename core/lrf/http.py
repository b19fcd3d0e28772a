"""A lean client for JSON over HTTP, for judges and embedders: one POST, one reply, one class of error.

It retries nothing and waits for nothing but the reply. Every failure is a :class:`lrf.errors.JudgeError` whose class
says what to do about it. Keys come from the environment and appear in no message.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import time
import unicodedata
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Any

import aiohttp
from pydantic_core import PydanticSerializationError, to_json
from yarl import URL

from lrf.endpoint import EndpointSettings
from lrf.errors import BadReply, JudgeError, JudgeMisconfigured, RateLimited, Rejected, TimedOut, Unavailable
from lrf.types import JSON

_QUOTED = 300  # characters of a server's words in an error
_ERROR_BYTES = 65_536  # read of an error's body
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

    Raises :class:`lrf.errors.JudgeMisconfigured` when a key in the environment can't be sent as a header.
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
            **(headers or {}),
        }
        key = self._secret(endpoint.api_key_env)
        if key and key_header:
            self._headers[key_header] = key
        elif key:
            self._headers["Authorization"] = f"Bearer {key}"
        for name, variable in endpoint.header_env.items():
            if value := self._secret(variable):
                self._headers[name] = value
        self._urls: dict[str, URL] = {}
        self._proxy = _proxy(endpoint.base_url)
        self._sessions: dict[asyncio.AbstractEventLoop, aiohttp.ClientSession] = {}

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
        while self._sessions:
            loop, session = self._sessions.popitem()
            if loop is here or loop.is_closed():
                await session.close()
            elif loop.is_running():
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(session.close(), loop))

    # --- one exchange ----------------------------------------------------------------------------------------------

    async def _exchange(self, method: str, path: str, data: bytes | None, timeout_s: float | None) -> bytes:
        limit_s = self._endpoint.request_timeout_s
        if timeout_s is not None:
            limit_s = min(limit_s, timeout_s)
        url = self._urls.get(path) or self._urls.setdefault(path, URL(self._endpoint.base_url + path))
        try:
            async with (
                asyncio.timeout(limit_s),
                self._session().request(
                    method, url, data=data, headers=self._headers, allow_redirects=False, proxy=self._proxy
                ) as response,
            ):
                if response.status == 200:
                    return await self._read(response)
                raise self._refused(response, await self._read_error(response))
        except TimeoutError:
            raise TimedOut(f"{self._where()}: no reply within {limit_s:g} s") from None
        except aiohttp.ClientConnectorCertificateError as e:
            raise JudgeMisconfigured(
                f"{self._where()}: the server's certificate is not trusted: {self._quote(e)}"
            ) from None
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
            raise JudgeMisconfigured(
                f"{self._where()}: this is no address that can be asked; check `base_url`"
            ) from None
        except aiohttp.ClientConnectorError as e:
            raise Unavailable(
                f"{self._where()}: can't connect ({self._quote(e.os_error)}); is the server up?"
            ) from None
        except (aiohttp.ClientError, OSError) as e:
            raise Unavailable(f"{self._where()}: the connection broke ({self._quote(e) or type(e).__name__})") from None

    def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None or session.closed:
            session = self._sessions[loop] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._endpoint.max_concurrency, ttl_dns_cache=300, keepalive_timeout=_KEEPALIVE_S
                ),
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return session

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        size = response.content_length or 0
        parts = []
        if size <= self._limit:
            size = 0
            async for part in response.content.iter_any():
                parts.append(part)
                size += len(part)
                if size > self._limit:
                    break
            else:
                return b"".join(parts)
        response.close()
        raise BadReply(f"{self._where()}: the reply is longer than {self._endpoint.max_reply_mb:g} MB (`max_reply_mb`)")

    async def _read_error(self, response: aiohttp.ClientResponse) -> bytes:
        parts, size = [], 0
        async for part in response.content.iter_any():
            parts.append(part)
            size += len(part)
            if size >= _ERROR_BYTES:
                response.close()
                break
        return b"".join(parts)[:_ERROR_BYTES]

    def _decode(self, body: bytes) -> str:
        try:
            return body.decode("utf-8")
        except UnicodeDecodeError as e:
            raise BadReply(f"{self._where()}: the reply is not UTF-8 (byte {e.start})") from None

    def _parse(self, body: bytes) -> Any:
        try:
            return json.loads(self._decode(body))
        except (ValueError, RecursionError):
            start = self._quote(body[:_ERROR_BYTES].decode("utf-8", "replace"))
            what = f"no JSON but: {start}" if body.strip() else "nothing"
            raise BadReply(f"{self._where()}: the server answered {what}") from None

    # --- what went wrong -------------------------------------------------------------------------------------------

    def _refused(self, response: aiohttp.ClientResponse, body: bytes) -> JudgeError:
        if 300 <= response.status < 400:
            to = self._quote(response.headers.get("Location", "another address"))
            return JudgeMisconfigured(
                f"{self._where()}: the server redirects to {to}; set `base_url` to the right address"
            )
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            value = body.decode("utf-8", "replace")
        return self.error(response.status, value, response.headers)

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
            return JudgeMisconfigured(message + _then(hint or self._hint(status)))
        if words & known.reject:
            return Rejected(message + _then(hint))
        if status == 429 or words & known.wait:
            return RateLimited(message, retry_after_s=_retry_after(headers))
        if status >= 500 or status in (408, 409, 425) or words & known.busy:
            return Unavailable(message, retry_after_s=_retry_after(headers))
        if status in (401, 402, 403, 404, 405):
            return JudgeMisconfigured(message + _then(hint or self._hint(status)))
        return Rejected(message)

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
        for secret in self._secrets:  # before anything is cut: half a key is none of these
            text = text.replace(secret, "***")
        text = " ".join("".join(c if unicodedata.category(c)[0] != "C" else " " for c in text[: 20 * _QUOTED]).split())
        return text if len(text) <= _QUOTED else text[:_QUOTED] + " …"

    def _secret(self, variable: str) -> str | None:
        value = os.environ.get(variable, "").strip()
        if not value:
            return None
        if not value.isascii() or not value.isprintable():
            raise JudgeMisconfigured(
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
    return found, error.get("message") or error.get("detail") or error.get("msg") or json.dumps(
        value, ensure_ascii=False
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from ``Retry-After-Ms`` or ``Retry-After`` (seconds or an HTTP date); None without either."""
    try:
        if (milliseconds := headers.get("Retry-After-Ms")) is not None:
            seconds = float(milliseconds) / 1000
        elif (wish := headers.get("Retry-After")) is None:
            return None
        elif wish.strip()[:1].isalpha():
            seconds = parsedate_to_datetime(wish).timestamp() - time.time()
        else:
            seconds = float(wish)
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _proxy(base_url: str) -> str | None:
    url = URL(base_url)
    host = url.host or ""
    if host in ("localhost", "::1") or host.startswith("127.") or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(url.scheme)
