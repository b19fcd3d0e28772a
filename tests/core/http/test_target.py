"""Addresses of servers, and the beginnings of requests to them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf.http.target import Target, host_and_port


@pytest.mark.parametrize(
    ("url", "host", "port", "line"),
    [
        ("http://a.example/v1", "a.example", 80, "a.example"),
        ("https://a.example", "a.example", 443, "a.example"),
        ("https://A.Example:444", "a.example", 444, "a.example:444"),
        ("http://[::1]:8000/v1", "::1", 8000, "[::1]:8000"),
        ("http://bücher.example", "xn--bcher-kva.example", 80, "xn--bcher-kva.example"),
    ],
)
def test_an_address_gives_host_port_and_the_host_line(url: str, host: str, port: int, line: str) -> None:
    assert host_and_port(url) == (host, port)
    assert f"\r\nHost: {line}\r\n".encode() in Target(url).head("GET", "/x", {})


@pytest.mark.parametrize("url", ["http://a:0", "http://a:99999", "http://a:b", "http://", f"http://{'a' * 64}.example"])
def test_an_address_that_cannot_be_asked_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        Target(url)


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_path_and_no_header_can_add_a_line_to_a_request(path: str, value: str) -> None:
    try:
        head = Target("http://a.example/v1").head("POST", "/" + path, {"X-A": value})
    except ValueError:  # what can't be written as UTF-8 in a path, or in a header at all
        return
    lines = head.split(b"\r\n")
    assert lines[0].startswith(b"POST /v1/")
    assert lines[0].count(b" ") == 2
    assert lines[1:] == [b"Host: a.example", b"X-A: " + value.encode(), b""]


def test_a_host_line_of_the_users_own_takes_the_place_of_lrfs() -> None:
    head = Target("http://a.example/v1").head("GET", "/x", {"host": "b.example"})
    assert head == b"GET /v1/x HTTP/1.1\r\nhost: b.example\r\n"
