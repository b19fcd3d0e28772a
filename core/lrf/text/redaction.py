"""Secrets of this process, and the one place where texts are freed of them before they are written or shown.

A secret is registered when lrf learns of it: the value of a variable that a setting of type
:data:`lrf.http.settings.EnvName` names (a key, a header), of a ``${NAME}`` in the pipeline, and of a variable that is
called as keys are (``…_API_KEY``, ``…_TOKEN``), which a plugin may read itself; and the user part of an address.
:func:`redact` puts ``${NAME}`` in its place, also where the secret is encoded in base64 or base16, and where characters
of it that are no letters or digits are escaped as in an address, JSON, HTML, Markdown or Python, also twice or thrice
(``%252F``). It is called where text leaves: replies on their way to the journal, the journal's rows, the run's
files and its log, the output of the command line and of child processes.

Too short to be told from ordinary words, and so never redacted: a value of fewer than :data:`SHORTEST` characters, and
a single word of fewer than :data:`SHORTEST_WORD` letters ("ollama", "unused": placeholders for a key that isn't
needed). Of ``${NAME}`` only what may be a secret counts: no number, path, sentence, or address without a user part.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

SHORTEST = 6
SHORTEST_WORD = 12
SHORTEST_VARIABLE = SHORTEST_ENCODED = 8
_NUMBER = re.compile(r"[-+\d.,:eE_]+")
_KEYS_NAME = re.compile(r"(?:API_?KEY|ACCESS_?KEY|SECRET|TOKEN|PASSWORD)\Z", re.IGNORECASE)

_PLAIN = re.compile("[A-Za-z0-9]+")  # characters that nothing escapes
_UNIT = re.compile(r"\\+|[A-Za-z0-9]+|.", re.DOTALL)
_URL_SAFE = str.maketrans("+/", "-_")

_shown: dict[str, str] = {}
"""Each form of each secret, and what stands in its place."""
_forms: tuple[str, ...] = ()
"""The secrets' forms, the longest first: of two that begin alike the longer one is meant."""
_longest_parts: tuple[str, ...] = ()
"""Of each form a part that no escaping changes; a text without any of them has no secret."""

_NAMED = {'"': "quot", "'": "apos", "&": "amp", "<": "lt", ">": "gt"}
_LETTERED = {"\n": "n", "\r": "r", "\t": "t"}
_LONGEST_ESCAPE = 12
"""Characters of an escaped byte."""


def hide(value: str, name: str) -> None:
    """Register a secret, the value of the environment variable ``name``, to be shown as ``${name}``."""
    value = value.strip()
    if len(value) >= (SHORTEST_WORD if value.isalpha() else SHORTEST):
        _register(value, f"${{{name}}}")


def hide_variable(value: str, name: str) -> None:
    """Register the value of a ``${name}`` in the pipeline where it may be a secret; an address only its user part."""
    if "://" in value:
        hide_credentials(value, f"${{{name}}}")
    elif len(value) >= SHORTEST_VARIABLE and not (_NUMBER.fullmatch(value) or _is_path(value) or " " in value.strip()):
        hide(value, name)


def hide_keys(environ: Mapping[str, str]) -> None:
    """Register the values of all variables that are called as keys usually are, whoever reads them."""
    for name, value in environ.items():
        if _KEYS_NAME.search(name):
            hide_variable(value, name)


