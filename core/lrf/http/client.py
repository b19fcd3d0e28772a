"""The HTTP client of judges, samplers and embedders: JSON out, JSON, text or a stream back, one class of error each.

It repeats no POST and waits for nothing but the reply. Every failure is a :class:`lrf.errors.JudgeError` whose class
says what to do about it, and whose ``sent`` says whether the server may have worked on the request. Keys come from the
environment and appear in no message.
"""

from __future__ import annotations

import asyncio
import codecs
import json
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic_core import PydanticSerializationError, to_json

import lrf
from lrf.errors import BadReplyError, JudgeError, JudgeMisconfiguredError
from lrf.http import accepted, transport
from lrf.http.error_bodies import holds_error, is_page
from lrf.http.error_classes import ErrorCodes
from lrf.http.events import STREAM_TYPES, EventReader, stream_type
from lrf.http.failures import EndpointErrors, billed, json_or_text
from lrf.http.proxies import proxy_for
from lrf.http.settings import EndpointSettings
from lrf.http.target import Target
from lrf.http.usage import read_usage
from lrf.text.redaction import hide, hide_credentials
from lrf.types import JSON

T = TypeVar("T")

Join = Callable[[Sequence[Any]], Any]
"""Makes one reply of the JSON values of a stream's events."""

_ERROR_BYTES = 65_536  # read of an error's body
_LONG_STREAM = 1 << 18  # bytes of a stream that isn't read on the event loop
_MOST_LINES = 1_000_000  # of a stream: models write 200,000 tokens at most, and an event has four lines


