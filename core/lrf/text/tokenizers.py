"""Tokenizers: those bundled with the ``quicktok`` package, or a model's own ``tokenizer.json``.

Nothing is downloaded. Long texts are read in pieces, so that no thread holds the interpreter for long.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from lrf.errors import ConfigError
from lrf.text.unicode import storable_of_equal_length

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]

Bundled = Literal["o200k_base", "cl100k_base", "llama3"]
"""The tokenizers that need no file: GPT-4o's, GPT-4's, and Llama 3's."""

TokenizerName = Bundled | Path
"""A bundled tokenizer, or a ``tokenizer.json``, or a folder (of a model) that has one."""

DEFAULT: Bundled = "o200k_base"

PIECE = 16_384
"""Characters of a text that are read at once."""

# Before these places a token begins with any tokenizer: after a line, and before the space of the next word.
_BREAK = re.compile(r"(?<=\n)(?=\S)|(?<=[^\s])(?= \w)")


class Tokenizer(Protocol):
    """Counts and locates tokens. Takes any string, including lone surrogates."""

    def count(self, text: str) -> int:
        """The number of tokens of a text."""
        ...

    def places(self, text: str) -> tuple[Numbers, Numbers]:
        """The characters before which a token starts and no character is cut, and the number of tokens before each.

        Both arrays are increasing, start with 0 and end with the whole text.
        """
        ...


def tokenizer_of(name: TokenizerName) -> Tokenizer:
    """Raises :class:`lrf.errors.ConfigError` when the file isn't there or can't be read."""
    return _of_file(tokenizer_file(name)) if isinstance(name, Path) else _bundled(name)


def tokenizer_file(path: Path) -> Path:
    """The ``tokenizer.json`` at a path or in the folder there. Raises :class:`lrf.errors.ConfigError` without one."""
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        bundled = ", ".join(Bundled.__args__)  # type: ignore[attr-defined]
        raise ConfigError(
            f"tokenizer: there is no file {file}; give a tokenizer.json, its folder, or one of: {bundled}"
        )
    return file


@cache
def _bundled(name: str) -> Tokenizer:
    return _Quick(name)


@cache
def _of_file(file: Path) -> Tokenizer:
    return _File(file)


def _pieces(text: str) -> Iterator[str]:
    """The text in pieces that end, where there is such a place, where a token ends."""
    at = 0
    while len(text) - at > PIECE:
        end = at + PIECE
        breaks = [match.start() for match in _BREAK.finditer(text, end - PIECE // 8, end + 1)]
        stop = breaks[-1] if breaks else end
        yield text[at:stop]
        at = stop
    yield text[at:]


class _Pieced(ABC):
    """Counts a long text piece by piece."""

    def count(self, text: str) -> int:
        return sum(self._count(storable_of_equal_length(piece)) for piece in _pieces(text))

    def places(self, text: str) -> tuple[Numbers, Numbers]:
        import numpy as np

        zero = np.zeros(1, dtype=np.int64)
        places, counts = [zero], [zero]
        characters = tokens = 0
        for piece in _pieces(text) if text else ():
            found, before = self._places(storable_of_equal_length(piece))
            places.append(characters + found)
            counts.append(tokens + before)
            characters, tokens = characters + len(piece), tokens + int(before[-1])
        return np.concatenate(places), np.concatenate(counts)

    @abstractmethod
    def _count(self, text: str) -> int: ...

    @abstractmethod
    def _places(self, text: str) -> tuple[Numbers, Numbers]:
        """As :meth:`Tokenizer.places` of a text that is not empty, without the zeros in front."""


class _Quick(_Pieced):
    """A tokenizer of quicktok, whose tokens are the text's bytes as they are."""

    def __init__(self, name: str) -> None:
        import quicktok

        self._encoder: Any = quicktok.get_encoding(name)
        self._sizes: dict[int, int] = {}

    def _count(self, text: str) -> int:
        return int(self._encoder.count(text))

    def _places(self, text: str) -> tuple[Numbers, Numbers]:
        import numpy as np

        ids, _ = self._encoder.encode_batch([text], 1)
        kinds, which = np.unique(ids, return_inverse=True)
        sizes = np.array([self._size(int(kind)) for kind in kinds], dtype=np.int64)
        ends = np.cumsum(sizes[which])  # in bytes, one a token
        starts_character = (np.frombuffer(text.encode(), dtype=np.uint8) & 0xC0) != 0x80
        characters_before = np.concatenate(([0], np.cumsum(starts_character)))
        whole = np.append(starts_character, True)[ends]
        return characters_before[ends[whole]], np.flatnonzero(whole) + 1

    def _size(self, kind: int) -> int:
        if kind not in self._sizes:
            self._sizes[kind] = len(self._encoder.decode_single_token_bytes(kind))
        return self._sizes[kind]


class _File(_Pieced):
    """A ``tokenizer.json``, whose tokens know where in the original text they are."""

    def __init__(self, file: Path) -> None:
        try:
            from tokenizers import Tokenizer as Rust
        except ImportError:
            raise ConfigError(
                f"tokenizer: to read {file} the package tokenizers is needed: pip install tokenizers"
            ) from None
        try:
            self._encoder: Any = Rust.from_file(str(file))
        except Exception as error:  # the library raises nothing more precise
            raise ConfigError(f"tokenizer: {file} can't be read: {error}") from None
        self._encoder.no_truncation()
        self._encoder.no_padding()

    def _count(self, text: str) -> int:
        return len(self._encode(text).ids)

    def _places(self, text: str) -> tuple[Numbers, Numbers]:
        import numpy as np

        places, counts = [], []
        reach = last = 0
        number = -1
        for number, (start, end) in enumerate(self._encode(text).offsets):
            if start >= reach and start > last:  # else within a character of several tokens
                places.append(start)
                counts.append(number)
                last = start
            reach = max(reach, end)
        places.append(len(text))
        counts.append(max(1, number + 1))
        return np.array(places, dtype=np.int64), np.array(counts, dtype=np.int64)

    def _encode(self, text: str) -> Any:
        return self._encoder.encode(text, add_special_tokens=False)
