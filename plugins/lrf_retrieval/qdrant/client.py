"""Opening a Qdrant, and repeating requests to a server that fails for a moment."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from lrf.errors import Reason, StageError, UnscorableError
from lrf_retrieval.settings import QdrantSettings

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

T = TypeVar("T")

_PAUSES_S = (0.5, 2.0)  # before the server is asked again


def open_client(settings: QdrantSettings) -> QdrantClient:
    """A client for the Qdrant of the settings. Raises :class:`lrf.errors.StageError` with what to do without one."""
    from qdrant_client import QdrantClient

    if settings.url is not None:
        return _open_server(settings)
    try:
        client = QdrantClient(path=str(settings.path))
    except RuntimeError as error:
        if "already accessed" not in str(error):
            raise
        raise StageError(
            f"{settings.path} (`path`) is in use by another process, and an embedded Qdrant serves one at a time: wait "
            f"for it, give another path, use the retriever memory, or run a Qdrant server and give its url"
        ) from None
    except OSError as error:
        raise StageError(f"{settings.path} (`path`) can't hold a Qdrant: {error.strerror or error}") from None
    for collection in client.get_collections().collections:
        if re.fullmatch(re.escape(settings.collection) + "-[0-9a-f]{32}", collection.name):
            client.delete_collection(collection.name)  # left by a run that was killed
    return client


def _open_server(settings: QdrantSettings) -> QdrantClient:
    from qdrant_client import QdrantClient

    key = os.environ.get(settings.api_key_env) or None
    client = QdrantClient(
        url=settings.url, port=None, api_key=key, timeout=settings.timeout_s, check_compatibility=False
    )
    try:
        asked(settings, client.get_collections)
    except UnscorableError as error:
        client.close()
        raise StageError(
            f"no Qdrant server answers at {settings.url} (`url`): {error.detail}; start it, then run again"
        ) from None
    return client


def asked(settings: QdrantSettings, ask: Callable[[], T]) -> T:
    """Qdrant's answer to a request, which is repeated when a server fails for a moment.

    Raises :class:`lrf.errors.UnscorableError` (transient) when the server keeps failing, :class:`lrf.errors.StageError`
    when it refuses.
    """
    if settings.url is None:
        return ask()
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

    for pause_s in (*_PAUSES_S, None):
        try:
            return ask()
        except ResponseHandlingException as error:
            failure = str(error.source) or type(error.source).__name__
        except UnexpectedResponse as error:
            words = " ".join((error.content or b"").decode("utf-8", "replace").split())[:200]
            failure = f"status {error.status_code} {error.reason_phrase}: {words}"
            if error.status_code in (401, 403):
                variable = settings.api_key_env
                state = "is set" if os.environ.get(variable) else "is not set"
                raise StageError(
                    f"the Qdrant server at {settings.url} refuses the key ({failure}); it is read from the "
                    f"environment variable {variable}, which {state}"
                ) from None
            if error.status_code not in (408, 429) and (error.status_code or 500) < 500:
                raise StageError(f"the Qdrant server at {settings.url} refuses: {failure}") from None
        if pause_s is not None:
            time.sleep(pause_s)
    raise UnscorableError(Reason.RETRIEVER_UNAVAILABLE, f"{settings.url}: {failure}", transient=True)
