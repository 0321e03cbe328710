"""Formats with turns: Messages, ShareGPT, Alpaca, PromptCompletion; and plain text."""

import json
from typing import Any

from tunesmith_api.finetunejob import Columns
from tunesmith_trainer.examples import ASSISTANT, SYSTEM, TOOL, USER, Conversation, PlainText, Turn
from tunesmith_trainer.fields import RowError, checked_text, shown, text_of
from tunesmith_trainer.readers import Row

_SHOWN_ROLES = 8
#: Roles that may follow each; an assistant that calls tools is a row of its own.
_CALLING = "assistant with tool_calls"
_NEXT = {SYSTEM: {USER}, USER: {ASSISTANT}, ASSISTANT: {USER}, _CALLING: {TOOL}, TOOL: {TOOL, ASSISTANT}}


def _turns(value: Any, column: str, role_key: str = "role", content_key: str = "content") -> tuple[Turn, ...]:
    if not isinstance(value, list) or not value:
        raise RowError(f"{column} is {'null' if value is None else f'no list of messages: {shown(value)}'}")
    return tuple(_turn(entry, f"{column}[{place}]", role_key, content_key) for place, entry in enumerate(value))


def _turn(entry: Any, where: str, role_key: str, content_key: str) -> Turn:
    if not isinstance(entry, dict):
        raise RowError(f"{where} is no object")
    role, content = entry.get(role_key), entry.get(content_key)
    if not isinstance(role, str):
        raise RowError(f"{where}.{role_key} is missing")
    calls = _calls(entry.get("tool_calls"), f"{where}.tool_calls")
    if calls and role == ASSISTANT and (content is None or content == ""):
        return Turn(role, "", calls)
    return Turn(role, checked_text(content, f"{where}.{content_key}"), calls if role == ASSISTANT else "")


def _calls(value: Any, where: str) -> str:
    """Tool calls as JSON, their arguments as objects, which chat templates expect."""
    if not value:
        return ""
    if not isinstance(value, list) or not all(isinstance(call, dict) for call in value):
        raise RowError(f"{where} is no list of objects: {shown(value)}")
    return json.dumps([_call(call) for call in value], ensure_ascii=False, default=str)


def _call(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        return call | {"function": function | {"arguments": json.loads(function["arguments"])}}
    except ValueError:
        return call


def check_turns(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """The same turns, when their order is: system or none, then user and assistant in turn, assistant last.

    Tool turns follow an assistant's tool calls.

    Raises:
        RowError: it is not.
    """
    body = turns[1:] if turns[0].role == SYSTEM else turns
    before = SYSTEM
    for turn in body:
        if turn.role not in _NEXT[before]:
            raise RowError(f"roles are {_roles(turns)}; they must be user, assistant in turn, tool after tool_calls")
        before = _CALLING if turn.tool_calls else turn.role
    if not body or before not in {ASSISTANT, _CALLING}:
        raise RowError("has no answer: the last message must be the assistant's")
    return turns


def _roles(turns: tuple[Turn, ...]) -> str:
    roles = [turn.role for turn in turns]
    return ", ".join(roles[:_SHOWN_ROLES]) + (", ..." if len(roles) > _SHOWN_ROLES else "")


def _conversation(turns: tuple[Turn, ...], row: Row) -> Conversation:
    """Turns with the row's `system` text before them, unless they have their own, and its `tools`."""
    system = row.get("system")
    if isinstance(system, str) and system.strip() and turns[0].role != SYSTEM:
        turns = (Turn(SYSTEM, system), *turns)
    return Conversation(check_turns(turns), _tools(row.get("tools")))


def _tools(value: Any) -> str:
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except ValueError as error:
            raise RowError(f"tools is no JSON: {error}") from error
    if not value:
        return ""
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise RowError(f"tools is no list of objects: {shown(value)}")
    return json.dumps(value, ensure_ascii=False, default=str)


def messages(row: Row, columns: Columns) -> Conversation:
    """A list of `role`, `content`; `system` and `tools` beside it."""
    column = columns.messages or "messages"
    return _conversation(_turns(_column(row, column), column), row)


def _column(row: Row, column: str) -> Any:
    if column not in row:
        raise RowError(f"has no column {column!r}")
    return row[column]


def prompt_completion(row: Row, columns: Columns) -> Conversation:
    """A prompt and its completion, each a text or a list of messages."""
    prompt, completion = columns.prompt or "prompt", columns.completion or "completion"
    if isinstance(row.get(prompt), list):
        return _conversation(_turns(row[prompt], prompt) + _turns(row.get(completion), completion), row)
    return Conversation((Turn(USER, text_of(row, prompt)), Turn(ASSISTANT, text_of(row, completion))))


def alpaca(row: Row, columns: Columns) -> Conversation:
    """An instruction, its input below it, and the output."""
    prompt = text_of(row, columns.prompt or "instruction")
    context = row.get("input")
    if isinstance(context, str) and context.strip():
        prompt = f"{prompt}\n\n{context}"
    return _conversation((Turn(USER, prompt), Turn(ASSISTANT, text_of(row, columns.completion or "output"))), row)


_SHARE_GPT_ROLES = {
    "human": USER,
    "user": USER,
    "gpt": ASSISTANT,
    "assistant": ASSISTANT,
    "system": SYSTEM,
    "tool": TOOL,
    "observation": TOOL,
}


def share_gpt(row: Row, columns: Columns) -> Conversation:
    """A list of `from`, `value`."""
    column = columns.messages or "conversations"
    turns = _turns(_column(row, column), column, "from", "value")
    unknown = sorted({turn.role for turn in turns} - set(_SHARE_GPT_ROLES))
    if unknown:
        raise RowError(f"{column} has roles {', '.join(unknown)}; use human, gpt or system")
    return _conversation(tuple(Turn(_SHARE_GPT_ROLES[turn.role], turn.content) for turn in turns), row)


def plain_text(row: Row, columns: Columns) -> PlainText:
    """Text without an answer."""
    return PlainText(text_of(row, columns.text or "text"))
