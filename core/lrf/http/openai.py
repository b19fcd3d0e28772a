"""Chat completions and embeddings in the form of OpenAI's API: making bodies and reading replies."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lrf.errors import BadReplyError, JudgeMisconfiguredError, RejectedError, UnavailableError
from lrf.http.client import HttpClient
from lrf.http.error_bodies import is_error
from lrf.http.error_classes import ErrorCodes
from lrf.http.failures import billed
from lrf.http.finish import finish_of, unknown_word
from lrf.http.usage import read_usage
from lrf.prompting.requests import Reply, Request
from lrf.prompting.templates import prompt_text
from lrf.types import JSON

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lrf.protocols import Vectors

_BATCH_TOO_LARGE = re.compile(
    r"batch.{0,40}(size|limit|large|exceed|maximum)|too many inputs|(array|list).{0,30}too (long|large)", re.I
)

OPENAI_CODES = ErrorCodes(
    wait=frozenset({"rate_limit_exceeded"}),
    stop=frozenset(
        {
            "account_deactivated",
            "billing_hard_limit_reached",
            "billing_not_active",
            "insufficient_quota",
            "invalid_api_key",
        }
    ),
    setup=frozenset({"model_not_found", "unknown_parameter", "unsupported_parameter", "unsupported_value"}),
    reject=frozenset({"content_filter", "content_policy_violation", "invalid_prompt"}),
    context=frozenset({"context_length_exceeded", "string_above_max_length"}),
    hints={
        "billing_hard_limit_reached": "the account has reached its spending limit: raise it, then run again",
        "billing_not_active": "the account has no active billing: set it up, then run again",
        "insufficient_quota": "the account has no credit or quota left: add some, then run again",
        "model_not_found": "check `model`",
        "unknown_parameter": "change the setting that sends it (`extra_body`, `seed`, `structured`)",
        "unsupported_parameter": "change the setting that sends it (`max_tokens_field`, `temperature`, `extra_body`)",
        "unsupported_value": "change the setting that sends it (`temperature`, `extra_body`)",
    },
)
"""OpenAI's error codes, which many compatible servers use too."""


def chat_body(
    model: str, request: Request, *, max_tokens_field: str = "max_tokens", temperature: float | None = None
) -> dict[str, JSON]:
    """The body of a chat completion: the whole prompt as one user message. ``temperature`` None is left out."""
    body: dict[str, JSON] = {
        "model": model,
        "messages": [{"role": "user", "content": prompt_text(request.prompt)}],
        max_tokens_field: request.max_tokens,
    }
    if temperature is not None:
        body["temperature"] = temperature
    return body


async def post_chat(client: HttpClient, body: Mapping[str, JSON], *, timeout_s: float | None = None) -> Any:
    """The body that answers a chat completion, checked by :func:`check_chat`.

    Raises a :class:`lrf.errors.JudgeError`. A reply that the server streams, asked to or not, is joined to one
    completion.
    """
    value = await client.post("/chat/completions", body, timeout_s=timeout_s, join=join_chat_chunks)
    return check_chat(client, value)


def check_chat(client: HttpClient, value: Any) -> Any:
    """The value, if it is the body of a chat completion none of whose choices has failed.

    Raises the :class:`lrf.errors.JudgeError` that it words, with the usage that it reports: it is billed, too.
    """
    choices = value.get("choices") if isinstance(value, dict) else None
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, dict) for choice in choices):
        raise client.errors.of_other_json(value, "no completion: it holds no choices")
    for choice in choices:
        error, ended = choice.get("error") or value.get("error"), choice.get("finish_reason")
        if is_error(error):
            raise billed(client.errors.of_body({"error": error}), read_usage(value))
        if finish_of(ended) == "error":
            where = client.errors.where
            raise billed(UnavailableError(f"{where}: the reply broke off ({ended})", sent=True), read_usage(value))
        try:
            _message_text(choice)
        except BadReplyError as problem:
            raise client.errors.of_other_json(value, str(problem)) from None
    return value


def join_chat_chunks(chunks: Sequence[Any]) -> Any:
    """The chat completion that a stream's chunks make up: texts, thoughts and log probabilities of each choice.

    Raises :class:`lrf.errors.BadReplyError` for values that are no chunks.
    """
    completion: dict[str, Any] = {}
    choices: dict[int, _JoinedChoice] = {}
    for chunk in chunks:
        if not isinstance(chunk, dict) or not isinstance(chunk.get("choices", []), list):
            raise BadReplyError("the reply is a stream, but not of chat completion chunks")
        completion |= {name: value for name, value in chunk.items() if value is not None}
        for piece in chunk.get("choices", []):
            if isinstance(piece, dict):
                index = piece.get("index")
                choices.setdefault(index if isinstance(index, int) else 0, _JoinedChoice()).add(piece)
    return {**completion, "choices": [choices[index].value() for index in sorted(choices)]}


@dataclass(slots=True)
class _JoinedChoice:
    """One choice of a stream: the parts of each text, log probabilities, and the reason of its end."""

    texts: dict[str, list[str]] = field(default_factory=dict)
    logprobs: list[Any] = field(default_factory=list)
    finish_reason: Any = None

    def add(self, piece: Mapping[str, Any]) -> None:
        delta = piece.get("delta") or piece.get("message")
        for name, text in delta.items() if isinstance(delta, dict) else ():
            if isinstance(text, str) and name != "role":
                self.texts.setdefault(name, []).append(text)
        logprobs = piece.get("logprobs")
        if isinstance(logprobs, dict) and isinstance(logprobs.get("content"), list):
            self.logprobs.extend(logprobs["content"])
        self.finish_reason = piece.get("finish_reason") or self.finish_reason

    def value(self) -> dict[str, Any]:
        message = {name: "".join(parts) for name, parts in self.texts.items()}
        return {"message": message, "finish_reason": self.finish_reason, "logprobs": {"content": self.logprobs}}


