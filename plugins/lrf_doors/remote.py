"""A server of ``lrf serve`` as a source of rewards."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from typing import Any

import aiohttp

from lrf.errors import LrfError
from lrf_doors.source import Outcome

PAUSES_S = (0.5, 1.0, 2.0, 5.0)
"""Pauses before a server that can't be reached is tried again; the last one repeats until the deadline."""


class RefusedError(LrfError):
    """The server refuses a request, or can score nothing: what it said."""


class RemoteClient:
    """The client of one server. A server that is busy or away is tried again until the deadline."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/") + "/v1/rewards"
        token = os.environ.get("LRF_SERVE_TOKEN")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._session: aiohttp.ClientSession | None = None

    async def outcomes(self, request: Mapping[str, Any], deadline_s: float) -> list[Outcome]:
        until = time.monotonic() + deadline_s
        attempt, why = 0, "the deadline passed"
        while (left_s := until - time.monotonic()) > 0:
            try:
                status, pause_s, body = await self._post({**request, "deadline_s": min(left_s, 3600.0)}, left_s)
            except (aiohttp.ClientError, TimeoutError) as error:
                status, why = 0, f"{self._url} can't be reached: {error or type(error).__name__}"
                pause_s = PAUSES_S[min(attempt, len(PAUSES_S) - 1)]
            else:
                why = str(body.get("error"))
            if status == 200:
                return [self._outcome(row) for row in body["rewards"]]
            if status and status not in (429, 502, 503, 504):
                raise RefusedError(f"{self._url}: {why}")
            attempt += 1
            await asyncio.sleep(min(pause_s, max(0.0, until - time.monotonic())))
        return [Outcome(None, {}, why) for _ in request["answers"]]

    def _outcome(self, row: Mapping[str, Any]) -> Outcome:
        """Raises :class:`RefusedError` where scoring is stopped altogether: that is no answer's own failure."""
        if row["status"] == "stopped":
            raise RefusedError(f"{self._url}: scoring is stopped: {row.get('message')}")
        why = "" if row["reward"] is not None else f"{row.get('reason')}: {row.get('message')}"
        return Outcome(row["reward"], row.get("ratings") or {}, why)

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _post(self, body: Mapping[str, Any], left_s: float) -> tuple[int, float, Mapping[str, Any]]:
        """The status, the seconds to wait before another attempt, and the body."""
        if self._session is None:
            self._session = aiohttp.ClientSession(headers=self._headers, connector=aiohttp.TCPConnector(limit=0))
        timeout = aiohttp.ClientTimeout(total=left_s + 10)  # the server keeps the deadline itself
        async with self._session.post(self._url, json=body, timeout=timeout) as response:
            given = response.headers.get("Retry-After", "")
            said = await response.json(content_type=None)
            return response.status, float(given) if given.isdigit() else 1.0, said if isinstance(said, dict) else {}
