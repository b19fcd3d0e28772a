"""Which proxy the environment names for an address: ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY``, ``NO_PROXY``.

Names are read in lower and upper case; lower case comes first. Without any of them, the settings of macOS or Windows
count. This machine's own addresses are never asked through a proxy.
"""

from __future__ import annotations

import ipaddress
import re
import urllib.request
from urllib.parse import urlsplit


def proxy_for(base_url: str) -> str | None:
    """The proxy's address with its scheme, or None for a direct connection. Raises ValueError for an invalid port."""
    url = urlsplit(base_url)
    host, port = (url.hostname or "").rstrip("."), url.port or (443 if url.scheme == "https" else 80)
    if host in ("localhost", "::1") or host.startswith("127."):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy or is_bypassed(host, port, proxies.get("no", "")):
        return None
    if not urllib.request.getproxies_environment() and urllib.request.proxy_bypass(host):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def is_bypassed(host: str, port: int, no_proxy: str) -> bool:
    """Whether ``NO_PROXY`` exempts a host from the proxy.

    ``no_proxy`` has entries separated by commas or spaces: a host, which includes its subdomains (``example.com``,
    ``.example.com`` and ``*.example.com`` are alike), an address, a network (``10.0.0.0/8``), any of them with a port
    (``example.com:8000``, ``[::1]:8000``), or ``*`` for every host.
    """
    return any(_matches(host.lower(), port, entry) for entry in re.split(r"[\s,]+", no_proxy.lower()) if entry)


def _matches(host: str, port: int, entry: str) -> bool:
    entry = entry.rpartition("://")[2]
    if entry == "*":
        return True
    network = _network(entry)
    if network is None and (with_port := re.fullmatch(r"(.+):(\d+)", entry)):
        if int(with_port[2]) != port:
            return False
        entry = with_port[1]
        network = _network(entry)
    if network is not None:
        address = _network(host)
        return address is not None and address.network_address in network
    domain = _ascii(entry.removeprefix("*").strip("."))
    host = _ascii(host)
    return bool(domain) and (host == domain or host.endswith(f".{domain}"))


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text.strip("[]"), strict=False)
    except ValueError:
        return None


def _ascii(host: str) -> str:
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        return host