def json_schema_format(name: str, schema: Mapping[str, JSON]) -> dict[str, JSON]:
    """The ``response_format`` that makes a reply follow a JSON schema."""
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": True}}


def read_chat(value: Any) -> Reply:
    """The reply in the body of a chat completion.

    Raises :class:`lrf.errors.BadReplyError` for another body, with the usage that it reports: it is billed, too.
    """
    try:
        return _read_completion(value)
    except BadReplyError as error:
        error.usage = read_usage(value) if isinstance(value, dict) else None
        raise


def _read_completion(value: Any) -> Reply:
    choice = first_choice(value)
    message, text = choice.get("message", {}), _message_text(choice)
    word = choice.get("finish_reason")
    finish = finish_of(word)
    if not text and message.get("refusal") and isinstance(message["refusal"], str):
        text, finish = message["refusal"], "filter"
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    return Reply(
        text=text,
        finish=finish,
        usage=read_usage(value),
        model=value["model"] if isinstance(value.get("model"), str) else None,
        reasoning=reasoning if isinstance(reasoning, str) else None,
        finish_word=unknown_word(word),
    )


def first_choice(value: Any) -> Mapping[str, Any]:
    """The first choice of a completion's body. Raises :class:`lrf.errors.BadReplyError` without one."""
    choices = value.get("choices") if isinstance(value, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise BadReplyError("the reply is JSON, but no completion: it holds no choices")
    choice: Mapping[str, Any] = choices[0]
    return choice


def _message_text(choice: Mapping[str, Any]) -> str:
    """The text of a choice's message. Raises :class:`lrf.errors.BadReplyError` for a choice of another form."""
    message = choice.get("message")
    if not isinstance(message, dict):
        raise BadReplyError("no completion: its choice holds no message")
    content = message.get("content")
    if content is None:
        return ""
    if isinstance(content, list):  # some servers write a list of parts
        content = "".join(p["text"] for p in content if isinstance(p, dict) and isinstance(p.get("text"), str))
    if not isinstance(content, str):
        raise BadReplyError(f"no completion: its content is not text but {type(content).__name__}")
    return content


def embeddings_body(model: str, texts: Sequence[str], dimensions: int | None = None) -> dict[str, JSON]:
    """The body of an embeddings request. ``dimensions`` None is left out."""
    body: dict[str, JSON] = {"model": model, "input": list(texts)}
    if dimensions is not None:
        body["dimensions"] = dimensions
    return body


async def post_embeddings(client: HttpClient, body: Mapping[str, JSON], count: int) -> Vectors:
    """The vectors of an embeddings request for ``count`` texts, see :func:`read_embeddings`.

    Raises a :class:`lrf.errors.JudgeError`; for a batch that is too large, one that names ``batch_size``.
    """
    try:
        value = await client.post("/embeddings", body)
    except RejectedError as error:
        if count > 1 and _BATCH_TOO_LARGE.search(str(error)[:1000]):
            raise JudgeMisconfiguredError(f"{error}; set a smaller `batch_size` for this embedder") from None
        raise
    if not isinstance(value, dict) or not isinstance(value.get("data"), list):
        raise client.errors.of_other_json(value, f"no embeddings of {count} texts")
    return read_embeddings(value, count)


def read_embeddings(value: Any, count: int) -> Vectors:
    """The vectors in the body of an embeddings reply, in the order of the texts: (count, dimensions), float32.

    Takes numbers and base64 alike. Raises :class:`lrf.errors.BadReplyError` when some are missing, not finite, or of
    different lengths.
    """
    import numpy as np

    data = value.get("data") if isinstance(value, dict) else None
    if not isinstance(data, list) or len(data) != count or not all(isinstance(row, dict) for row in data):
        got = f"{len(data)} embeddings" if isinstance(data, list) else "no embeddings"
        raise BadReplyError(f"the reply holds {got} for {count} texts")
    rows: list[Any] = [None] * count
    for position, row in enumerate(data):
        index = row.get("index", position)
        if not isinstance(index, int) or not 0 <= index < count or rows[index] is not None:
            raise BadReplyError(f"the reply's embeddings are numbered wrongly: {str(index)[:20]} among {count}")
        rows[index] = _vector(row.get("embedding"))
    sizes = sorted({len(row) for row in rows})
    if sizes != sizes[:1] or 0 in sizes:
        raise BadReplyError(f"the reply's embeddings are of different or no length: {sizes[:4]}")
    with np.errstate(over="ignore"):
        vectors: Vectors = np.array(rows, dtype=np.float32).reshape(count, -1)
    if not np.isfinite(vectors).all():
        raise BadReplyError("the reply's embeddings hold numbers that are not finite")
    return vectors


def _vector(embedding: Any) -> NDArray[Any]:
    import numpy as np

    try:
        if isinstance(embedding, str):
            return np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4")
        floats = np.asarray(embedding, dtype=np.float64)
    except (ValueError, TypeError, OverflowError, binascii.Error):
        floats = np.empty((0, 0))
    if floats.ndim != 1:
        raise BadReplyError("the reply holds an embedding that is no list of numbers")
    return floats
