"""Turns of a chat, of a long dialogue or of an agent's trajectory: read from a row, and as documents to be judged by.

A turn is ``{"role", "content", "name"?, "tool_calls"?, "tool_call_id"?}``.

* ``role`` is "system", "user", "assistant" or "tool".
* ``content`` is a text, or a list of ``{"type": "text", "text"}``, put together; a turn that calls tools
  may have none.
* ``tool_calls``, of "assistant": a list of ``{"id"?, "type"?, "function": {"name", "arguments"}}``, or of
  ``{"id"?, "name", "arguments"}``. Arguments are an object, or one as JSON text.
* ``tool_call_id``, of "tool": the id of an earlier call.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from lrf.rows.checks import InvalidRow, JsonObject, as_text, check_json, kind_of, not_empty, quoted
from lrf.types import JSON, Document, Message, ToolCall

ROLES = ("system", "user", "assistant", "tool")
TURN = ("role", "content", "name", "tool_calls", "tool_call_id")


def chat_of(row: JsonObject) -> tuple[Message, ...] | None:
    """The row's ``messages``; None where it has none."""
    if row.get("messages") is None:
        return None
    messages: list[Message] = []
    calls: dict[str, str] = {}
    for at, value in row.items("messages"):
        message = _turn(_object(value, at, TURN), calls)
        calls.update({call.id: call.name for call in message.tool_calls if call.id is not None})
        messages.append(message)
    if not messages or messages[-1].role not in ("user", "tool"):
        raise InvalidRow('messages: must end with a turn that the policy answers, of role "user" or "tool"')
    return tuple(messages)


def tools_of(row: JsonObject) -> tuple[Mapping[str, JSON], ...]:
    """The row's ``tools``; none where it has none."""
    given = row.get("tools")
    if isinstance(given, str):
        given = _parsed(given, "tools")
    if given is None:
        return ()
    if not isinstance(given, list | tuple):
        raise InvalidRow(f"tools: expected a list, or one as JSON text, got {kind_of(given)}")
    for i, tool in enumerate(given):
        at = f"tools[{i}]"
        function = tool.get("function", tool) if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise InvalidRow(f'{at}: expected {{"type": "function", "function": {{"name", …}}}}')
        check_json(tool, at)
    return tuple(given)


def last_query(messages: Sequence[Message] | None) -> str:
    """What the last turn of the user says: what the answer is to. Raises :class:`InvalidRow` where nobody asks anything."""
    said = [m.content for m in messages or () if m.role == "user" and m.content.strip()]
    if not said:
        raise InvalidRow(
            "query: missing" if messages is None else "query: missing, and no turn of the user to take it from"
        )
    return said[-1]


def turn_documents(messages: Sequence[Message]) -> tuple[Document, ...]:
    """Each turn as a document: "turn-3" is ``messages[3]``. Turns that say nothing and call nothing are passed over."""
    names = {call.id: call.name for m in messages for call in m.tool_calls if call.id is not None}
    found = []
    for number, message in enumerate(messages):
        lines = [message.content] if message.content.strip() else []
        lines += [f"Calls {call.name}: {_shown(call.arguments)}" for call in message.tool_calls]
        if lines:
            who = message.name or names.get(message.tool_call_id or "")
            title = f"turn {number}, {message.role}{f' {who}' if who else ''}"
            found.append(Document(f"turn-{number}", "\n".join(lines), title))
    return tuple(found)


def _turn(turn: JsonObject, calls: Mapping[str, str]) -> Message:
    """``calls`` are the names of the tools called so far, by the calls' ids."""
    if (role := turn.text("role")) not in ROLES:
        raise InvalidRow(f"{turn.path('role')}: {quoted(role)} is none of {', '.join(ROLES)}")
    for key, only in (("tool_calls", "assistant"), ("tool_call_id", "tool")):
        if turn.get(key) and role != only:
            raise InvalidRow(f"{turn.path(key)}: only a turn of role {only} has it, and this one is of {role}")
    tool_calls = tuple(_call(value, at) for at, value in turn.items("tool_calls"))
    content = "" if turn.get("content") is None and tool_calls else _content(turn)
    call_id = turn.optional_text("tool_call_id")
    if call_id is not None and call_id not in calls:
        there = ", ".join(map(quoted, list(calls)[:10])) or "none"
        raise InvalidRow(f"{turn.path('tool_call_id')}: {quoted(call_id)} is the id of no earlier call; ids: {there}")
    return Message(role, content, turn.optional_text("name"), tool_calls, call_id)


def _object(value: JSON, at: str, allowed: Sequence[str]) -> JsonObject:
    """The object without its nulls: a table's rows have every field that any turn of the table has."""
    there = {k: v for k, v in value.items() if v is not None} if isinstance(value, Mapping) else value
    return JsonObject(there, at, allowed)


def _content(turn: JsonObject) -> str:
    value = turn.required("content")
    if isinstance(value, str):
        return as_text(value, turn.path("content"))
    parts = []
    for at, part in turn.items("content"):
        if not isinstance(part, Mapping) or part.get("type") != "text":
            kind = quoted(str(part.get("type"))) if isinstance(part, Mapping) else kind_of(part)
            raise InvalidRow(f'{at}: only parts {{"type": "text", "text"}} can be read, got {kind}')
        parts.append(as_text(part.get("text"), f"{at}.text"))
    return "".join(parts)


def _call(value: JSON, at: str) -> ToolCall:
    call = _object(value, at, ("id", "type", "function", "name", "arguments"))
    if call.get("type") not in (None, "function"):
        raise InvalidRow(f'{at}.type: expected "function", got {quoted(str(call.get("type")))}')
    nested = call.get("function") is not None
    function = _object(call.get("function"), f"{at}.function", ("name", "arguments")) if nested else call
    if nested and (call.get("name") is not None or call.get("arguments") is not None):
        raise InvalidRow(f'{at}: expected either "function" or "name" with "arguments"')
    where, arguments = function.path("arguments"), function.get("arguments")
    if isinstance(arguments, str):
        arguments = _parsed(arguments, where)
    if not isinstance(arguments, Mapping | None):
        raise InvalidRow(f"{where}: expected an object, or one as JSON text, got {kind_of(arguments)}")
    check_json(arguments, where)
    name = not_empty(function.text("name"), function.path("name"))
    return ToolCall(name, dict(arguments or {}), call.optional_text("id"))


def _parsed(text: str, at: str) -> JSON:
    def no_number(name: str) -> JSON:
        raise ValueError(f"{name} is no JSON value")

    try:
        return json.loads(text, parse_constant=no_number)
    except (ValueError, RecursionError) as error:
        raise InvalidRow(f"{at}: no JSON: {str(error) or 'nested too deep'}") from None


def _shown(arguments: Mapping[str, JSON]) -> str:
    return json.dumps(arguments, ensure_ascii=False)
