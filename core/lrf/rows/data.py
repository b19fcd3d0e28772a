"""A row of data, as JSON has it, made into a :class:`lrf.types.Sample`.

The fields of a row (``null`` is the same as absent):

``id``
    text or a whole number, unique in the data. Left out: the row's number, from 0 ("0", "1", …).
``context`` (required, unless there are ``messages``)
    a text; or a document ``{"text", "title"?, "id"?}``; or a list of documents. In place of ``text`` a document may
    have ``path``: a UTF-8 text file, relative to the data file's folder and inside it. Documents without an id are
    "0", "1", … by their place. No document may be empty.
``query`` (required, unless there are ``messages``)
    a text, not empty. Left out: the last turn of "user".
``candidates``
    a list of ``{"text", "id"?, "source"?, "metadata"?}``. Ids are unique in the sample; left out: "0", "1", … by
    place. A candidate's text may be empty: what it is worth is the judge's to say.
``reference``
    a text: a known good answer.
``messages``
    the policy's prompt, word for word: a list of turns (:mod:`lrf.rows.chat` says what they hold). Ends with a turn of
    "user" or "tool". Without a ``context`` the turns are the context: each is a document, "turn-0", "turn-1", ….
``tools``
    definitions of the tools that the policy may call, as chat templates take them; a list, or one as JSON text.
``metadata``
    an object with whatever you like. Anywhere else an unknown key is an error, so that no data is lost in silence.

No text may hold the NUL character or a lone surrogate, since neither can be stored and sent as UTF-8 everywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from lrf.errors import DataError
from lrf.rows.chat import chat_of, last_query, tools_of, turn_documents
from lrf.rows.checks import (
    InvalidRow,
    JsonObject,
    as_items,
    as_text,
    check_unique,
    kind_of,
    not_empty,
    quoted,
    text_problem,
)
from lrf.rows.lines import Row, parse_line
from lrf.types import JSON, BadRow, Candidate, Document, Sample

__all__ = [
    "FIELDS", "Row", "RowError", "parse_line", "quoted", "sample_from_row", "samples_from_rows", "text_problem",
    "turn_documents",
]  # fmt: skip

FIELDS = ("id", "context", "query", "candidates", "reference", "messages", "tools", "metadata")
"""The fields of a row."""


class RowError(DataError):
    """A row that is no sample. ``message`` names the field, what is wrong and what is allowed; the text adds where."""

    def __init__(self, file: str, line: int, message: str) -> None:
        super().__init__(f"{file}:{line}: {message}")
        self.file = file
        self.line = line
        self.message = message


def sample_from_row(
    row: Mapping[str, JSON], *, folder: Path | None, file: str, line: int, default_id: str | None = None
) -> Sample:
    """The sample that a row describes; this module's docstring lists the fields.

    Parameters
    ----------
    row: the row's object.
    folder: where a document's ``path`` starts and what it can't leave. None: no paths (data from elsewhere).
    file, line: where the row stands, for errors. ``line`` starts at 1.
    default_id: the id of a row that has none; without it ``str(line - 1)``.

    Raises :class:`RowError` (a :class:`lrf.errors.DataError`).
    """
    try:
        return _sample(JsonObject(row, "", FIELDS), folder, str(line - 1) if default_id is None else default_id)
    except InvalidRow as error:
        raise RowError(file, line, str(error)) from None


def samples_from_rows(rows: Iterable[Row | BadRow]) -> Iterator[Sample | BadRow]:
    """All rows as samples, in order; each that is none, or has an id that came before, as a BadRow.

    Rows without an id are numbered from 0 over all of ``rows``, bad ones included. Keeps 8 bytes of hash a sample.
    """
    seen: set[bytes] = set()
    for number, row in enumerate(rows):
        if isinstance(row, BadRow):
            yield row
            continue
        try:
            sample = sample_from_row(row.value, folder=row.folder, file=row.file, line=row.line, default_id=str(number))
        except RowError as error:
            yield BadRow(row.file, row.line, error.message)
            continue
        digest = hashlib.blake2b(sample.id.encode(), digest_size=8).digest()
        if digest in seen:
            yield BadRow(row.file, row.line, f"id: {quoted(sample.id)} is already the id of an earlier row")
            continue
        seen.add(digest)
        yield sample


# --- the fields ------------------------------------------------------------------------------------------------


def _sample(row: JsonObject, folder: Path | None, default_id: str) -> Sample:
    messages = chat_of(row)
    if messages is None or row.get("context") is not None:
        documents = _documents(row.required("context"), folder)
    else:
        documents = turn_documents(messages)
    if not documents:
        raise InvalidRow("messages: no turn says anything, and there is no context")
    return Sample(
        id=row.id(default_id),
        documents=documents,
        query=row.filled_text("query") if row.get("query") is not None else last_query(messages),
        candidates=_candidates(row),
        reference=row.optional_text("reference"),
        messages=messages,
        metadata=row.metadata(),
        tools=tools_of(row),
    )


def _documents(context: JSON, folder: Path | None) -> tuple[Document, ...]:
    if isinstance(context, str):
        return (Document("0", not_empty(as_text(context, "context"), "context")),)
    if isinstance(context, Mapping):
        return (_document(context, "context", folder, "0"),)
    if not isinstance(context, Sequence) or isinstance(context, bytes):
        raise InvalidRow(f"context: expected a text, a document or a list of documents, got {kind_of(context)}")
    documents = tuple(
        _document(value, at, folder, str(i)) for i, (at, value) in enumerate(as_items(context, "context"))
    )
    if not documents:
        raise InvalidRow("context: the list has no documents")
    check_unique(documents, "context", lambda d: d.id)
    return documents


def _document(value: JSON, at: str, folder: Path | None, default_id: str) -> Document:
    document = JsonObject(value, at, ("id", "title", "text", "path"))
    if (document.get("text") is None) == (document.get("path") is None):
        raise InvalidRow(f'{at}: expected either "text" or "path"')
    if document.get("path") is None:
        text = document.filled_text("text")
    else:
        text = _file_text(document.filled_text("path"), document.path("path"), folder)
    return Document(document.id(default_id), text, document.optional_text("title"))


def _file_text(path: str, at: str, folder: Path | None) -> str:
    if folder is None:
        raise InvalidRow(f"{at}: this data can't name files; give the text itself")
    try:
        home = folder.resolve()
        file = (home / path).resolve()
        if not file.is_relative_to(home):
            raise InvalidRow(f"{at}: {quoted(path)} leads out of the data's folder; keep the texts beside the data")
        if not file.is_file():
            raise InvalidRow(f"{at}: no file {quoted(path)} in the data's folder")
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRow(f"{at}: {quoted(path)} is not UTF-8: {error.reason} at byte {error.start}") from None
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of symlinks, before Python 3.13
        raise InvalidRow(f"{at}: can't read {quoted(path)}: {getattr(error, 'strerror', None) or error}") from None
    return not_empty(as_text(text, at), at)


def _candidates(row: JsonObject) -> tuple[Candidate, ...]:
    candidates = []
    for i, (at, value) in enumerate(row.items("candidates")):
        fields = JsonObject(value, at, ("id", "text", "source", "metadata"))
        source = fields.optional_text("source")
        candidates.append(Candidate(fields.id(str(i)), fields.text("text"), source, fields.metadata()))
    check_unique(candidates, "candidates", lambda c: c.id)
    return tuple(candidates)
