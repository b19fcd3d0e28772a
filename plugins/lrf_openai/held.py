"""A batch at the provider, as one process knows it, and what became of its requests."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from lrf.errors import JudgeError, JudgeMisconfiguredError, TimedOutError, UnavailableError
from lrf.http.client import HttpClient
from lrf_openai.batch_server import Batch
from lrf_openai.spool import Replies

_NO_TURN = ("batch_expired", "batch_cancelled")  # codes of requests that a batch ended without


class PendingBatch:
    """A batch at the provider. ``replies`` are there when it is over; ``refused`` are requests it was refused for.

    ``earlier``: it was over before this process began, so what failed in it is submitted again without a word.
    """

    def __init__(self, batch: Batch, ids: Sequence[str], *, earlier: bool = False) -> None:
        self.batch = batch
        self.ids = ids
        self.earlier = earlier
        self.replies: Replies | None = None
        self.refused: dict[str, JudgeError] = {}
        self.watch: asyncio.Task[None] | None = None

    def error(self, custom_id: str, result: Mapping[str, Any] | None, http: HttpClient) -> JudgeError | None:
        """Why a request has no completion, by its result if it has one; None for one that is to be submitted again."""
        if self.earlier:
            return None
        answered = None if result is None else _answered(result, http)
        if answered is not None:
            return answered
        if custom_id in self.refused:
            return self.refused[custom_id]
        name = f"the batch {self.batch.id}"
        if self.batch.status == "failed":
            return None
        if self.batch.status == "expired":
            return TimedOutError(f"{name} expired before this request's turn came")
        if self.batch.status == "cancelled":
            return JudgeMisconfiguredError(
                f"{name} was cancelled at the provider; what it had finished is kept, and the same command submits the "
                "rest"
            )
        return UnavailableError(f"{name} has ended without a word on this request")


def _answered(result: Mapping[str, Any], http: HttpClient) -> JudgeError | None:
    """The error that a request was answered with; None where it had no turn."""
    response, error = result.get("response"), result.get("error")
    if isinstance(response, dict) and isinstance(response.get("status_code"), int):
        return http.error(response["status_code"], response.get("body"))
    if isinstance(error, dict) and str(error.get("code")) not in _NO_TURN:
        return http.error(502, {"error": error})
    return None
