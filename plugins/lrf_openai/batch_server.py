"""Files and batches at the provider, through the ``openai`` package. All methods block: call them in a thread."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import IO, Any

from lrf.errors import (
    BadReplyError,
    JudgeError,
    JudgeMisconfiguredError,
    RejectedError,
    TimedOutError,
    UnavailableError,
)
from lrf.http.client import HttpClient
from lrf_openai.settings import OpenAIJudgeSettings
from lrf_openai.spool import BatchReplies, RequestSpool

ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
KEPT_S = 30 * 86_400
"""Seconds for which the provider keeps files. Older batches are ignored."""

_TAG, _IDS, _COUNT = "lrf", "lrf_ids", "requests"  # in a batch's metadata


@dataclass(frozen=True, slots=True)
class ProviderBatch:
    """A batch as the provider describes it.

    ``results`` names its result files. ``problems`` are (code, line or None, message) of a batch that failed.
    ``requests`` counts its requests, ``completed`` those with a reply (0 if the provider doesn't say).
    """

    id: str
    status: str
    requests_file: str
    ids_file: str | None
    results: tuple[str, ...]
    problems: tuple[tuple[str, int | None, str], ...]
    requests: int
    completed: int

    @property
    def running(self) -> bool:
        return self.status not in ENDED


def check_package() -> None:
    """Raises :class:`lrf.errors.JudgeMisconfiguredError` without the ``openai`` package."""
    if importlib.util.find_spec("openai") is None:
        raise JudgeMisconfiguredError("`batch` of a judge openai needs the openai package: pip install 'lrf[openai]'")


class BatchServer:
    """The files and batches of one account. ``tag`` marks the batches of one judge.

    Every method raises a :class:`lrf.errors.JudgeError` whose class says what to do about it. Its ``sent`` is False:
    managing batches costs nothing.
    """

    def __init__(self, settings: OpenAIJudgeSettings, endpoint: str, tag: str, http: HttpClient) -> None:
        self._settings = settings
        self._endpoint = endpoint
        self._tag = tag
        self._http = http

    @cached_property
    def _api(self) -> Any:
        import httpx2
        import openai

        s = self._settings
        here = httpx2.URL(s.base_url)
        secrets = {name: value for name, var in s.header_env.items() if (value := os.environ.get(var, "").strip())}

        def keep_here(request: Any) -> None:
            """Send no keys along where the provider redirects to a file at another address."""
            to = request.url
            if (to.scheme, to.host, to.port) != (here.scheme, here.host, here.port):
                for name in (*secrets, "Authorization"):
                    request.headers.pop(name, None)

        return openai.OpenAI(
            base_url=s.base_url,
            api_key=os.environ.get(s.api_key_env or "", "").strip() or "none",
            default_headers=secrets,
            timeout=s.request_timeout_s,
            max_retries=0,
            http_client=openai.DefaultHttpxClient(event_hooks={"request": [keep_here]}),
        )

    def ours(self) -> list[ProviderBatch]:
        """This judge's batches of the last 30 days, oldest first."""
        with self._errors("list the batches"):
            ours: list[Any] = []
            for page in self._api.batches.list(limit=100).iter_pages():
                if not isinstance(page.data, list):  # the package would treat it as empty
                    raise TypeError("no list")
                for batch in page.data:
                    recent = not batch.created_at or batch.created_at > time.time() - KEPT_S
                    if recent and (batch.metadata or {}).get(_TAG) == self._tag:
                        ours.append(batch)
            ours.reverse()  # the list begins with the newest; the order decides between batches of the same second
            return [_batch(batch) for batch in sorted(ours, key=lambda batch: batch.created_at or 0)]

    def submit(self, spool: RequestSpool) -> ProviderBatch:
        """Make a batch of the requests. Called again after an error, it finds the batch that was made."""
        with self._errors("submit a batch"):
            if spool.uploaded is None:
                ids = b"".join(b'{"custom_id":"%b"}\n' % custom_id.encode() for custom_id in spool.ids)
                spool.uploaded = self._upload(spool.file(), "requests"), self._upload(io.BytesIO(ids), "ids")
            else:
                made = next((b for b in self.ours() if b.requests_file == spool.uploaded[0]), None)
                if made is not None:
                    return made
            metadata = {_TAG: self._tag, _IDS: spool.uploaded[1], _COUNT: str(len(spool.ids))}
            made = self._api.batches.create(
                input_file_id=spool.uploaded[0], endpoint=self._endpoint, completion_window="24h", metadata=metadata
            )
            if (made.metadata or {}).get(_TAG) != self._tag:
                self._api.batches.cancel(made.id)
                raise JudgeMisconfiguredError(
                    f"{self._settings.base_url} keeps no metadata of batches, so lrf could not find them again after a "
                    f"crash (batch {made.id} was cancelled); remove `batch`"
                )
            return _batch(made)

    def look(self, batch: ProviderBatch) -> ProviderBatch:
        """The batch in its present state."""
        with self._errors("look at a batch"):
            return _batch(self._api.batches.retrieve(batch.id))

    def ids(self, batch: ProviderBatch) -> list[str]:
        """The ids of a batch's requests. If its files were deleted and it has ended: of those with a result."""
        try:
            with self._errors("read which requests a batch has"):
                text = self._api.files.content(batch.ids_file or "").content
                ids = [str(json.loads(line)["custom_id"]) for line in text.splitlines()]
                if len(ids) < batch.requests:
                    raise ValueError("not the whole file")
                return ids
        except (RejectedError, JudgeMisconfiguredError) as error:
            if not batch.running:
                return self.results(batch).ids
            raise JudgeMisconfiguredError(
                f"the batch {batch.id} is in flight, and the list of its requests can't be read ({error}); wait until "
                "it has ended or cancel it, then run again"
            ) from None

    def results(self, batch: ProviderBatch) -> BatchReplies:
        """The replies and errors of a batch that has ended, without those in files that were deleted.

        Raises :class:`lrf.errors.BadReplyError` for a file that is incomplete or holds no results: its missing requests
        would be paid for again.
        """
        replies, is_complete = BatchReplies(), True
        for name in batch.results:
            try:
                with (
                    self._errors("read a batch's results"),
                    self._api.files.with_streaming_response.content(name) as response,
                ):
                    replies.add(response.iter_bytes(1 << 20))
            except (RejectedError, JudgeMisconfiguredError) as error:
                if "status 404" not in str(error):
                    raise
                is_complete = False
        if is_complete and len(replies.ids) < batch.completed:
            message = f"the files of the batch {batch.id} hold {len(replies.ids)} of {batch.completed} replies"
            raise _unpaid(BadReplyError(message), message)
        return replies

    def close(self) -> None:
        if "_api" in self.__dict__:
            self._api.close()

    def _upload(self, file: IO[bytes], content: str) -> str:
        return _text(self._api.files.create(file=(f"lrf-{content}.jsonl", file), purpose="batch").id)

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        import httpx2
        import openai

        where = f"{self._settings.base_url}: can't {doing}"
        try:
            yield
        except openai.APIStatusError as refusal:
            body = refusal.body if isinstance(refusal.body, dict) else {"message": refusal.response.text}
            error = self._http.error(refusal.status_code, {"error": body}, refusal.response.headers)
            if "cannot find file" in str(error).lower():  # a file that was uploaded a moment ago
                error = UnavailableError(str(error))
            raise _unpaid(error, f"can't {doing}: {error}") from None
        except openai.APITimeoutError:
            raise TimedOutError(
                f"{where}: no answer within {self._settings.request_timeout_s:g} s", sent=False
            ) from None
        except (openai.APIConnectionError, httpx2.HTTPError) as failure:
            raise UnavailableError(
                f"{where}: {type(failure.__cause__ or failure).__name__}; is the server up?"
            ) from None
        except (
            openai.OpenAIError,
            AttributeError,
            KeyError,
            TypeError,
            ValueError,
        ) as odd:  # HTML, other JSON
            message = f"{where}: the answer is not what the API says ({type(odd).__name__})"
            raise _unpaid(BadReplyError(message), message) from None


def _unpaid(error: JudgeError, message: str) -> JudgeError:
    error.args = (message,)
    error.sent = False
    return error


def _text(value: Any) -> str:
    """A text that must be there. Raises TypeError if it isn't."""
    if not isinstance(value, str) or not value:
        raise TypeError("no text")
    return value


def _batch(raw: Any) -> ProviderBatch:
    metadata: Mapping[str, str] = raw.metadata or {}
    problems = (raw.errors.data or ()) if raw.errors else ()
    return ProviderBatch(
        id=_text(raw.id),
        status=_text(raw.status),
        requests_file=_text(raw.input_file_id),
        ids_file=metadata.get(_IDS),
        results=tuple(name for name in (raw.output_file_id, raw.error_file_id) if name),
        problems=tuple((str(p.code or ""), p.line, str(p.message or "")) for p in problems),
        requests=int(metadata.get(_COUNT) or 0),
        completed=int(raw.request_counts.completed or 0) if raw.request_counts else 0,
    )
