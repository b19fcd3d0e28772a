"""Files and batches at the provider, by the official ``openai`` package. All of it blocks: call it in a thread."""

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
from lrf_openai.spool import Replies, Spool

ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
KEPT_S = 30 * 86_400
"""For so long the provider keeps files; older batches are not looked at."""

_TAG, _IDS, _COUNT = "lrf", "lrf_ids", "requests"  # in a batch's metadata


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as the provider tells of it. ``problems``: (code, line or None, message) of one that failed.

    ``requests``: how many it has; ``completed``: how many of them have a reply, 0 where that isn't told.
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
    """One account's files and batches. ``tag`` marks the batches of one judge.

    Everything raises a :class:`lrf.errors.JudgeError` of the class that says what to do about it.
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
            """Where the provider redirects to a file that is kept elsewhere, the keys stay here."""
            to = request.url
            if (to.scheme, to.host, to.port) != (here.scheme, here.host, here.port):
                for name in (*secrets, "Authorization"):
                    request.headers.pop(name, None)

        return openai.OpenAI(
            base_url=s.base_url,
            api_key=os.environ.get(s.api_key_env, "").strip() or "none",
            default_headers=secrets,
            timeout=s.request_timeout_s,
            max_retries=0,
            http_client=openai.DefaultHttpxClient(event_hooks={"request": [keep_here]}),
        )

    def ours(self) -> list[Batch]:
        """This judge's batches of the last 30 days, the oldest first."""
        with self._errors("list the batches"):
            found: list[Any] = []
            for page in self._api.batches.list(limit=100).iter_pages():
                if not isinstance(page.data, list):  # the package would take it for an empty one
                    raise TypeError("no list")
                for batch in page.data:
                    recent = not batch.created_at or batch.created_at > time.time() - KEPT_S
                    if recent and (batch.metadata or {}).get(_TAG) == self._tag:
                        found.append(batch)
            found.reverse()  # as they come, the newest is first; of equal seconds the order counts
            return [_batch(batch) for batch in sorted(found, key=lambda batch: batch.created_at or 0)]

    def submit(self, spool: Spool) -> Batch:
        """Make a batch of the requests. Called again after an error, it makes no second one of the same."""
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
                    f"{self._settings.base_url} keeps no metadata of batches, so that lrf could not find them again "
                    f"after a crash (batch {made.id} was cancelled); take `batch` out"
                )
            return _batch(made)

    def look(self, batch: Batch) -> Batch:
        """The batch as it is now."""
        with self._errors("look at a batch"):
            return _batch(self._api.batches.retrieve(batch.id))

    def ids(self, batch: Batch) -> list[str]:
        """The requests of a batch; of one that has ended and whose files were deleted, those with a result."""
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
                f"the batch {batch.id} is in flight, and which requests it has can't be read ({error}); wait until it has "
                "ended or cancel it, then run again"
            ) from None

    def results(self, batch: Batch) -> Replies:
        """The replies and the errors of a batch that has ended; none of files that were deleted.

        Raises :class:`lrf.errors.BadReplyError` where a file isn't whole or none of results: what it lacks would be paid for
        again.
        """
        replies, whole = Replies(), True
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
                whole = False
        if whole and len(replies.ids) < batch.completed:
            raise BadReplyError(
                f"the files of the batch {batch.id} hold {len(replies.ids)} of {batch.completed} replies"
            )
        return replies

    def close(self) -> None:
        if "_api" in self.__dict__:
            self._api.close()

    def _upload(self, file: IO[bytes], what: str) -> str:
        return _text(self._api.files.create(file=(f"lrf-{what}.jsonl", file), purpose="batch").id)

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        import httpx2
        import openai

        where = f"{self._settings.base_url}: can't {doing}"
        try:
            yield
        except openai.APIStatusError as e:
            body = e.body if isinstance(e.body, dict) else {"message": e.response.text}
            error = self._http.error(e.status_code, {"error": body}, e.response.headers)
            if "cannot find file" in str(error).lower():  # of a file that was uploaded a moment ago
                error = UnavailableError(str(error))
            raise _prefixed(error, doing) from None
        except openai.APITimeoutError:
            raise TimedOutError(f"{where}: no answer within {self._settings.request_timeout_s:g} s") from None
        except (openai.APIConnectionError, httpx2.HTTPError) as e:
            raise UnavailableError(f"{where}: {type(e.__cause__ or e).__name__}; is the server up?") from None
        except (openai.OpenAIError, AttributeError, KeyError, TypeError, ValueError) as e:  # JSON of another kind, HTML
            raise BadReplyError(f"{where}: the answer is not what the API says ({type(e).__name__})") from None


def _prefixed(error: JudgeError, doing: str) -> JudgeError:
    error.args = (f"can't {doing}: {error}",)
    return error


def _text(value: Any) -> str:
    """A text that the answer must have. Raises TypeError."""
    if not isinstance(value, str) or not value:
        raise TypeError("no text")
    return value


def _batch(raw: Any) -> Batch:
    metadata: Mapping[str, str] = raw.metadata or {}
    problems = (raw.errors.data or ()) if raw.errors else ()
    return Batch(
        id=_text(raw.id),
        status=_text(raw.status),
        requests_file=_text(raw.input_file_id),
        ids_file=metadata.get(_IDS),
        results=tuple(name for name in (raw.output_file_id, raw.error_file_id) if name),
        problems=tuple((str(p.code or ""), p.line, str(p.message or "")) for p in problems),
        requests=int(metadata.get(_COUNT) or 0),
        completed=int(raw.request_counts.completed or 0) if raw.request_counts else 0,
    )
