"""Reads a source a few rows at a time, without blocking the event loop; and makes the policy's prompts."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING

from lrf.build import source_of
from lrf.config.model import PROMPT_FIELDS, SampleKeys
from lrf.errors import DataError, LrfError
from lrf.prompting.templates import Template
from lrf.protocols import GenerationSettings, Source
from lrf.store.files import dump
from lrf.store.journal import digest
from lrf.types import JSON, Message, Sample

if TYPE_CHECKING:
    from lrf.config import Pipeline

ROWS_A_HOP = 256
CHARACTERS_A_HOP = 1 << 19
"""The thread that reads hands samples over in parts, which end at this many rows or characters of documents."""


def good_samples(source: Source) -> Iterator[Sample]:
    """The samples of a source in order, without its bad rows, which stage *data* has counted."""
    return (row for row in source.read() if isinstance(row, Sample))


def check_candidates(pipeline: Pipeline) -> None:
    """Raises :class:`lrf.errors.DataError` when no sample has a candidate and none is sampled.

    Reads up to the first candidate. Data that can't be read is left to stage *data*.
    """
    if pipeline.data is None or pipeline.sample is not None:
        return
    samples = 0
    try:
        for sample in good_samples(source_of(pipeline)):
            samples += 1
            if sample.candidates:
                return
    except LrfError:
        return
    if samples:
        raise DataError(
            f"none of the {samples:,} samples has a candidate, so there is nothing to score: give `candidates` in the "
            "data, or `sample:` to have the policy write some"
        )


async def samples(source: Source) -> AsyncIterator[tuple[int, Sample, bytes]]:
    """(position, sample, its digest) in order. The source is read in a thread, a few rows at a time."""
    rows = enumerate(good_samples(source))
    while part := await asyncio.to_thread(_next_part, rows):
        for row in part:
            yield row


def _next_part(rows: Iterator[tuple[int, Sample]]) -> list[tuple[int, Sample, bytes]]:
    part: list[tuple[int, Sample, bytes]] = []
    characters = 0
    for position, sample in itertools.islice(rows, ROWS_A_HOP):
        part.append((position, sample, sample_digest(sample)))
        characters += sum(len(document.text) for document in sample.documents)
        if characters >= CHARACTERS_A_HOP:
            break
    return part


def sample_digest(sample: Sample) -> bytes:
    """A hash of all fields of a sample."""
    parts: list[str] = [sample.id, sample.query, sample.reference or ""]
    for document in sample.documents:
        parts += ("document", document.id, document.title or "", document.text)
    for candidate in sample.candidates:
        parts += ("candidate", candidate.id, candidate.text, candidate.source or "", _dumped(candidate.metadata))
    for message in sample.messages or ():
        parts += ("message", message.role, message.content)
        if len(row := message.as_row()) > 2:
            parts.append(dump(row))
    if sample.tools:
        parts += ("tools", dump(list(map(dict, sample.tools))))
    return digest(*parts, _dumped(sample.metadata))


def _dumped(metadata: Mapping[str, JSON]) -> str:
    return dump(dict(metadata)) if metadata else "{}"


def prompt_template(pipeline: Pipeline) -> Template:
    """The template of the policy's prompt, for samples without messages."""
    return Template(pipeline.policy.prompt_template, PROMPT_FIELDS, "policy.prompt_template")


def policy_prompt(sample: Sample, template: Template) -> tuple[Message, ...]:
    """The policy's prompt: the sample's own messages, else one user message made by the template."""
    if sample.messages is not None:
        return sample.messages
    return (Message("user", template.render({"context": sample.context, "question": sample.query})),)


def missing_candidates(pipeline: Pipeline, sample: Sample, template: Template) -> GenerationSettings:
    """The request for the candidates that the sample lacks. Each has a seed, 0 to 2**31 - 1."""
    keys = pipeline.sample.generation if pipeline.sample else SampleKeys()
    name = (str(pipeline.seed), sample.id)
    missing = range(max(0, keys.n - len(sample.candidates)))
    seeds = tuple(int.from_bytes(digest(*name, str(number))[:4]) >> 1 for number in missing)
    prompt = policy_prompt(sample, template)
    return GenerationSettings(prompt, seeds, keys.temperature, keys.top_p, keys.max_tokens, sample.tools)
