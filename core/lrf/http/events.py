"""Server-sent events and JSON lines: the two forms in which servers stream JSON."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

STREAM_TYPES = ("text/event-stream", "application/x-ndjson", "application/jsonl", "application/json-lines")
"""Content types of streams."""

_DONE = "[DONE]"  # OpenAI's last event
_FIRST_LINE = re.compile(rb"\s*(?:data|event|id|retry)?:")


def stream_type(content_type: str, body: bytes) -> str | None:
    """The type of the stream that a body is, by its content type or, where that says otherwise, by how it begins.

    None for a body that is no stream.
    """
    if content_type in STREAM_TYPES:
        return content_type
    return STREAM_TYPES[0] if _FIRST_LINE.match(body[:200]) else None


@dataclass(slots=True)
class EventReader:
    """Reads a stream in pieces of any size, in linear time. Yields the data of each event, as text.

    ``content_type``: one of :data:`STREAM_TYPES`. Comments, names and ids of events are left out, as is ``[DONE]``.
    Bytes that are not UTF-8 are replaced.
    """

    content_type: str = "text/event-stream"
    _line: list[bytes] = field(default_factory=list)
    _data: list[str] = field(default_factory=list)

    def feed(self, part: bytes) -> Iterator[str]:
        """The events that this piece completes."""
        first, *rest = part.split(b"\n")
        self._line.append(first)
        for following in rest:
            yield from self._read(b"".join(self._line))
            self._line = [following]

    def end(self) -> Iterator[str]:
        """The event that the stream's end completes: servers leave out its last empty line."""
        yield from self._read(b"".join(self._line))
        yield from self._read(b"")

    def _read(self, raw: bytes) -> Iterable[str]:
        line = raw.removesuffix(b"\r").decode("utf-8", "replace")
        if self.content_type != "text/event-stream":
            return [line] if line.strip() else []
        name, _, value = line.partition(":")
        if name == "data":
            self._data.append(value.removeprefix(" "))
        if line or not self._data:
            return []
        event, self._data = "\n".join(self._data), []
        return [] if event.strip() == _DONE else [event]
