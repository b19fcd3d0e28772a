"""A row of data, as JSON has it, made into a :class:`lrf.types.Sample`.

The fields of a row (``null`` is the same as absent):

``id``
    text or a whole number, unique in the data. Left out: the row's number, from 0 ("0", "1", …).
``context`` (required)
    a text; or a document ``{"text", "title"?, "id"?}``; or a list of documents. In place of ``text`` a document may
    have ``path``: a UTF-8 text file, relative to the data file's folder and inside it. Documents without an id are
    "0", "1", … by their place. No document may be empty.
``query`` (required)
    a text, not empty.
``candidates``
    a list of ``{"text", "id"?, "source"?, "metadata"?}``. Ids are unique in the sample; left out: "0", "1", … by
    place. A candidate's text may be empty: what it is worth is the judge's to say.
``reference``
    a text: a known good answer.
``messages``
    a list of ``{"role", "content"}``: the policy's prompt, word for word. Ends with a turn of "user" or "tool".
``metadata``
    an object with whatever you like. Anywhere else an unknown key is an error, so that no data is lost in silence.

No text may hold the NUL character or a lone surrogate, since neither can be stored and sent as UTF-8 everywhere.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from lrf.errors import DataError
from lrf.suggest import did_you_mean
from lrf.types import JSON, BadRow, Candidate, Document, Message, Sample

T = TypeVar("T")

FIELDS = ("id", "context", "query", "candidates", "reference", "messages", "metadata")
"""The fields of a row."""

ROLES = ("system", "user", "assistant", "tool")
MAX_METADATA_DEPTH = 64

_USUAL_NAMES = {
    "question": "query",
    "instruction": "query",
    "input": "query",
    "document": "context",
    "documents": "context",
    "passage": "context",
    "answers": "candidates",
    "responses": "candidates",
    "completions": "candidates",
    "ground_truth": "reference",
    "conversation": "messages",
    "answer": "text",
    "response": "text",
    "content": "text",
    "text": "content",
    "model": "source",
    "idx": "id",
}
_UNUSABLE = re.compile("[\0\ud800-\udfff]")


class RowError(DataError):
    """A row that is no sample. ``message`` names the field, what is wrong and what is allowed; the text adds where."""

    def __init__(self, file: str, line: int, message: str) -> None:
        super().__init__(f"{file}:{line}: {message}")
        self.file = file
        self.line = line
        self.message = message


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it was read.

    ``value`` is any JSON value; ``line`` its line (or number) in ``file``, from 1; ``folder`` as in
    :func:`sample_from_row`.
    """

    file: str
    line: int
    value: JSON
    folder: Path | None = None


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
        return _sample(_Object(row, "", FIELDS), folder, str(line - 1) if default_id is None else default_id)
    except _Wrong as e:
        raise RowError(file, line, str(e)) from None


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
        except RowError as e:
            yield BadRow(row.file, row.line, e.message)
            continue
        digest = hashlib.blake2b(sample.id.encode(), digest_size=8).digest()
        if digest in seen:
            yield BadRow(row.file, row.line, f"id: {quoted(sample.id)} is already the id of an earlier row")
            continue
        seen.add(digest)
        yield sample


def text_problem(value: JSON) -> str | None:
    """What keeps a value from being a text of a sample; None if nothing does."""
    if not isinstance(value, str):
        return f"expected a text, got {_kind(value)}"
    if found := _UNUSABLE.search(value):
        what = "the NUL character" if found[0] == "\0" else f"the lone surrogate U+{ord(found[0]):04X}"
        return f"holds {what} at character {found.start()}; take it out"
    return None


def quoted(text: str) -> str:
    """A piece of data for an error message: quoted, cut, with nothing in it that a terminal would act on."""
    cut = text if len(text) <= 60 else text[:59] + "…"
    return f'"{cut}"' if cut.isprintable() else ascii(cut)


# --- the fields ------------------------------------------------------------------------------------------------


class _Wrong(Exception):
    """What is wrong with a row, beginning with the field's path."""


class _Object:
    """A JSON object of the row with its place (``candidates[3]``), whose keys are all allowed ones."""

    def __init__(self, value: JSON, at: str, allowed: Collection[str]) -> None:
        if not isinstance(value, Mapping):
            raise _Wrong(f"{at}: expected an object, got {_kind(value)}" if at else _no_object(value))
        for key in value:
            if key not in allowed:
                raise _Wrong(_unknown(key, at, allowed))
        self.at = at
        self._value = value

    def path(self, key: str) -> str:
        return f"{self.at}.{key}" if self.at else key

    def get(self, key: str) -> JSON:
        return self._value.get(key)

    def required(self, key: str) -> JSON:
        if (value := self.get(key)) is None:
            raise _Wrong(f"{self.path(key)}: missing")
        return value

    def text(self, key: str) -> str:
        return _text(self.required(key), self.path(key))

    def optional_text(self, key: str) -> str | None:
        return None if self.get(key) is None else self.text(key)

    def filled_text(self, key: str) -> str:
        return _filled(self.text(key), self.path(key))

    def id(self, default: str) -> str:
        value = self.get("id")
        if value is None:
            return default
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str):
            raise _Wrong(f"{self.path('id')}: expected a text or a whole number, got {_kind(value)}")
        return _filled(_text(value, self.path("id")), self.path("id"))

    def items(self, key: str) -> list[tuple[str, JSON]]:
        value = self.get(key)
        return [] if value is None else _items(value, self.path(key))

    def metadata(self) -> Mapping[str, JSON]:
        value = self.get("metadata")
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise _Wrong(f"{self.path('metadata')}: expected an object, got {_kind(value)}")
        _check_json(value, self.path("metadata"), MAX_METADATA_DEPTH)
        return value


