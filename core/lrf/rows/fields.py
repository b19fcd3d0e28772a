"""The fields of a row of data as pydantic models: which there are, and what each may contain.

``null`` is the same as a field that isn't there. A function of Python for each text would take longer than all the
rest, so some rules are checked where the sample is made (:mod:`lrf.rows.data`): no NUL, surrogate or value that JSON
doesn't have, what a turn's role allows, ids that must differ, and calls that a turn refers to.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    FailFast,
    PlainValidator,
    Strict,
    StringConstraints,
    Tag,
)

from lrf.rows.values import check_depth, check_json, finite, invalid, kind_of, quoted, refuse_constant
from lrf.types import JSON

Text = Annotated[str, Strict()]
FilledText = Annotated[str, Strict(), StringConstraints(pattern=r"\S")]
Id = FilledText | Annotated[int, Strict()]


class _FirstMistake(FailFast):
    """Ends a list's validation at its first mistake, since a row of a million of them would take a minute."""

    __hash__ = object.__hash__  # to be part of a union


FIRST_MISTAKE = _FirstMistake()


def _object(value: JSON) -> dict[str, JSON]:
    if not isinstance(value, dict):
        raise invalid(f"expected an object, got {kind_of(value)}")
    check_depth(value)
    return value


Metadata = Annotated[dict[str, JSON], PlainValidator(_object)]


class RowModel(BaseModel):
    """Base of the models: an unknown field is an error."""

    model_config = ConfigDict(extra="forbid")


class ChatModel(BaseModel):
    """Base of the parts of a chat. A table's rows have every field that any of its turns has, most of them null.

    So an unknown field is only an error where it has a value; :func:`lrf.rows.chat.messages_of` looks.
    """

    model_config = ConfigDict(extra="allow")


# --- documents and candidates ------------------------------------------------------------------------------------


class DocumentRow(RowModel):
    """A document of the context, with either its text or the path of a text file."""

    id: Id | None = None
    title: Text | None = None
    text: FilledText | None = None
    path: FilledText | None = None


class CandidateRow(RowModel):
    """A candidate. Its text may be empty: what it is worth is the judge's to say."""

    id: Id | None = None
    text: Text
    source: Text | None = None
    metadata: Metadata | None = None


def _kind_of_context(value: JSON) -> str | None:
    kinds = {str: "(text)", dict: "(document)", list: "(documents)", tuple: "(documents)"}
    return next((kind for type_, kind in kinds.items() if isinstance(value, type_)), None)


Context = Annotated[
    Annotated[FilledText, Tag("(text)")]
    | Annotated[DocumentRow, Tag("(document)")]
    | Annotated[list[DocumentRow], FIRST_MISTAKE, Tag("(documents)")],
    Discriminator(
        _kind_of_context,
        custom_error_type="kind",
        custom_error_message="expected a text, a document or a list of documents",
    ),
]


# --- turns of a chat ---------------------------------------------------------------------------------------------


def _text_part(value: JSON) -> JSON:
    kind = value.get("type") if isinstance(value, dict) else None
    if kind != "text":
        got = quoted(str(kind)) if isinstance(value, dict) else kind_of(value)
        raise invalid(f'only parts {{"type": "text", "text"}} can be read, got {got}')
    return value


class PartRow(BaseModel):
    """A part of a turn's content; other keys of a part of type "text" are ignored."""

    text: Text


Content = Text | Annotated[list[Annotated[PartRow, BeforeValidator(_text_part)]], FIRST_MISTAKE]


_decode = json.JSONDecoder(parse_constant=refuse_constant, parse_float=finite).decode


def _parsed_json(text: str) -> JSON:
    try:
        value = _decode(text)
    except (ValueError, RecursionError) as error:
        raise invalid(f"not JSON: {str(error) or 'nested too deep'}") from None
    if "\\" in text:  # escapes, among which may be one of NUL
        check_json(value)
    return value


def _arguments(value: JSON) -> dict[str, JSON]:
    arguments = _parsed_json(value) if isinstance(value, str) else value
    check_depth(arguments)
    if not isinstance(arguments, dict):
        raise invalid(f"expected an object, or one as JSON text, got {kind_of(arguments)}")
    return arguments


Arguments = Annotated[dict[str, JSON], PlainValidator(_arguments)]


class FunctionRow(ChatModel):
    """The function that a call names."""

    name: FilledText
    arguments: Arguments | None = None


class CallRow(ChatModel):
    """A call of a tool, in OpenAI's form (``function``) or flat (``name`` with ``arguments``)."""

    id: Text | None = None
    type: Literal["function"] | None = None
    function: FunctionRow | None = None
    name: FilledText | None = None
    arguments: Arguments | None = None


class TurnRow(ChatModel):
    """A turn of a chat."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Content | None = None
    name: Text | None = None
    tool_calls: Annotated[list[CallRow], FIRST_MISTAKE] | None = None
    tool_call_id: Text | None = None


def _tools(value: JSON) -> tuple[dict[str, JSON], ...]:
    tools = _parsed_json(value) if isinstance(value, str) else value
    if not isinstance(tools, list | tuple):
        raise invalid(f"expected a list, or one as JSON text, got {kind_of(tools)}")
    check_depth(tools)
    for i, tool in enumerate(tools):
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise invalid('expected {"type": "function", "function": {"name", …}}', at=f"[{i}]")
    return tuple(tools)


def _candidates(value: JSON) -> JSON:
    """A plain text as a candidate is its text."""
    if isinstance(value, list) and any(isinstance(one, str) for one in value):
        return [{"text": one} if isinstance(one, str) else one for one in value]
    return value


class SampleRow(RowModel):
    """A row of data; :mod:`lrf.rows.data` says what each field is for."""

    id: Id | None = None
    context: Context | None = None
    query: FilledText | None = None
    candidates: Annotated[Annotated[list[CandidateRow], FIRST_MISTAKE] | None, BeforeValidator(_candidates)] = None
    reference: Text | None = None
    messages: Annotated[list[TurnRow], FIRST_MISTAKE] | None = None
    tools: Annotated[tuple[dict[str, JSON], ...], PlainValidator(_tools)] | None = None
    metadata: Metadata | None = None


FIELDS = tuple(SampleRow.model_fields)
"""The fields of a row."""
