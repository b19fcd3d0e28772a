"""A request for rewards, made into a sample: documents by text or id, or a prompt that is read backwards.

The fields of a request (``null`` is the same as absent):

``query``, ``context``, ``messages``, ``reference``
    as in a row of data (:mod:`lrf.rows.data`); a document has no ``path``.
``document_ids``
    in place of ``context``: ids of documents that were sent before, in order.
``prompt``
    in place of query and context: the policy's prompt, as text (with or without a chat template's marks) or as turns.
    Document and question are found by ``policy.prompt_template``; ``query`` or ``document_ids`` beside it help.
``answers`` (required)
    a list of texts, or of ``{"text", "id"?}``. What can't be stored in them (NUL, half a character) becomes U+FFFD.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lrf.errors import DataError
from lrf.rows.chat_text import user_turn
from lrf.rows.data import RowError, quoted, sample_from_row
from lrf.rows.document_store import DocumentStore, document_id, is_document_id
from lrf.text.unicode import storable
from lrf.types import JSON, Document, Sample

FIELDS = ("query", "context", "messages", "reference", "document_ids", "prompt", "answers")
"""The fields of a request."""

MOST_PLACES, MOST_HASHED = 10_000, 20
"""Places at which a prompt is divided for a trial, and those of them after which a text is hashed anew."""

_FIELD = re.compile(r"<<(context|question)>>")
_HELP = 'send "query" with "context" or "document_ids" instead'


class UnknownDocumentError(DataError):
    """An id of a document that wasn't sent before."""


def sample_asked(body: Mapping[str, JSON], store: DocumentStore, template: str) -> Sample:
    """The sample that a request describes, with its answers as candidates. Its documents are kept in the store.

    Raises :class:`UnknownDocumentError`, or another :class:`lrf.errors.DataError` that names the field.
    """
    given = {name: value for name, value in body.items() if value is not None}
    if unknown := sorted(set(given) - set(FIELDS)):
        raise DataError(f"{quoted(unknown[0])}: no such field; allowed: {', '.join(FIELDS)}")
    answers = given.pop("answers", None)
    if not isinstance(answers, list) or not answers:
        raise DataError("answers: expected a list of texts, at least one")
    known = _named(given.pop("document_ids", None), store)
    prompt = given.pop("prompt", None)
    if known is not None and "context" in given:
        raise DataError("document_ids: given beside context; give one of the two")
    if prompt is not None and (known is None or "query" not in given) and "context" not in given:
        context, given["query"] = read_prompt(prompt, template, store, known, given.get("query"))
        given.setdefault("context", context)
    if known is not None:
        given["context"] = [{"text": text} for text in known]
    candidates = [_candidate(answer) for answer in answers]
    try:
        sample = sample_from_row({**given, "candidates": candidates}, folder=None, file="request", line=1)
    except RowError as error:
        raise DataError(error.message.replace("candidates", "answers", 1)) from None
    kept = [store.keep(document.text) for document in sample.documents]
    documents = tuple(replace(d, text=text) for d, (_, text) in zip(sample.documents, kept, strict=True))
    return replace(sample, id=_question_id(sample.query, documents, [key for key, _ in kept]), documents=documents)


def _candidate(answer: JSON) -> JSON:
    """An answer as a row of data has it. A policy may write what can't be stored: that becomes U+FFFD."""
    row = {"text": answer} if isinstance(answer, str) else answer
    if isinstance(row, Mapping) and isinstance(row.get("text"), str):
        return {**row, "text": storable(row["text"]).replace("\0", "\ufffd")}
    return row


def _question_id(query: str, documents: Sequence[Document], ids: Sequence[str]) -> str:
    """A hash of a question and its documents, in hexadecimal: what samples that were asked for are named by."""
    about = zip(documents, ids, strict=True)
    parts = [query, *(part for document, key in about for part in (document.id, document.title or "", key))]
    return document_id(json.dumps(parts))[:32]


def reference(value: JSON) -> Mapping[str, JSON]:
    """What a label says about the sample: an id, ids, or an object with fields of a request (also as JSON text).

    Empty for a label that says nothing of the kind.
    """
    if is_document_id(value):
        return {"document_ids": [value]}
    if isinstance(value, list) and value and all(map(is_document_id, value)):
        return {"document_ids": value}
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    if not isinstance(value, Mapping):
        return {}
    fields = {name: value[name] for name in FIELDS if name not in ("answers", "prompt") and value.get(name) is not None}
    if is_document_id(value.get("document_id")):
        fields.setdefault("document_ids", [value["document_id"]])
    if isinstance(value.get("question"), str):
        fields.setdefault("query", value["question"])
    return fields


