"""Turns of a chat, of a long dialogue or of an agent's trajectory: as messages, and as documents to be judged by.

A turn is ``{"role", "content", "name"?, "tool_calls"?, "tool_call_id"?}``.

* ``role`` is "system", "user", "assistant" or "tool".
* ``content`` is a text, or a list of ``{"type": "text", "text"}``, which are joined; a turn that calls tools may have
  none.
* ``tool_calls``, of "assistant": a list of ``{"id"?, "type"?, "function": {"name", "arguments"}}``, or of
  ``{"id"?, "name", "arguments"}``. Arguments are an object, or one as JSON text.
* ``tool_call_id``, of "tool": the id of an earlier call.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from lrf.rows.fields import CallRow, ChatModel, TurnRow
from lrf.rows.problem import field_path, unknown_field
from lrf.rows.values import InvalidRowError, quoted
from lrf.types import Document, Message, ToolCall

_IDS_SHOWN = 10
_encode = json.JSONEncoder(ensure_ascii=False).encode


def messages_of(turns: Sequence[TurnRow]) -> tuple[Message, ...]:
    """The turns of a row as messages. Raises :class:`lrf.rows.values.InvalidRowError` where they don't fit together."""
    messages: list[Message] = []
    call_ids: set[str] = set()
    for number, turn in enumerate(turns):
        if turn.tool_calls or turn.tool_call_id is not None or turn.content is None or turn.__pydantic_extra__:
            _check(turn, number, call_ids)
        calls = tuple(map(_call, turn.tool_calls)) if turn.tool_calls else ()
        messages.append(Message(turn.role, _text(turn), turn.name, calls, turn.tool_call_id))
    if not messages or messages[-1].role not in ("user", "tool"):
        raise InvalidRowError('messages: must end with a turn that the policy answers, of role "user" or "tool"')
    return tuple(messages)


def last_query(messages: Sequence[Message] | None) -> str:
    """The content of the last turn of "user". Raises :class:`lrf.rows.values.InvalidRowError` where there is no one."""
    for message in reversed(messages or ()):
        if message.role == "user" and message.content.strip():
            return message.content
    raise InvalidRowError(
        "query: missing" if messages is None else "query: missing, and no turn of the user to take it from"
    )


def turn_documents(messages: Sequence[Message]) -> tuple[Document, ...]:
    """Each turn as a document: "turn-3" is ``messages[3]``. A turn without content and calls is left out."""
    names = {call.id: call.name for m in messages for call in m.tool_calls if call.id is not None}
    documents = []
    for number, message in enumerate(messages):
        lines = [message.content] if message.content.strip() else []
        lines += [f"Calls {call.name}: {json.dumps(call.arguments, ensure_ascii=False)}" for call in message.tool_calls]
        if lines:
            name = message.name or names.get(message.tool_call_id or "")
            title = f"turn {number}, {message.role}{f' {name}' if name else ''}"
            documents.append(Document(f"turn-{number}", "\n".join(lines), title))
    return tuple(documents)


def _check(turn: TurnRow, number: int, call_ids: set[str]) -> None:
    """What its role allows, and the calls that it makes or answers. Adds the ids of its calls to ``call_ids``."""
    at: list[str | int] = ["messages", number]
    _check_no_unknown_field(turn, at)
    for key, only in (("tool_calls", "assistant"), ("tool_call_id", "tool")):
        if getattr(turn, key) and turn.role != only:
            raise InvalidRowError(
                f"{field_path([*at, key])}: only a turn of role {only} has it, and this one is of {turn.role}"
            )
    if turn.content is None and not turn.tool_calls:
        raise InvalidRowError(f"{field_path([*at, 'content'])}: missing")
    if turn.tool_call_id is not None and turn.tool_call_id not in call_ids:
        ids = ", ".join(map(quoted, sorted(call_ids)[:_IDS_SHOWN])) or "none"
        raise InvalidRowError(
            f"{field_path([*at, 'tool_call_id'])}: {quoted(turn.tool_call_id)} is not the id of an earlier call; "
            f"ids: {ids}"
        )
    for i, call in enumerate(turn.tool_calls or ()):
        _check_call(call, [*at, "tool_calls", i])
        if call.id is not None:
            call_ids.add(call.id)


def _check_call(call: CallRow, at: Sequence[str | int]) -> None:
    _check_no_unknown_field(call, at)
    if call.function is not None:
        _check_no_unknown_field(call.function, [*at, "function"])
        if call.name is not None or call.arguments is not None:
            raise InvalidRowError(f'{field_path(at)}: expected either "function" or "name" with "arguments"')
    elif call.name is None:
        raise InvalidRowError(f"{field_path([*at, 'name'])}: missing")


def _check_no_unknown_field(part: ChatModel, at: Sequence[str | int]) -> None:
    for key, value in (part.__pydantic_extra__ or {}).items():
        if value is not None:
            raise InvalidRowError(unknown_field(key, at, [type(part)]))


def _text(turn: TurnRow) -> str:
    if turn.content is None or isinstance(turn.content, str):
        return turn.content or ""
    return "".join(part.text for part in turn.content)


def _call(call: CallRow) -> ToolCall:
    function = call.function or call
    return ToolCall(function.name or "", function.arguments or {}, call.id)