def _sample(row: _Object, folder: Path | None, default_id: str) -> Sample:
    return Sample(
        id=row.id(default_id),
        documents=_documents(row.required("context"), folder),
        query=row.filled_text("query"),
        candidates=_candidates(row),
        reference=row.optional_text("reference"),
        messages=_messages(row),
        metadata=row.metadata(),
    )


def _documents(context: JSON, folder: Path | None) -> tuple[Document, ...]:
    if isinstance(context, str):
        return (Document("0", _filled(_text(context, "context"), "context")),)
    if isinstance(context, Mapping):
        return (_document(context, "context", folder, "0"),)
    if not isinstance(context, Sequence) or isinstance(context, bytes):
        raise _Wrong(f"context: expected a text, a document or a list of documents, got {_kind(context)}")
    documents = tuple(_document(value, at, folder, str(i)) for i, (at, value) in enumerate(_items(context, "context")))
    if not documents:
        raise _Wrong("context: the list has no documents")
    _check_unique(documents, "context", lambda d: d.id)
    return documents


def _document(value: JSON, at: str, folder: Path | None, default_id: str) -> Document:
    document = _Object(value, at, ("id", "title", "text", "path"))
    if (document.get("text") is None) == (document.get("path") is None):
        raise _Wrong(f'{at}: expected either "text" or "path"')
    if document.get("path") is None:
        text = document.filled_text("text")
    else:
        text = _file_text(document.filled_text("path"), document.path("path"), folder)
    return Document(document.id(default_id), text, document.optional_text("title"))


def _file_text(path: str, at: str, folder: Path | None) -> str:
    if folder is None:
        raise _Wrong(f"{at}: this data can't name files; give the text itself")
    try:
        home = folder.resolve()
        file = (home / path).resolve()
        if not file.is_relative_to(home):
            raise _Wrong(f"{at}: {quoted(path)} leads out of the data's folder; keep the texts beside the data")
        if not file.is_file():
            raise _Wrong(f"{at}: no file {quoted(path)} in the data's folder")
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise _Wrong(f"{at}: {quoted(path)} is not UTF-8: {e.reason} at byte {e.start}") from None
    except (OSError, RuntimeError) as e:  # RuntimeError: a loop of symlinks, before Python 3.13
        raise _Wrong(f"{at}: can't read {quoted(path)}: {getattr(e, 'strerror', None) or e}") from None
    return _filled(_text(text, at), at)


def _candidates(row: _Object) -> tuple[Candidate, ...]:
    candidates = []
    for i, (at, value) in enumerate(row.items("candidates")):
        fields = _Object(value, at, ("id", "text", "source", "metadata"))
        source = fields.optional_text("source")
        candidates.append(Candidate(fields.id(str(i)), fields.text("text"), source, fields.metadata()))
    _check_unique(candidates, "candidates", lambda c: c.id)
    return tuple(candidates)


def _messages(row: _Object) -> tuple[Message, ...] | None:
    if row.get("messages") is None:
        return None
    messages = []
    for at, value in row.items("messages"):
        fields = _Object(value, at, ("role", "content"))
        if (role := fields.text("role")) not in ROLES:
            raise _Wrong(f"{at}.role: {quoted(role)} is none of {', '.join(ROLES)}")
        messages.append(Message(role, fields.text("content")))
    if not messages or messages[-1].role not in ("user", "tool"):
        raise _Wrong('messages: must end with a turn that the policy answers, of role "user" or "tool"')
    return tuple(messages)


# --- checks ----------------------------------------------------------------------------------------------------


def _text(value: JSON, at: str) -> str:
    if (problem := text_problem(value)) is not None:
        raise _Wrong(f"{at}: {problem}")
    return str(value)


def _filled(text: str, at: str) -> str:
    if not text.strip():
        raise _Wrong(f"{at}: is empty")
    return text


def _items(value: JSON, at: str) -> list[tuple[str, JSON]]:
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise _Wrong(f"{at}: expected a list, got {_kind(value)}")
    return [(f"{at}[{i}]", v) for i, v in enumerate(value)]


def _check_unique(things: Sequence[T], at: str, id_of: Callable[[T], str]) -> None:
    places: dict[str, int] = {}
    for i, thing in enumerate(things):
        if (first := places.setdefault(id_of(thing), i)) != i:
            raise _Wrong(f"{at}[{i}].id: {quoted(id_of(thing))} is already the id of {at}[{first}]")


def _check_json(value: JSON, at: str, depth: int) -> None:
    if depth < 0:
        raise _Wrong(f"metadata: nested deeper than {MAX_METADATA_DEPTH} levels")
    if isinstance(value, str):
        _text(value, at)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            name = _text(key, f"{at}: key")
            plain = name.isidentifier() and len(name) <= 60
            _check_json(item, f"{at}.{name if plain else quoted(name)}", depth - 1)
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            _check_json(item, f"{at}[{i}]", depth - 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise _Wrong(f"{at}: {value} is no JSON value")
    elif not (value is None or isinstance(value, bool | int | float)):
        raise _Wrong(f"{at}: {_kind(value)} is no JSON value")


def _unknown(key: JSON, at: str, allowed: Collection[str]) -> str:
    usual = _USUAL_NAMES.get(str(key).casefold())
    hint = f"; did you mean {usual}?" if usual in allowed else did_you_mean(str(key), allowed)
    own = " (what is your own goes under metadata)" if "metadata" in allowed else ""
    where = f"{at}: " if at else ""
    return f"{where}unknown field {quoted(str(key))}; allowed: {', '.join(allowed)}{own}{hint}"


def _no_object(value: JSON) -> str:
    return f"a row must be an object with the fields {', '.join(FIELDS)}; got {_kind(value)}"


def _kind(value: JSON) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    return f"a value of type {type(value).__name__}"