def hide_credentials(address: str, shown: str = "***") -> None:
    """Register the user name and the password of an address, and both as HTTP's basic authentication sends them."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    for secret in (password, user if not password else "", f"{user}:{password}" if password else ""):
        if len(secret) >= SHORTEST:
            _register(secret, shown)
            _register(base64.b64encode(secret.encode()).decode(), shown)


def reveal(text: str) -> None:
    """Don't treat as secret what is part of this text, which is shown on purpose: a model's name, a host."""
    for form in [form for form in _shown if form in text]:
        del _shown[form]
    _compile()


def redact(text: str, rest: Callable[[str], str] = str) -> str:
    """The text with every secret replaced. ``rest`` is applied to the parts between them."""
    for part in _longest_parts:
        if part in text:
            break
    else:
        return rest(text)
    forms = tuple(form for form, part in zip(_forms, _longest_parts, strict=True) if part in text)
    parts, at = [], 0
    for match in _any_of(forms).finditer(text):
        parts += [rest(text[at : match.start()]), _shown[forms[(match.lastindex or 1) - 1]]]
        at = match.end()
    return "".join((*parts, rest(text[at:])))


def _is_path(value: str) -> bool:
    """Whether it is written as a path, an absolute one as one on this machine (base64 may begin with a slash, too)."""
    return value.startswith(("./", "../", "~")) or (value[0] == "/" and Path("/", *Path(value).parts[:2]).exists())


def forget() -> None:
    """Forget all secrets, as in a new process."""
    _shown.clear()
    _compile()


def _register(value: str, shown: str) -> None:
    for form in (value, *_encoded(value.encode("utf-8", "surrogatepass"))):
        _shown.setdefault(form, shown)
    _compile()


def _encoded(value: bytes) -> Iterator[str]:
    """The secret in base16 and base64, there at each of its places among three bytes of a longer text."""
    if len(value) >= SHORTEST_ENCODED:
        yield value.hex()
        yield value.hex().upper()
        for before, first in ((0, 0), (1, 2), (2, 3)):
            last = (before + len(value)) * 8 // 6  # of the characters that no byte after the secret has a share in
            whole = base64.b64encode(b"\0" * before + value)[first:last].decode()
            yield whole
            yield whole.translate(_URL_SAFE)


def _compile() -> None:
    global _forms, _longest_parts
    _forms = tuple(sorted(_shown, key=len, reverse=True))
    _longest_parts = tuple(max(_PLAIN.findall(form), key=len, default="") for form in _forms)


@lru_cache(16)
def _any_of(forms: tuple[str, ...]) -> re.Pattern[str]:
    """Each form, escaped or not, as a group."""
    units = (_UNIT.findall(form) for form in forms)
    patterns = (_escaped(first, first=True) + "".join(map(_escaped, others)) for first, *others in units)
    return re.compile("|".join(f"({pattern})" for pattern in patterns))


def _longest(form: str) -> int:
    """The most bytes that a form takes where it is escaped."""
    plain = sum(map(len, _PLAIN.findall(form)))
    return plain + _LONGEST_ESCAPE * (len(form.encode("utf-8", "surrogatepass")) - plain)


def _escaped(character: str, first: bool = False) -> str:
    """A pattern for a character, or for backslashes, as they are or escaped. No half of an escape is left around it."""
    if _PLAIN.fullmatch(character):
        return character
    if character[0] == "\\":
        count = len(character)
        written = rf"(?<!\\)\\{{{count},}}" if first else rf"(?:\\\\){{{count},}}+|\\{{{count}}}"
        return rf"(?:{written}|(?:%(?:25){{0,2}}5[cC]){{{count}}})"
    backslashes = r"(?<!\\)\\+" if first else r"\\{1,8}"
    as_bytes = [f"{byte:02x}" for byte in character.encode("utf-8", "surrogatepass")]
    units = character.encode("utf-16-be", "surrogatepass").hex()
    ways = [
        re.escape(character),
        backslashes + re.escape(character),
        backslashes + r"\\{1,4}".join(f"u(?i:{units[at : at + 4]})" for at in range(0, len(units), 4)),
        backslashes + r"\\{1,4}".join(f"x(?i:{byte})" for byte in as_bytes),
        "".join(f"%(?:25){{0,2}}(?i:{byte})" for byte in as_bytes),
        f"&(?:amp;)?#(?:0{{0,3}}{ord(character)}|(?i:x0{{0,3}}{ord(character):x}));",
    ]
    if character in _NAMED:
        ways.append(f"&(?:amp;)?{_NAMED[character]};")
    if character in _LETTERED:
        ways.append(backslashes + _LETTERED[character])
    if character == " ":
        ways.append(r"\+")
    return f"(?:{'|'.join(ways)})"


class RedactedText:
    """A text stream without secrets. A secret that is written in several parts is not noticed.

    It can't be closed, and once the stream itself is closed, what is written is dropped: a component may have done so,
    and must not end what the program has left to do.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        if not isinstance(text, str):  # click finds out so that this is no stream of bytes
            raise TypeError("a text stream")
        if self._usable:
            self._stream.write(redact(text))
        return len(text)

    def flush(self) -> None:
        if self._usable:
            self._stream.flush()

    def close(self) -> None:
        self.flush()

    def isatty(self) -> bool:
        return self._usable and self._stream.isatty()

    @property
    def _usable(self) -> bool:
        try:
            return not self._stream.closed
        except ValueError:  # its buffer was detached
            return False

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __iter__(self) -> Any:
        return iter(self._stream)


class RedactedBytes:
    """The bytes that a program prints, in the parts in which they come, without secrets."""

    def __init__(self) -> None:
        self._kept = b""

    def feed(self, part: bytes) -> bytes:
        """What can be shown by now: all but an end in which a secret may have begun."""
        text = redact((self._kept + part).decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
        keep = max(map(_longest, _forms), default=1) - 1
        shown, self._kept = (text[:-keep], text[-keep:]) if keep else (text, b"")
        return shown

    def end(self) -> bytes:
        """The rest, once there is no more."""
        shown, self._kept = self._kept, b""
        return shown
