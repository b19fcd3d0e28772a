"""A batch at the provider with the requests in it, and the errors of requests that got no completion."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from lrf.errors import JudgeError, JudgeMisconfiguredError, TimedOutError, UnavailableError
from lrf.http.client import HttpClient
from lrf_openai.batch_server import ProviderBatch
from lrf_openai.spool import BatchReplies

_NOT_BEGUN = ("batch_expired", "batch_cancelled")  # codes of requests that their batch never came to


class PendingBatch:
    """A batch and its requests.

    Attributes
    ----------
    batch: as the provider last described it.
    ids: the ``custom_id`` of each request.
    earlier: whether it had ended before this process began. Its failed requests are then submitted again, without an
        error.
    replies: its results, once it has ended and they are read.
    refused: errors of requests for which the provider refused the batch.
    watch: the task that waits for its end.
    """

    def __init__(self, batch: ProviderBatch, ids: Sequence[str], *, earlier: bool = False) -> None:
        self.batch = batch
        self.ids = ids
        self.earlier = earlier
        self.replies: BatchReplies | None = None
        self.refused: dict[str, JudgeError] = {}
        self.watch: asyncio.Task[None] | None = None

    def error(self, custom_id: str, result: Mapping[str, Any] | None, http: HttpClient) -> JudgeError | None:
        """Why a request has no completion; None for a request that is to be submitted again.

        ``result`` is its line in the results, or None if it has no line.
        """
        if self.earlier:
            return None
        answered = None if result is None else _answered_error(result, http)
        if answered is not None:
            return answered
        if custom_id in self.refused:
            return self.refused[custom_id]
        name = f"the batch {self.batch.id}"
        if self.batch.status == "failed":
            return None
        if self.batch.status == "expired":
            return TimedOutError(f"{name} expired before it came to this request", sent=False)
        if self.batch.status == "cancelled":
            return JudgeMisconfiguredError(
                f"{name} was cancelled at the provider; what it had finished is kept, and the same command submits the "
                "rest"
            )
        return UnavailableError(f"{name} has ended without a result for this request", sent=True)


def _answered_error(result: Mapping[str, Any], http: HttpClient) -> JudgeError | None:
    """The error in a request's result; None if the batch never came to the request."""
    response, error = result.get("response"), result.get("error")
    if isinstance(response, dict) and isinstance(response.get("status_code"), int):
        return http.error(response["status_code"], response.get("body"))
    if isinstance(error, dict) and str(error.get("code")) not in _NOT_BEGUN:
        return http.error(502, {"error": error})
    return None
