"""Which keys may have been added to a journal that was empty when it was opened."""

from __future__ import annotations


class Added:
    """A bit for 24 bits of each key's hash, so 2 MiB however many there are.

    A key that was added is always in. Of others, one in seventeen seems to be in after a million.
    """

    def __init__(self) -> None:
        self._bits = bytearray(1 << 21)

    def add(self, key: bytes) -> None:
        place = hash(key) & 0xFFFFFF
        self._bits[place >> 3] |= 1 << (place & 7)

    def __contains__(self, key: bytes) -> bool:
        place = hash(key) & 0xFFFFFF
        return bool(self._bits[place >> 3] >> (place & 7) & 1)
