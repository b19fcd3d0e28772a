"""Where requests to a server go, and how they begin: its address, a proxy on the way, headers."""

from __future__ import annotations

import ssl
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

_IN_PATHS = "/%:@!$&'()*+,;=~-._"


@dataclass(frozen=True, slots=True)
class Target:
    """Where connections go. ``proxy`` is an address like ``http://user:password@proxy:3128``, or None.

    ``tls`` is what an encrypted server must be trusted by: read from the disk once, before anything is under way.
    Raises ValueError for an address that can't be asked.
    """

    base_url: str
    proxy: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        for name, url in (("the address", self.base_url), ("the proxy's address", self.proxy)):
            try:
                if url is not None:
                    host_and_port(url)
            except ValueError:  # whose words may quote a proxy's password
                raise ValueError(f"{name} has no host, or a port that is none") from None
        if self.proxy is not None and urlsplit(self.proxy).scheme != "http":
            raise ValueError("only proxies whose address begins with http:// can be used")
        if urlsplit(self.base_url).scheme == "https":
            tls = ssl.create_default_context()
            tls.set_alpn_protocols(["http/1.1"])
            object.__setattr__(self, "tls", tls)

    def head(self, method: str, path: str, headers: Mapping[str, str]) -> bytes:
        """The beginning of a request, up to and without ``Content-Length``. ``path`` follows the base URL's own.

        Raises ValueError for a header that can't be sent.
        """
        parts = urlsplit(self.base_url)
        target = quote(parts.path + path, safe=_IN_PATHS)
        if not any(name.lower() == "host" for name in headers):
            headers = {"Host": _authority(self.base_url), **headers}
        if self.proxy is not None and self.tls is None:  # the proxy reads where the request is to go
            target = f"{parts.scheme}://{_authority(self.base_url)}{target}"
            headers = {**headers, **self._of_proxy()}
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        if not all(line.isascii() and line.isprintable() for line in lines):
            raise ValueError("a header holds characters that can't be sent")
        return "\r\n".join(lines).encode() + b"\r\n"

    def tunnel(self) -> bytes:
        """The request that has the proxy connect to the server."""
        host, port = host_and_port(self.base_url)
        to = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        headers = {"Host": to, **self._of_proxy()}
        lines = [f"CONNECT {to} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join(lines).encode() + b"\r\n\r\n"

    def _of_proxy(self) -> dict[str, str]:
        """The header that tells the proxy who asks, where its address does."""
        parts = urlsplit(self.proxy or "")
        if parts.username is None:
            return {}
        who = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        return {"Proxy-Authorization": f"Basic {b64encode(who.encode()).decode()}"}


def host_and_port(url: str) -> tuple[str, int]:
    """The host, as it is looked up, and the port. Raises ValueError where there is none, or none that can be."""
    parts = urlsplit(url)
    host = (parts.hostname or "").encode("idna").decode()  # UnicodeError is a ValueError
    if not host or parts.port == 0:
        raise ValueError("no host or no port")
    return host, parts.port or (443 if parts.scheme == "https" else 80)


def _authority(url: str) -> str:
    host, port = host_and_port(url)
    host = f"[{host}]" if ":" in host else host
    return host if urlsplit(url).port is None else f"{host}:{port}"
