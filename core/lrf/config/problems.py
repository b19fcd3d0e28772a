"""Collecting every mistake of a pipeline, so that they are told together."""

from __future__ import annotations

from lrf.errors import ConfigError, Problem

KeyPath = tuple[str | int, ...]
"""Where a value stands: keys and list positions from the top."""


def dotted(path: KeyPath) -> str:
    """``("dimensions", 2, "name")`` as ``dimensions[2].name``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


class Problems:
    """The mistakes found so far. What is wrong with a mistaken value is told once."""

    def __init__(self, file: str | None) -> None:
        self.file = file
        self.lines: dict[KeyPath, int | None] = {}
        self._found: list[Problem] = []
        self._told: set[KeyPath] = set()

    def add(self, message: str, path: KeyPath = (), line: int | None = None, *, of_value: bool = True) -> None:
        """Note a mistake. Without ``line`` it is that of the path, or of the nearest thing around it.

        ``of_value``: what stands there is wrong, so that anything else found wrong with it is only a consequence.
        """
        if path in self._told:
            return
        if of_value:
            self._told.add(path)
        around = path
        while line is None and around:
            line = self.lines.get(around)
            around = around[:-1]
        self._found.append(Problem(message, dotted(path), line, self.file))

    def has(self, path: KeyPath) -> bool:
        """Whether there is a mistake at the path itself."""
        return path in self._told

    def raise_any(self) -> None:
        """Raise :class:`lrf.errors.ConfigError` with all of them, in the order of the file."""
        if self._found:
            raise ConfigError(sorted(self._found, key=lambda p: p.line or 0))
