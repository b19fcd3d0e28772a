"""From whom a request may come. It is refused before its body is read."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class _RefusedError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Guard:
    """Refuses requests of browsers from other sites, and those without the token.

    Parameters
    ----------
    token: what requests must bring, as a bearer token or as the password of basic authentication; None: nothing.
    hosts: the names that a request may call this server by; None: any (a token is demanded then).
    """

    app: ASGIApp
    token: str | None
    hosts: frozenset[str] | None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}
            self._check_site(headers)
            if scope["path"] != "/healthz":
                self._check_token(headers)
        except _RefusedError as error:
            more = {"www-authenticate": 'Bearer realm="lrf"'} if error.status == 401 else {}
            await JSONResponse({"error": str(error)}, error.status, more)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _check_site(self, headers: Mapping[str, str]) -> None:
        host = _host_of(f"//{headers.get('host', '')}")
        if self.hosts is not None and host not in self.hosts:
            raise _RefusedError(421, f"Host: {host[:100]!r} is not a name of this server; --allow-host NAME adds one")
        origin = headers.get("origin")
        if origin is not None and origin.partition("//")[2] != headers.get("host"):
            raise _RefusedError(403, "Origin: a web page of another site can't use this server")
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise _RefusedError(403, "Sec-Fetch-Site: a web page of another site can't use this server")

    def _check_token(self, headers: Mapping[str, str]) -> None:
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


def _host_of(address: str) -> str:
    """The name in an address without its port; empty for what is no address."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""
