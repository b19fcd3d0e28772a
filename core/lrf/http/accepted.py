"""Results of requests that a server accepts and works on later (status 202)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from lrf.errors import RateLimitedError, UnavailableError
from lrf.http.failures import json_or_text, retry_after
from lrf.http.transport import HttpResponse

_FIRST_PAUSE_S, _SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 0.1, 30.0
_IDS = ("id", "operation_id", "operationId", "request_id", "requestId", "task_id", "taskId")
_RUNNING = frozenset(
    {"accepted", "in_progress", "in-progress", "inprogress", "notstarted", "pending", "processing", "queued", "running"}
)


def location(headers: Mapping[str, str], body: Any, result_path: str | None) -> str | None:
    """Where the result will be: a path under the base URL by ``result_path``, else an address; None if unknown.

    ``result_path`` is a path with ``{id}`` for the operation's id, which the body names as ``id``, ``operation_id``,
    ``request_id`` or ``task_id``.
    """
    if result_path is None:
        return headers.get("Operation-Location") or headers.get("Location")
    ids = [body[name] for name in _IDS if isinstance(body.get(name), str | int)] if isinstance(body, dict) else []
    return result_path.replace("{id}", str(ids[0])) if ids else None


async def wait_for_result(first: HttpResponse, fetch: Callable[[], Awaitable[HttpResponse]]) -> HttpResponse:
    """Fetch until the result is there: a status other than 202, and a body whose ``status`` is not "running" or alike.

    Pauses as ``Retry-After`` wishes, else with doubling pauses of up to half a minute. A server that is busy or away is
    asked again; the caller's deadline ends it.
    """
    pause, wish = _FIRST_PAUSE_S, retry_after(first.headers)
    while True:
        await asyncio.sleep(pause if wish is None else max(wish, _SHORTEST_PAUSE_S))
        pause = min(2 * pause, _LONGEST_PAUSE_S)
        try:
            answer = await fetch()
        except (RateLimitedError, UnavailableError) as error:
            wish = error.retry_after_s
            continue
        if answer.status != 202 and not _is_running(json_or_text(answer.body)):
            return answer
        wish = retry_after(answer.headers)


def _is_running(value: Any) -> bool:
    return isinstance(value, dict) and str(value.get("status", "")).lower() in _RUNNING and "choices" not in value
