"""A row of data, as JSON has it, made into a :class:`lrf.types.Sample`.

The fields of a row (``null`` is the same as absent):

``id``
    text or a whole number, unique in the data. Left out: the row's number, from 0 ("0", "1", …).
``context`` (required, unless there are ``messages``)
    a text; or a document ``{"text", "title"?, "id"?}``; or a list of documents. In place of ``text`` a document may
    have ``path``: a UTF-8 text file, relative to the data file's folder and inside it; no part of the path may begin
    with a dot. The files of a row have at most ``max_file_bytes`` (a setting of the source) together. Documents
    without an id are "0", "1", … by their place. No document may be empty.
``query`` (required, unless there are ``messages``)
    a text, not empty. Left out: the last turn of "user".
``candidates``
    a list of texts, or of ``{"text", "id"?, "source"?, "metadata"?}``. Ids are unique in the sample; left out: "0",
    "1", … by place. A candidate's text may be empty: what it is worth is the judge's to say.
``reference``
    a text: a known good answer.
``messages``
    the policy's prompt, word for word: a list of turns (:mod:`lrf.rows.chat` describes them). Ends with a turn of
    "user" or "tool". Without a ``context`` the turns are the context: each is a document, "turn-0", "turn-1", ….
``tools``
    definitions of the tools that the policy may call, as chat templates take them; a list, or one as JSON text.
``metadata``
    an object with any content. ``known_best``, the id of a candidate, has the run's table count how often that one
    is rated above the others. Anywhere else an unknown key is an error, so that no data is lost unnoticed.

No text may contain NUL or a lone surrogate, since neither can be stored and sent as UTF-8 everywhere.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from lrf.errors import DataError
from lrf.rows.chat import last_query, messages_of, turn_documents
from lrf.rows.fields import FIELDS, CandidateRow, DocumentRow, SampleRow
from lrf.rows.lines import Row, parse_line
from lrf.rows.problem import problem_in
from lrf.rows.values import InvalidRowError, check_json, quoted, text_problem
from lrf.types import JSON, BadRow, Candidate, Document, Sample

__all__ = [
    "FIELDS", "MAX_FILE_BYTES", "Row", "RowError", "parse_line", "quoted", "sample_from_row", "samples_from_rows",
    "text_problem", "turn_documents",
]  # fmt: skip


MAX_FILE_BYTES = 1 << 26
"""Bytes that the text files of a row have together, at most, unless a setting says otherwise."""


class RowError(DataError):
    """A row that can't be a sample. ``message`` names the field, what is wrong and what is allowed."""

    def __init__(self, file: str, line: int, message: str) -> None:
        super().__init__(f"{file}:{line}: {message}")
        self.file = file
        self.line = line
        self.message = message


def sample_from_row(row: Mapping[str, JSON], *, folder: Path | None, file: str, line: int) -> Sample:
    """The sample that a row describes; this module's docstring lists the fields.

    Parameters
    ----------
    row: the row's object.
    folder: where a document's ``path`` starts and what it can't leave. None: no paths (data from elsewhere).
    file, line: where the row is, for errors. ``line`` starts at 1, and the id of a row that has none is one less.

    Raises :class:`RowError` (a :class:`lrf.errors.DataError`).
    """
    try:
        return _sample(Row(file, line, row, folder), str(line - 1), MAX_FILE_BYTES)
    except InvalidRowError as error:
        raise RowError(file, line, str(error)) from None


def samples_from_rows(
    rows: Iterable[Row | BadRow], *, max_file_bytes: int = MAX_FILE_BYTES
) -> Iterator[Sample | BadRow]:
    """All rows as samples, in order; a row that can't be one, or has the id of an earlier row, as a BadRow.

    Rows without an id are numbered from 0 over all of ``rows``, bad ones included. Keeps about 10 bytes a sample.
    ``max_file_bytes``: of the text files that a row names, together.
    """
    seen = _Seen()
    for number, row in enumerate(rows):
        if isinstance(row, BadRow):
            yield row
            continue
        try:
            sample = _sample(row, str(number), max_file_bytes)
        except InvalidRowError as error:
            yield BadRow(row.file, row.line, str(error))
            continue
        if not seen.add(sample.id):
            yield BadRow(row.file, row.line, f"id: {quoted(sample.id)} is already the id of an earlier row")
            continue
        yield sample


class _Seen:
    """Hashes of the ids so far, of 64 bits, in sorted arrays: memory for no more than the hashes themselves."""

    def __init__(self) -> None:
        self._hashes = [array("Q") for _ in range(1 << 10)]

    def add(self, name: str) -> bool:
        """Add an id; returns whether it is new."""
        number = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
        hashes = self._hashes[number >> 54]
        place = bisect_left(hashes, number)
        if place < len(hashes) and hashes[place] == number:
            return False
        hashes.insert(place, number)
        return True


# --- the fields ------------------------------------------------------------------------------------------------


