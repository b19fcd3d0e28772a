"""What all doors do: read a request, have it scored within a deadline, and reply with the outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

import lrf
from lrf.errors import DataError
from lrf.rows.asked import UnknownDocumentError, sample_asked
from lrf.rows.document_store import DocumentStore
from lrf.types import Sample
from lrf_server.body import LARGE, Bodies, RequestError
from lrf_server.metrics import Metrics
from lrf_server.scorings import Scored, Scorings


@dataclass(slots=True)
class Service:
    """A pipeline's rewards for the server's doors.

    Parameters
    ----------
    name: the pipeline's name.
    most_characters: the longest document, in characters.
    deadline_s: how long any door waits, in place of its own deadline; None: its own.
    on_missing: what a door answers where its stack has no word for a missing reward ("error", or a number).
    """

    name: str
    model: lrf.RewardModel
    store: DocumentStore
    scorings: Scorings
    bodies: Bodies
    most_characters: int
    deadline_s: float | None = None
    on_missing: str | float = "error"
    metrics: Metrics = field(init=False)

    def __post_init__(self) -> None:
        self.metrics = Metrics(self.model, lambda: self.scorings.open)

    async def sample(self, body: Mapping[str, Any]) -> Sample:
        """The sample that a request describes. Raises :class:`RequestError`."""
        try:
            if _is_short(body):  # another thread would take longer
                sample = sample_asked(body, self.store, self.model.prompt_template)
            else:
                sample = await asyncio.to_thread(sample_asked, body, self.store, self.model.prompt_template)
        except UnknownDocumentError as error:
            raise RequestError(404, str(error)) from None
        except DataError as error:
            raise RequestError(422, str(error)) from None
        for document in sample.documents:
            self.check_length(document.text)
        return sample

    def check_length(self, text: str) -> None:
        """Raises :class:`RequestError` for a document that is too long."""
        if len(text) > self.most_characters:
            raise RequestError(
                413, f"the document has {len(text)} characters; at most {self.most_characters} are taken "
                "(`--max-document-mb`)",
            )  # fmt: skip

    async def score(self, sample: Sample, deadline_s: float) -> list[Scored]:
        """The outcome of each candidate. Raises BusyError."""
        scored = await self.scorings.score(sample, deadline_s)
        for one in scored:
            self.metrics.count_answer(one)
        return scored


def _is_short(body: Mapping[str, Any]) -> bool:
    """Whether the texts in a body are short, and none is named by its id only."""
    texts = (body.get("context") or "", body.get("prompt") or "", *body.get("answers", ()))
    return (
        all(isinstance(text, str) for text in texts)
        and sum(map(len, texts)) < LARGE
        and "messages" not in body
        and "document_ids" not in body
    )


def sentence(error: ValidationError) -> str:
    """The first mistake of a body: the field, and what is wrong with it."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{where[:200]}: no such field; /openapi.json lists all"
    return f"{where[:200]}: {first['msg']}"


def missing(scored: Sequence[Scored]) -> Scored | None:
    """The first answer without a reward."""
    return next((one for one in scored if one.value is None), None)