def _named(ids: JSON, store: DocumentStore) -> list[str] | None:
    if ids is None:
        return None
    if not isinstance(ids, list) or not ids or not all(map(is_document_id, ids)):
        raise DataError("document_ids: expected a list of ids, each of 64 hexadecimal digits (SHA-256 of the text)")
    texts = [store.get(key) for key in ids]
    for key, text in zip(ids, texts, strict=True):
        if text is None:
            raise UnknownDocumentError(f"document_ids: no document {key} is known here; send its text first")
    return [text for text in texts if text is not None]


# --- a prompt read backwards ---------------------------------------------------------------------------------------


def read_prompt(
    prompt: JSON, template: str, store: DocumentStore, known: Sequence[str] | None = None, query: JSON = None
) -> tuple[str, str]:
    """The context and the question of a prompt that the template made.

    Parameters
    ----------
    prompt: a text, or turns of which the last one of "user" counts.
    template: ``policy.prompt_template``.
    store: where the template leaves several places open, the one counts after which the context is known here.
    known: the texts of the documents, where they are named.
    query: the question, where it is given.

    Raises :class:`lrf.errors.DataError` with the reason for a prompt that doesn't match, or matches in several ways.
    """
    text = _turn(prompt).strip()
    literals = _FIELD.split(template)
    if literals[1::2] not in (["context", "question"], ["question", "context"]):
        raise DataError(f"prompt: policy.prompt_template has not one <<context>> and one <<question>>; {_HELP}")
    start, between, end = literals[0].lstrip(), literals[2], literals[4].rstrip()
    if not (text.startswith(start) and text.endswith(end)) or len(text) < len(start) + len(end):
        raise DataError(f"prompt: it isn't made by policy.prompt_template ({quoted(template)}); {_HELP}")
    inner = text[len(start) : len(text) - len(end)]
    if not between:
        raise DataError(f"prompt: policy.prompt_template has nothing between document and question; {_HELP}")
    divided = _Divided(inner, between, context_first=literals[1] == "context")
    places = divided.places(known, query)
    if len(places) > 1:
        places = divided.known_here(places, store) or places
    if len(places) == 1:
        return divided.parts(places[0])
    if not places:
        wanted = "the named document" if known is not None else "what policy.prompt_template has between its fields"
        raise DataError(f"prompt: {wanted} isn't in it where it should be; {_HELP}")
    raise DataError(
        f"prompt: {quoted(between)}, which policy.prompt_template has between document and question, is in it "
        f"{len(places)} times; send the document beforehand (POST /v1/documents), or {_HELP}"
    )


def _turn(prompt: JSON) -> str:
    if isinstance(prompt, str):
        return user_turn(prompt)
    turns: Any = prompt if isinstance(prompt, list) else []
    said = [t["content"] for t in turns if isinstance(t, Mapping) and t.get("role") == "user" and "content" in t]
    if len(said) != 1 or not isinstance(said[0], str):
        raise DataError(f"prompt: expected a text, or turns with one of user that is a text; {_HELP}")
    return said[0]


@dataclass(frozen=True, slots=True)
class _Divided:
    """A text of two parts with something between them that may be in the parts, too."""

    inner: str
    between: str
    context_first: bool

    def parts(self, at: int) -> tuple[str, str]:
        """Context and question, if they are divided at this place."""
        one, other = self.inner[:at], self.inner[at + len(self.between) :]
        return (one, other) if self.context_first else (other, one)

    def places(self, known: Sequence[str] | None, query: JSON) -> list[int]:
        """Where the text may be divided: so that the context is the known one, and the question the given one."""
        whole = None if known is None else "\n\n".join(known).strip()
        places: list[int] = []
        at = self.inner.find(self.between)
        while at >= 0 and len(places) < MOST_PLACES:
            if self._fits(at, whole, query):
                places.append(at)
            at = self.inner.find(self.between, at + 1)
        return places

    def _fits(self, at: int, whole: str | None, query: JSON) -> bool:
        after = at + len(self.between)
        size = at if self.context_first else len(self.inner) - after
        if whole is not None and not len(whole) <= size <= len(whole) + 64:  # at its ends, white space may differ
            return False
        if whole is None and not isinstance(query, str):
            return at > 0 and after < len(self.inner)
        context, question = self.parts(at)
        return (whole is None or context.strip() == whole) and (query is None or question.strip() == str(query).strip())

    def known_here(self, places: Sequence[int], store: DocumentStore) -> list[int]:
        """Those places where the context is a document that was sent before."""
        if not self.context_first:
            return [at for at in places[:MOST_HASHED] if document_id(self.parts(at)[0]) in store]
        digest, hashed, found = hashlib.sha256(), 0, []
        for at in places:
            digest.update(self.inner[hashed:at].encode())
            hashed = at
            if digest.hexdigest() in store:
                found.append(at)
        return found
