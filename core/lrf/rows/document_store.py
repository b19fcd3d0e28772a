"""Documents by their hash, so that a long text is sent once and named from then on."""

from __future__ import annotations

import hashlib
import os
import re
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

    Parameters
    ----------
    folder: where texts are kept, each in a file of its own. None: in memory only.
    memory_bytes: how much text is kept in memory; without a folder, what is beyond it is forgotten, the longest unused
        first.
    """

    def __init__(self, folder: Path | None = None, memory_bytes: int = 256 << 20) -> None:
        self._folder = folder
        self._memory_bytes = memory_bytes
        self._texts: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def put(self, text: str) -> str:
        """Keep the text; returns its id."""
        encoded = text.encode()
        key = hashlib.sha256(encoded).hexdigest()
        with self._lock:
            known = key in self._texts
        if not known:
            if self._folder is not None:
                self._write(self._folder, key, encoded)
            self._remember(key, encoded)
        return key

    def get(self, key: str) -> str | None:
        """The text with this id, or None."""
        with self._lock:
            encoded = self._texts.get(key)
            if encoded is not None:
                self._texts.move_to_end(key)
        if encoded is None and self._folder is not None and is_document_id(key):
            try:
                encoded = self._file(self._folder, key).read_bytes()
            except FileNotFoundError:
                return None
            if hashlib.sha256(encoded).hexdigest() != key:  # a file that was changed is no longer this document
                return None
            self._remember(key, encoded)
        return None if encoded is None else encoded.decode()

    def __contains__(self, key: str) -> bool:
        with self._lock:
            known = key in self._texts
        return known or (self._folder is not None and is_document_id(key) and self._file(self._folder, key).exists())

    def _remember(self, key: str, encoded: bytes) -> None:
        with self._lock:
            if key not in self._texts:
                self._texts[key] = encoded
                self._bytes += len(encoded)
            while self._bytes > self._memory_bytes and len(self._texts) > 1:
                _, oldest = self._texts.popitem(last=False)
                self._bytes -= len(oldest)

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
