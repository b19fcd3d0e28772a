"""A run's structured log: one JSON object a line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lrf.text.redaction import redact
from lrf.text.unicode import storable


@contextmanager
def run_log(path: Path) -> Iterator[Any]:
    """A structlog logger that appends to the file, without secrets. It configures nothing global."""
    import structlog

    with path.open("a", encoding="utf-8") as f:
        yield structlog.wrap_logger(
            structlog.WriteLogger(f),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(ensure_ascii=False),
                lambda _logger, _method, line: storable(redact(str(line))),  # of a path that is not UTF-8, perhaps
            ],
            cache_logger_on_first_use=False,
        )
