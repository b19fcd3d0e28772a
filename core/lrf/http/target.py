"""A server's address, the proxy on the way to it, and the certificates that are trusted."""

from __future__ import annotations

import ssl
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urljoin, urlsplit

_IN_PATHS = "/%:@!$&'()*+,;=~-._?"
_PORTS = {"https": 443, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy by its parts, so that no address with a password is handed around.

    ``scheme`` is http, https, socks4, socks4a, socks5 or socks5h; with ``a`` or ``h`` the proxy looks up host names.
    """

    scheme: str
    host: str
    port: int
    user: str | None = None
    password: str = field(default="", repr=False)

    @property
    def is_socks(self) -> bool:
        return self.scheme.startswith("socks")

    @property
    def url(self) -> str:
        """The address without user and password."""
        return f"{self.scheme}://{_bracketed(self.host)}:{self.port}"

    @property
    def headers(self) -> Mapping[str, str]:
        """What an HTTP proxy needs with each request, or with CONNECT."""
        if self.user is None:
            return {}
        credentials = b64encode(f"{self.user}:{self.password}".encode()).decode()
        return {"Proxy-Authorization": f"Basic {credentials}"}


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go. ``proxy_url`` is an address such as ``http://user:password@proxy:3128``, or None.

    ``tls`` is read from the disk once, at construction; it trusts the system's certificates, or those that
    ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` name. Raises ValueError for an address that can't be used; the message quotes
    no password.
    """

    base_url: str
    proxy_url: str | None = field(default=None, repr=False)
    proxy: Proxy | None = field(init=False, default=None)
    tls: ssl.SSLContext | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        _checked(self.base_url, "the address")
        if self.proxy_url is not None:
            object.__setattr__(self, "proxy", _proxy(self.proxy_url))
        if urlsplit(self.base_url).scheme == "https" or (self.proxy is not None and self.proxy.scheme == "https"):
            tls = ssl.create_default_context()
            tls.set_alpn_protocols(["http/1.1"])
            object.__setattr__(self, "tls", tls)

    def url(self, path: str) -> str:
        """The address of a path, which follows the base URL's own and may end in a query."""
        parts = urlsplit(self.base_url)
        host, port = host_and_port(self.base_url)
        authority = _bracketed(host) if parts.port is None else f"{_bracketed(host)}:{port}"
        return f"{parts.scheme}://{authority}{quote(parts.path + path, safe=_IN_PATHS)}"

    def joined(self, url: str, location: str) -> str | None:
        """``location`` as seen from ``url``; None if it is on another server than this one."""
        joined = urljoin(url, location)
        try:
            same = urlsplit(joined).scheme == urlsplit(url).scheme and host_and_port(joined) == host_and_port(url)
        except ValueError:
            return None
        return quote(joined, safe=_IN_PATHS + "[]") if same else None


def host_and_port(url: str) -> tuple[str, int]:
    """The host in ASCII and the port. Raises ValueError for a missing or invalid one."""
    parts = urlsplit(url)
    host = (parts.hostname or "").encode("idna").decode()  # UnicodeError is a ValueError
    if not host or parts.port == 0:
        raise ValueError("no host or no port")
    return host, parts.port or _PORTS.get(parts.scheme, 80)


def _proxy(url: str) -> Proxy:
    host, port = _checked(url, "the proxy's address")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https", "socks4", "socks4a", "socks5", "socks5h"):
        raise ValueError("the proxy's address must begin with http://, https://, socks5:// or socks4://")
    user = None if parts.username is None else unquote(parts.username)
    return Proxy(parts.scheme, host, port, user, unquote(parts.password or ""))


def _checked(url: str, name: str) -> tuple[str, int]:
    try:
        return host_and_port(url)
    except ValueError:  # its message may quote a proxy's password
        raise ValueError(f"{name} has no host, or an invalid port") from None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