def _sample(read: Row, default_id: str, max_file_bytes: int) -> Sample:
    value = dict(read.value) if isinstance(read.value, Mapping) else read.value
    try:
        row = SampleRow.model_validate(value)
        if not read.checked:
            check_json(value)
    except ValidationError as error:
        raise InvalidRowError(problem_in(error)) from None
    except PydanticCustomError as error:
        at = str((error.context or {})["at"])
        raise InvalidRowError(f"{at.removeprefix('.')}: {error.message()}") from None
    messages = None if row.messages is None else messages_of(row.messages)
    from_turns = messages is not None and row.context is None
    files = _Files(read.folder, max_file_bytes)
    documents = turn_documents(messages or ()) if from_turns else _documents(row, files)
    if not documents:
        raise InvalidRowError("messages: no turn says anything, and there is no context")
    return Sample(
        id=default_id if row.id is None else str(row.id),
        query=last_query(messages) if row.query is None else row.query,
        documents=documents,
        candidates=_candidates(row.candidates or ()),
        reference=row.reference,
        messages=messages,
        metadata=row.metadata or {},
        tools=row.tools or (),
    )


def _documents(row: SampleRow, files: _Files) -> tuple[Document, ...]:
    context = row.context
    if isinstance(context, str):
        return (Document("0", context),)
    if isinstance(context, DocumentRow):
        return (_document(context, "context", "0", files),)
    if not context:
        raise InvalidRowError("context: missing" if context is None else "context: the list has no documents")
    documents = tuple(_document(d, f"context[{i}]", str(i), files) for i, d in enumerate(context))
    _check_ids([d.id for d in documents], "context")
    return documents


def _document(row: DocumentRow, at: str, default_id: str, files: _Files) -> Document:
    if (row.text is None) == (row.path is None):
        raise InvalidRowError(f'{at}: expected either "text" or "path"')
    text = row.text if row.path is None else files.text(row.path, f"{at}.path")
    return Document(default_id if row.id is None else str(row.id), text or "", row.title)


def _candidates(rows: Sequence[CandidateRow]) -> tuple[Candidate, ...]:
    candidates = tuple(
        Candidate(str(i if row.id is None else row.id), row.text, row.source, row.metadata or {})
        for i, row in enumerate(rows)
    )
    _check_ids([c.id for c in candidates], "candidates")
    return candidates


def _check_ids(ids: Sequence[str], at: str) -> None:
    if len(set(ids)) < len(ids):
        second = next(i for i, id_ in enumerate(ids) if id_ in ids[:i])
        first = ids.index(ids[second])
        raise InvalidRowError(f"{at}[{second}].id: {quoted(ids[second])} is already the id of {at}[{first}]")


# --- texts in files of their own -------------------------------------------------------------------------------


@dataclass(slots=True)
class _Files:
    """The text files that a row may name: those in a folder, with ``max_bytes`` together."""

    folder: Path | None
    max_bytes: int
    read_bytes: int = 0

    def text(self, path: str, at: str) -> str:
        """The text in the file. Raises :class:`InvalidRowError`; ``at`` is the field that names it."""
        if self.folder is None:
            raise InvalidRowError(f"{at}: this data can't name files; give the text itself")
        try:
            text = self._content(path, at, self.folder).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InvalidRowError(
                f"{at}: {quoted(path)} is not a text file in UTF-8: {error.reason} at byte {error.start}"
            ) from None
        except (OSError, RuntimeError) as error:  # RuntimeError: a loop of symlinks, before Python 3.13
            said = getattr(error, "strerror", None) or error
            raise InvalidRowError(f"{at}: can't read {quoted(path)}: {said}") from None
        if (problem := text_problem(text)) is not None:
            raise InvalidRowError(f"{at}: {quoted(path)} is not a text file: it {problem}")
        if not text.strip():
            raise InvalidRowError(f"{at}: {quoted(path)} is empty")
        return text

    def _content(self, path: str, at: str, folder: Path) -> bytes:
        with _file(path, at, folder).open("rb") as file:
            content = file.read(self.max_bytes - self.read_bytes + 1)
            self.read_bytes += len(content)
            if self.read_bytes > self.max_bytes:
                raise InvalidRowError(
                    f"{at}: with {quoted(path)} ({os.fstat(file.fileno()).st_size:,} bytes) the row's text files have "
                    f"more than {self.max_bytes:,} bytes together; `max_file_bytes` of the data's source allows more"
                )
        return content


def _file(path: str, at: str, folder: Path) -> Path:
    """The file that a document's path names, with every symlink followed."""
    home = folder.resolve()
    file = (home / path).resolve()
    if not file.is_relative_to(home):
        raise InvalidRowError(f"{at}: {quoted(path)} leads out of the data's folder; keep the texts beside the data")
    parts = {*Path(path).parts, *file.relative_to(home).parts}
    if any(part.startswith(".") and part not in (".", "..") for part in parts):
        raise InvalidRowError(f"{at}: {quoted(path)} is hidden: no part of a path may begin with a dot")
    if not file.is_file():
        raise InvalidRowError(f"{at}: no file {quoted(path)} in the data's folder")
    return file
