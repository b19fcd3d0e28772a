"""Collects the mistakes of a pipeline, so that they are reported together."""

from __future__ import annotations

from lrf.errors import ConfigError, Problem

KeyPath = tuple[str | int, ...]
"""The place of a value: keys and list positions from the top."""


def dotted(path: KeyPath) -> str:
    """``("dimensions", 2, "name")`` as ``dimensions[2].name``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


class Problems:
    """The mistakes so far. Only the first mistake of a value is kept."""

    def __init__(self, file: str | None) -> None:
        self.file = file
        self.lines: dict[KeyPath, int | None] = {}
        self._problems: list[Problem] = []
        self._mistaken: set[KeyPath] = set()

    def add(self, message: str, path: KeyPath = (), line: int | None = None, *, of_value: bool = True) -> None:
        """Add a mistake. Without a ``line`` it gets the line of its path, or of the nearest value around it.

        ``of_value``: the value itself is wrong, so that every later mistake of it is only a consequence.
        """
        if path in self._mistaken:
            return
        if of_value:
            self._mistaken.add(path)
        around = path
        while line is None and around:
            line = self.lines.get(around)
            around = around[:-1]
        self._problems.append(Problem(message, dotted(path), line, self.file))

    def has(self, path: KeyPath) -> bool:
        """Whether there is a mistake at the path itself."""
        return path in self._mistaken

    def raise_any(self) -> None:
        """Raise :class:`lrf.errors.ConfigError` with all of them, in the order of the file."""
        if self._problems:
            raise ConfigError(sorted(self._problems, key=lambda p: p.line or 0))
