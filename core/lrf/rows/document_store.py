"""Documents by their hash, so that a long text is sent once and named from then on."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import threading
from collections import OrderedDict
from pathlib import Path

_ID = re.compile(r"[0-9a-f]{64}")


def document_id(text: str) -> str:
    """The SHA-256 of a text's UTF-8 bytes, in hexadecimal: what a document is named by."""
    return hashlib.sha256(text.encode()).hexdigest()


def is_document_id(value: object) -> bool:
    """Whether the value is written like a document's id (64 hexadecimal digits)."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


class DocumentStore:
    """Texts that were sent, by :func:`document_id`. May be used from any thread; blocks for files.

    A text that is in memory is always the same object, whoever sends it: a thousand requests about a document hold it
    once, and to look it up by its text or to compare it costs nothing.

    Parameters
    ----------
    folder: where texts are kept, each in a file of its own. None: in memory only.
    memory_bytes: how much text is kept in memory; without a folder, what is beyond it is forgotten, the longest unused
        first.
    """

    def __init__(self, folder: Path | None = None, memory_bytes: int = 256 << 20) -> None:
        self._folder = folder
        self._memory_bytes = memory_bytes
        self._texts: OrderedDict[str, str] = OrderedDict()
        self._ids: dict[str, str] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def put(self, text: str) -> str:
        """Keep the text; returns its id."""
        return self.keep(text)[0]

    def keep(self, text: str) -> tuple[str, str]:
        """Keep the text; returns its id, and the text as the store has it."""
        with self._lock:
            key = self._ids.get(text)
            if key is not None:
                self._texts.move_to_end(key)
                return key, self._texts[key]
        encoded = text.encode()
        key = hashlib.sha256(encoded).hexdigest()
        if self._folder is not None:
            self._write(self._folder, key, encoded)
        return key, self._remember(key, text)

    def get(self, key: str) -> str | None:
        """The text with this id, or None."""
        with self._lock:
            text = self._texts.get(key)
            if text is not None:
                self._texts.move_to_end(key)
                return text
        if self._folder is None or not is_document_id(key):
            return None
        try:
            encoded = self._file(self._folder, key).read_bytes()
        except FileNotFoundError:
            return None
        if hashlib.sha256(encoded).hexdigest() != key:  # a file that was changed is no longer this document
            return None
        return self._remember(key, encoded.decode())

    def __contains__(self, key: str) -> bool:
        with self._lock:
            known = key in self._texts
        return known or (self._folder is not None and is_document_id(key) and self._file(self._folder, key).exists())

    def _remember(self, key: str, text: str) -> str:
        with self._lock:
            if key not in self._texts:
                self._texts[key] = text
                self._ids[text] = key
                self._bytes += sys.getsizeof(text)
            while self._bytes > self._memory_bytes and len(self._texts) > 1:
                _, oldest = self._texts.popitem(last=False)
                del self._ids[oldest]
                self._bytes -= sys.getsizeof(oldest)
            return self._texts[key]

    @staticmethod
    def _file(folder: Path, key: str) -> Path:
        return folder / key[:2] / f"{key}.txt"

    def _write(self, folder: Path, key: str, encoded: bytes) -> None:
        file = self._file(folder, key)
        if file.exists():
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f".{key}.{os.getpid()}.{threading.get_ident()}.partial")
        partial.write_bytes(encoded)
        partial.replace(file)