class HttpClient:
    """Asks one server, from any number of tasks of any event loop.

    Connections are kept for each event loop, at most ``endpoint.max_concurrency`` of them. The environment's proxies
    are used (:mod:`lrf.http.proxies`), but never for this machine's own addresses. A call that is cancelled or times
    out closes its connection. Redirects are not followed, since a key would go along.

    Parameters
    ----------
    endpoint: address, model (for messages), the names of the variables with keys, and limits.
    codes: the provider's error codes, where they say more than the status does.
    key_header: the header for the bare key; None sends ``Authorization: Bearer``.
    headers: more headers of every request.

    Raises :class:`lrf.errors.JudgeMisconfiguredError` for a key that can't be sent as a header, an address that can't
    be asked, and a SOCKS proxy without the extra ``socks``.
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
        self._errors = EndpointErrors(endpoint, codes or ErrorCodes())
        self._urls: dict[str, str] = {}
        limits = transport.BodyLimits(int(endpoint.max_reply_mb * 1_000_000), _ERROR_BYTES)
        try:
            proxy = proxy_for(endpoint.base_url)
            hide_credentials(proxy or "")
            self._target = Target(endpoint.base_url, proxy)
            self._transport = transport.Transport(
                self._target, endpoint.max_concurrency, self._headers(key_header, headers or {}), limits
            )
        except ValueError as error:
            raise JudgeMisconfiguredError(
                f"{self._errors.where}: this address can't be asked ({error}); check `base_url` and the environment's "
                "proxies"
            ) from None

    def __repr__(self) -> str:
        return f"<HttpClient {self._endpoint.base_url}>"

    async def post(
        self,
        path: str,
        body: Mapping[str, JSON],
        *,
        timeout_s: float | None = None,
        join: Join | None = None,
        result_path: str | None = None,
    ) -> Any:
        """The JSON value that the server replies.

        Parameters
        ----------
        path: begins with "/" and follows the base URL.
        timeout_s: seconds for connecting, waiting and reading; the endpoint's ``request_timeout_s`` is the most.
        join: makes one reply of a stream's events, where the server streams although nobody asked it to. Without it, a
            stream of one event is that event's value, and a longer one an error.
        result_path: where the result of an accepted request (status 202) is fetched, such as ``/operations/{id}``,
            with the id of the reply's body. None takes the reply's header ``Location`` or ``Operation-Location``.
            The result is fetched until it is there, as often as ``Retry-After`` wishes.

        Raises a :class:`lrf.errors.JudgeError`.
        """
        data, url = _encode(body), self._url(path)

        async def exchange(sending: transport.Sending) -> transport.HttpResponse:
            answer = await self._ask("POST", url, data, sending)
            if answer.status == 202:
                return await self._result(answer, result_path, sending)
            return answer

        answer = await self._within(timeout_s, exchange)
        value = await self._read(answer, join)
        if holds_error(value):
            raise self._errors.of_body(value, answer.headers)  # some gateways answer 200 and put the error inside
        return value

    async def stream(
        self, path: str, body: Mapping[str, JSON], *, timeout_s: float | None = None
    ) -> AsyncGenerator[Any, None]:
        """The JSON values of a stream (server-sent events or JSON lines), each as it comes; of plain JSON, that value.

        The body must ask for the stream, as the provider has it. Whoever stops early closes the generator
        (``contextlib.aclosing``). Parameters and errors as of :meth:`post`; ``timeout_s`` counts to the stream's end.
        """
        limit_s = self._limit_s(timeout_s)
        deadline = asyncio.get_running_loop().time() + limit_s
        sending = transport.Sending()
        headers = {"Accept": "text/event-stream, application/json", "Accept-Encoding": "identity"}
        parts = self._transport.stream(self._url(path), _encode(body), sending, headers)
        try:
            answer = await self._guarded(deadline, limit_s, sending, anext(parts))
            assert isinstance(answer, transport.HttpResponse)
            if not answer.ok:
                raise self._errors.of_answer(answer)
            reader = EventReader(answer.content_type) if answer.content_type in STREAM_TYPES else None
            plain: list[bytes] = []
            while (part := await self._guarded(deadline, limit_s, sending, anext(parts, None))) is not None:
                assert isinstance(part, bytes)
                if reader is None:
                    plain.append(part)
                    continue
                for event in reader.feed(part):
                    yield self._event(event)
            for event in reader.end() if reader is not None else [self._decode(b"".join(plain))]:
                yield self._event(event)
        finally:
            await parts.aclose()

    async def get_json(self, path: str, *, timeout_s: float | None = None) -> Any:
        """The JSON value at ``path``, which may end in a query. Raises a :class:`lrf.errors.JudgeError`."""
        return self._parse(await self._get(path, timeout_s))

    async def get_text(self, path: str, *, timeout_s: float | None = None) -> str:
        """The text at ``path``. Raises a :class:`lrf.errors.JudgeError`."""
        return self._decode(await self._get(path, timeout_s))

    async def aclose(self) -> None:
        """Close all connections. Calls in flight raise :class:`lrf.errors.UnavailableError`."""
        await self._transport.aclose()

    # --- one exchange ----------------------------------------------------------------------------------------------

    async def _get(self, path: str, timeout_s: float | None) -> bytes:
        url = self._url(path)
        return (await self._within(timeout_s, lambda sending: self._ask("GET", url, None, sending))).body

    async def _ask(
        self, method: str, url: str, data: bytes | None, sending: transport.Sending
    ) -> transport.HttpResponse:
        """An answer of 200 to 299. Raises a :class:`lrf.errors.JudgeError` for every other."""
        try:
            answer = await self._transport.ask(method, url, data, sending)
        except transport.FAILURES as error:
            raise self._errors.of_transport(error, sending) from None
        if not answer.ok:
            raise self._errors.of_answer(answer)
        return answer

    async def _within(self, timeout_s: float | None, exchange: Callable[[transport.Sending], Awaitable[T]]) -> T:
        limit_s, sending = self._limit_s(timeout_s), transport.Sending()
        try:
            async with asyncio.timeout(limit_s):
                return await exchange(sending)
        except TimeoutError:
            raise self._errors.timed_out(limit_s, sending) from None

    async def _guarded(self, deadline: float, limit_s: float, sending: transport.Sending, step: Awaitable[T]) -> T:
        """One step of a stream, up to the deadline of the whole."""
        try:
            async with asyncio.timeout_at(deadline):
                return await step
        except TimeoutError:
            raise self._errors.timed_out(limit_s, sending) from None
        except transport.FAILURES as error:
            raise self._errors.of_transport(error, sending) from None

    async def _result(
        self, first: transport.HttpResponse, result_path: str | None, sending: transport.Sending
    ) -> transport.HttpResponse:
        """The answer that holds the result of an accepted request."""
        try:
            url = self._result_url(first, result_path)
            return await accepted.wait_for_result(first, lambda: self._ask("GET", url, None, sending))
        except JudgeError as error:
            error.sent = True  # whatever became of fetching it, the request was accepted
            raise

    def _result_url(self, first: transport.HttpResponse, result_path: str | None) -> str:
        location = accepted.location(first.headers, json_or_text(first.body), result_path)
        if location is None:
            raise BadReplyError(
                f"{self._errors.where}: the server accepted the request (202) without saying where its result will be"
            )
        url = self._url(location) if result_path else self._target.joined(first.url, location)
        if url is None:
            raise JudgeMisconfiguredError(
                f"{self._errors.where}: the result is on another server ({self._errors.quote(location)}); lrf sends "
                "its key to none but `base_url`"
            )
        return url

    def _url(self, path: str) -> str:
        url = self._urls.get(path)
        if url is None:
            try:
                url = self._urls[path] = self._target.url(path)
            except ValueError as error:
                raise JudgeMisconfiguredError(f"{self._errors.where}: {path!r} is not a path ({error})") from None
        return url

    def _limit_s(self, timeout_s: float | None) -> float:
        most = self._endpoint.request_timeout_s
        return most if timeout_s is None else min(most, timeout_s)

    # --- reading replies -------------------------------------------------------------------------------------------

    async def _read(self, answer: transport.HttpResponse, join: Join | None) -> Any:
        kind = stream_type(answer.content_type, answer.body)
        if kind is None:
            return self._parse(answer.body)
        if len(answer.body) < _LONG_STREAM:
            return self._joined(answer, kind, join)
        if answer.body.count(b"\n") > _MOST_LINES:
            raise BadReplyError(f"{self._errors.where}: the reply is a stream of more than {_MOST_LINES:,} lines")
        return await asyncio.to_thread(self._joined, answer, kind, join)  # it takes a few microseconds a line

    def _joined(self, answer: transport.HttpResponse, kind: str, join: Join | None) -> Any:
        reader = EventReader(kind)
        values = [self._parse(e.encode("utf-8", "replace")) for e in (*reader.feed(answer.body), *reader.end())]
        if not values:
            raise BadReplyError(f"{self._errors.where}: the server replied with an empty stream")
        if failed := [value for value in values if holds_error(value)]:
            error = self._errors.of_body(failed[0], answer.headers)
            raise billed(error, read_usage(values))
        if join is not None:
            return join(values)
        if len(values) > 1:
            raise BadReplyError(
                f"{self._errors.where}: the server streams ({len(values)} events) what should be one JSON value"
            )
        return values[0]

    def _event(self, event: str) -> Any:
        value = self._parse(event.encode("utf-8", "replace"))
        if holds_error(value):
            raise self._errors.of_body(value)
        return value

    def _decode(self, body: bytes) -> str:
        try:
            return body.removeprefix(codecs.BOM_UTF8).decode()  # the codec utf-8-sig is one of Python's slow ones
        except UnicodeDecodeError as error:
            raise BadReplyError(f"{self._errors.where}: the reply is not UTF-8 (byte {error.start})") from None

    def _parse(self, body: bytes) -> Any:
        try:
            return _decode_json(self._decode(body))
        except (ValueError, RecursionError):
            if is_page(body):
                raise self._errors.of_page(body[:_ERROR_BYTES].decode("utf-8", "replace")) from None
            start = self._errors.quote(body[:_ERROR_BYTES].decode("utf-8", "replace"))
            content = f"no JSON but: {start}" if body.strip() else "nothing"
            raise BadReplyError(f"{self._errors.where}: the server answered {content}") from None

    # --- errors ----------------------------------------------------------------------------------------------------

    def error(self, status: int, value: Any, headers: Mapping[str, str] = MappingProxyType({})) -> JudgeError:
        """The error for a status of 400 or more and its body, which is parsed JSON or text."""
        return self._errors.of_status(status, value, headers)

    @property
    def errors(self) -> EndpointErrors:
        """What makes this client's errors, for bodies that the caller reads."""
        return self._errors

    # --- keys ------------------------------------------------------------------------------------------------------

    def _headers(self, key_header: str | None, fixed: Mapping[str, str]) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "User-Agent": f"lrf/{lrf.__version__}",
            **fixed,
        }
        if key := self._secret(self._endpoint.api_key_env):
            headers |= {key_header: key} if key_header else {"Authorization": f"Bearer {key}"}
        for name, variable in self._endpoint.header_env.items():
            if value := self._secret(variable):
                headers = {other: old for other, old in headers.items() if other.lower() != name.lower()}
                headers[name] = value
        return headers

    def _secret(self, variable: str | None) -> str | None:
        value = os.environ.get(variable, "").strip() if variable else ""
        if not variable or not value:
            return None
        if not value.isascii() or not value.isprintable():
            raise JudgeMisconfiguredError(
                f"the environment variable {variable} holds characters that can't be sent in a header; set it again"
            )
        hide(value, variable)
        return value


def _without_ambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs, without the keys that it gives several values: which one holds isn't known."""
    value = dict(pairs)
    if len(value) < len(pairs):
        for key in {key for key, given in pairs if given != value[key]}:
            del value[key]
    return value


_decode_json = json.JSONDecoder(object_pairs_hook=_without_ambiguous).decode
"""Made once: ``json.loads`` makes a decoder for each call that has a hook."""


def _encode(body: Mapping[str, JSON]) -> bytes:
    try:
        return to_json(body)  # a third of the time that json takes
    except PydanticSerializationError:  # half a surrogate pair, most likely
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
