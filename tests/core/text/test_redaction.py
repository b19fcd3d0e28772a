"""Secrets are taken out of every text, in each form in which they may stand there, and ordinary words are not."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Callable
from typing import cast
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf.text.redaction import (
    RedactedBytes,
    RedactedText,
    forget,
    hide,
    hide_credentials,
    hide_keys,
    hide_variable,
    redact,
    reveal,
)

KEY = 'sk-"quoted"\\käy/1'


@pytest.mark.parametrize(
    "text",
    [KEY, f"Bearer {KEY}!", json.dumps({"k": KEY}), json.dumps(KEY, ensure_ascii=False),
     "sk-%22quoted%22%5Ck%C3%A4y%2F1", "sk-%22quoted%22%5ck%c3%a4y/1", quote(quote(KEY)), json.dumps(json.dumps(KEY)),
     html.escape(KEY), repr(KEY.encode()), KEY.replace("-", "\\-"), KEY.replace("/", "\\/"),
     KEY.replace('"', "\\u0022"), KEY.encode().hex(), KEY.encode().hex().upper(),
     quote(base64.b64encode(KEY.encode()).decode(), safe="")],
)  # fmt: skip
def test_a_secret_is_replaced_by_its_variable_also_where_it_is_escaped(text: str) -> None:
    hide(KEY, "MY_KEY")
    assert "${MY_KEY}" in redact(text)
    assert "quoted" not in redact(text)


@given(before=st.binary(max_size=9), after=st.binary(max_size=9), safe=st.booleans())
def test_a_secret_is_found_in_base64_wherever_it_stands_among_the_bytes(
    before: bytes, after: bytes, safe: bool
) -> None:
    """Basic authentication has ``user:`` before it; at most the bits of one byte at each end are left."""
    secret = b"\xfb\xff:0123456789abcdef".decode("latin-1")
    forget()
    hide(secret, "MY_KEY")
    encode = base64.urlsafe_b64encode if safe else base64.b64encode
    shown = redact(encode(before + secret.encode() + after).decode())
    rest = shown.replace("${MY_KEY}", "")
    assert "${MY_KEY}" in shown
    assert len(rest) <= len(encode(before)) + len(encode(after)) + 8


@given(before=st.text('ab\\"/\n'), after=st.text('ab\\"/\n'), secret=st.text('-\\"/+', min_size=2, max_size=4))
def test_a_row_of_json_is_still_one_without_the_secret(before: str, after: str, secret: str) -> None:
    forget()
    hide(f"{secret}0123456{secret}", "KEY")
    row = json.dumps({"text": f"{before}{secret}0123456{secret}{after}", "more": 1})
    shown = json.loads(redact(row))
    assert shown["more"] == 1
    assert "${KEY}" in shown["text"]


def test_of_two_secrets_that_begin_alike_the_longer_one_is_meant() -> None:
    hide("sk-0123456", "SHORT")
    hide("sk-0123456789", "LONG")
    assert redact("sk-0123456789 sk-0123456") == "${LONG} ${SHORT}"


@pytest.mark.parametrize("value", ["", "none", "EMPTY", "ollama", "unused", "12345"])
def test_a_placeholder_for_a_key_is_no_secret(value: str) -> None:
    hide(value, "KEY")
    assert redact(f"the reply says {value} here") == f"the reply says {value} here"


@pytest.mark.parametrize(
    "value", ["8000", "-1.5e10", "2026-01-01", "true", "/tmp/some/folder", "./data/rows.jsonl", "https://a.example/v1",
              "You are a judge.", "paris"],
)  # fmt: skip
def test_a_variable_that_is_plainly_no_secret_is_shown(value: str) -> None:
    hide_variable(value, "VALUE")
    assert redact(value) == value


def test_a_variable_that_may_be_a_secret_is_hidden_unless_a_model_or_a_host_is_called_so() -> None:
    hide_variable("tok-91827364", "TOKEN")
    hide_variable("gpt-4o-mini", "MODEL")
    reveal("openai/gpt-4o-mini")
    assert redact("gpt-4o-mini tok-91827364") == "gpt-4o-mini ${TOKEN}"


@pytest.mark.parametrize("echoed", ["http://ann:pass%20word@proxy:3128", "pass word", "YW5uOnBhc3Mgd29yZA=="])
def test_the_user_part_of_an_address_is_hidden_in_each_form_in_which_it_is_sent(echoed: str) -> None:
    hide_credentials("http://ann:pass%20word@proxy:3128")
    assert "***" in redact(echoed)


@given(before=st.text(), after=st.text(), at=st.integers(0, 60), slash=st.sampled_from(["/", "%252F", "&#x0002F;"]))
def test_a_secret_in_what_a_program_prints_is_found_across_the_parts(
    before: str, after: str, at: int, slash: str
) -> None:
    forget()
    hide("sk0123456789/a", "KEY")
    printed = f"{before}sk0123456789{slash}a{after}".encode()
    filter_ = RedactedBytes()
    shown = filter_.feed(printed[:at]) + filter_.feed(printed[at:]) + filter_.end()
    assert shown == f"{before}${{KEY}}{after}".encode()


def test_a_stream_is_written_without_secrets_and_is_otherwise_the_stream() -> None:
    hide("sk-0123456789", "KEY")
    stream = io.StringIO()
    redacted = cast(io.StringIO, RedactedText(stream))
    redacted.writelines(["a sk-0123456789\n", "b\n"])
    assert redacted.getvalue() == "a ${KEY}\nb\n"


def test_what_a_plugin_reads_itself_is_hidden_by_the_name_that_keys_have() -> None:
    keys = {"ACME_API_KEY": "sk-0123456789", "HF_TOKEN": "hf_abcdefgh1"}
    hide_keys({**keys, "PATH": "/usr/local/bin", "MAX_TOKENS": "123456789"})
    assert redact("sk-0123456789 hf_abcdefgh1 /usr/local/bin 123456789") == (
        "${ACME_API_KEY} ${HF_TOKEN} /usr/local/bin 123456789"
    )


@pytest.mark.parametrize("end", [io.TextIOWrapper.close, io.TextIOWrapper.detach])
def test_a_stream_that_a_component_closed_takes_what_is_written_without_an_error(
    end: Callable[[io.TextIOWrapper], object],
) -> None:
    inner = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    stream = RedactedText(inner)
    stream.close()
    stream.write("still open")
    stream.flush()
    assert inner.buffer.getvalue() == b"still open"  # type: ignore[attr-defined]
    end(inner)
    assert (stream.write("gone"), stream.flush(), stream.isatty()) == (4, None, False)
