"""What a request must be before it is looked at: from whom, how large, how fast.

Pure ASGI, since bodies are streams.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
BODY_S = 60.0
"""Seconds that a body may take to arrive."""


class _RefusedError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Guard:
    """Refuses requests of browsers from other sites, without the token, too large or too slow.

    Parameters
    ----------
    token: what requests must bring, as a bearer token or as the password of basic authentication; None: nothing.
    hosts: the names that a request may call this server by; None: any (a token is demanded then).
    most_bytes: the longest body.
    """

    app: ASGIApp
    token: str | None
    hosts: frozenset[str] | None
    most_bytes: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = False

        async def told(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            headers = Headers(scope=scope)
            self._check_site(headers)
            if scope["path"] != "/healthz":
                self._check_token(headers)
            body = await self._body(scope, headers, receive)
            await self.app(scope, _replayed(body, receive), told)
        except _RefusedError as error:
            if begun:
                raise
            headers_out = {"connection": "close"} if error.status in (408, 413) else {}
            if error.status == 401:
                headers_out["www-authenticate"] = 'Bearer realm="lrf"'
            await JSONResponse({"error": str(error)}, error.status, headers_out)(scope, receive, send)

    def _check_site(self, headers: Headers) -> None:
        host = _host_of(f"//{headers.get('host', '')}")
        if self.hosts is not None and host not in self.hosts:
            raise _RefusedError(421, f"Host: {host[:100]!r} is not a name of this server; --allow-host NAME adds one")
        origin = headers.get("origin")
        if origin is not None and origin.partition("//")[2] != headers.get("host"):
            raise _RefusedError(403, "Origin: a web page of another site can't use this server")
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise _RefusedError(403, "Sec-Fetch-Site: a web page of another site can't use this server")

    def _check_token(self, headers: Headers) -> None:
        if self.token is None:
            return
        kind, _, value = headers.get("authorization", "").partition(" ")
        if kind.lower() == "basic":
            try:
                value = base64.b64decode(value, validate=True).decode().partition(":")[2]
            except (binascii.Error, ValueError):
                value = ""
        if kind.lower() not in ("bearer", "basic") or not hmac.compare_digest(
            value.strip().encode("utf-8", "surrogateescape"), self.token.encode()
        ):
            raise _RefusedError(
                401,
                "Authorization: expected 'Bearer TOKEN' (or the token as the password in the URL), the server's own",
            )

    async def _body(self, scope: Scope, headers: Headers, receive: Receive) -> bytes:
        if scope["method"] not in ("POST", "PUT", "PATCH"):
            return b""
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise _RefusedError(415, "Content-Type: expected application/json")
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit():
            raise _RefusedError(400, "Content-Length: expected a whole number")
        if int(length) > self.most_bytes:
            raise self._too_large()
        parts, size = [], 0
        try:
            async with asyncio.timeout(BODY_S):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _RefusedError(400, "the client left before its request was complete")
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > self.most_bytes:
                        raise self._too_large()
                    if not message.get("more_body"):
                        return b"".join(parts)
        except TimeoutError:
            raise _RefusedError(408, f"the body took more than {BODY_S:g} s to arrive") from None

    def _too_large(self) -> _RefusedError:
        return _RefusedError(413, f"the body is longer than {self.most_bytes} bytes (`--max-body-mb`)")


def _host_of(address: str) -> str:
    """The name in an address without its port; empty for what is no address."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _replayed(body: bytes, receive: Receive) -> Receive:
    """What gives the body once, and then whatever comes (the client's leaving)."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
