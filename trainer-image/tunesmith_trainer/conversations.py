"""Formats with turns: Messages, ShareGPT, Alpaca, PromptCompletion; and plain text."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunesmith_api.finetunejob import Columns
from tunesmith_trainer.examples import ASSISTANT, SYSTEM, TOOL, USER, Conversation, PlainText, Turn
from tunesmith_trainer.fields import RowError, checked_text, encodable, shown, text_of, unpacked
from tunesmith_trainer.readers import Row

_SHOWN_ROLES = 8
#: Roles that may follow each; an assistant that calls tools is a row of its own.
_CALLING = "assistant with tool_calls"
_NEXT = {SYSTEM: {USER}, USER: {ASSISTANT}, ASSISTANT: {USER}, _CALLING: {TOOL}, TOOL: {TOOL, ASSISTANT}}


@dataclass(frozen=True)
class _Keys:
    """How a format writes a message.

    Attributes:
        role: key of who speaks.
        content: key of what is said.
        roles: roles that it names otherwise than we do.
        calling: its role of a message that is nothing but tool calls; empty when it has none.
    """

    role: str
    content: str
    roles: Mapping[str, str]
    calling: str = ""


_MESSAGE = _Keys("role", "content", {})
_SHARE_GPT = _Keys(
    "from",
    "value",
    {"human": USER, "gpt": ASSISTANT, "function_call": ASSISTANT, "observation": TOOL},
    calling="function_call",
)


def _turns(value: Any, column: str, keys: _Keys = _MESSAGE) -> tuple[Turn, ...]:
    if not isinstance(value, list) or not value:
        raise RowError(f"{column} is {'null' if value is None else f'no list of messages: {shown(value)}'}")
    return tuple(_turn(entry, f"{column}[{place}]", keys) for place, entry in enumerate(value))


def _turn(entry: Any, where: str, keys: _Keys) -> Turn:
    if not isinstance(entry, dict):
        raise RowError(f"{where} is no object")
    named, content = entry.get(keys.role), entry.get(keys.content)
    if not isinstance(named, str):
        raise RowError(f"{where}.{keys.role} is missing")
    role = keys.roles.get(named, named)
    more = _beside(entry, where, role)
    if named == keys.calling:
        return Turn(role, "", _calls(_function_calls(content, f"{where}.{keys.content}"), where), **more)
    calls = _calls(entry.get("tool_calls"), f"{where}.tool_calls")
    if (calls and role == ASSISTANT and (content is None or content == "")) or (role == TOOL and content == ""):
        return Turn(role, "", calls, **more)
    return Turn(role, checked_text(content, f"{where}.{keys.content}"), calls if role == ASSISTANT else "", **more)


def _beside(entry: dict[str, Any], where: str, role: str) -> dict[str, Any]:
    """What a message says beside its content and its calls, as OpenAI and the chat templates name it."""
    found: dict[str, Any] = {name: _word(entry, name, where) for name in ("name", "tool_call_id")}
    if role != ASSISTANT:
        return found
    return found | {"reasoning": _word(entry, "reasoning_content", where), "learnt": _learnt(entry, where)}


def _word(entry: dict[str, Any], key: str, where: str) -> str:
    value = entry.get(key)
    if value is not None and not isinstance(value, str):
        raise RowError(f"{where}.{key} is {type(value).__name__}, not text: {shown(value)}")
    return value or ""


def _learnt(entry: dict[str, Any], where: str) -> bool:
    weight = entry.get("weight")
    if weight not in (None, 0, 1):
        raise RowError(f"{where}.weight is {shown(weight)}; an answer is learnt (1) or only read (0)")
    return weight != 0


def _function_calls(value: Any, where: str) -> list[dict[str, Any]]:
    """The calls of a `function_call` message, an object or a list of them or the JSON of either, as `tool_calls`."""
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        found = None
    calls = found if isinstance(found, list) else [found]
    if not calls or not all(isinstance(call, dict) and isinstance(call.get("name"), str) for call in calls):
        raise RowError(f"{where} is {shown(value)}, not the JSON of a call: name, arguments")
    return [_as_tool_call(call) for call in calls]


def _as_tool_call(call: dict[str, Any]) -> dict[str, Any]:
    """A bare call in its envelope, which is where its `id` belongs."""
    function = {key: value for key, value in call.items() if key != "id"}
    return ({"id": call["id"]} if "id" in call else {}) | {"type": "function", "function": function}


def _calls(value: Any, where: str) -> str:
    """Tool calls as JSON, their arguments as objects, which chat templates expect."""
    if not value:
        return ""
    if not isinstance(value, list) or not all(isinstance(call, dict) for call in value):
        raise RowError(f"{where} is no list of objects: {shown(value)}")
    return encodable(json.dumps([_call(call) for call in value], ensure_ascii=False, default=str), where)


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
    if not body[-1].learnt:
        raise RowError("has weight 0 on its last answer; end the row with an answer that is learnt")
    return turns


def _roles(turns: tuple[Turn, ...]) -> str:
    roles = [turn.role for turn in turns]
    return ", ".join(roles[:_SHOWN_ROLES]) + (", ..." if len(roles) > _SHOWN_ROLES else "")


def _conversation(turns: tuple[Turn, ...], row: Row, columns: Columns) -> Conversation:
    """Turns with the row's `system` text before them, unless they have their own, and its `tools`."""
    column = columns.system or "system"
    system = row.get(column)
    if isinstance(system, str) and system.strip() and turns[0].role != SYSTEM:
        turns = (Turn(SYSTEM, encodable(system, column)), *turns)
    tools = columns.tools or "tools"
    return Conversation(check_turns(turns), _tools(row.get(tools), tools))


def _tools(value: Any, column: str) -> str:
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except ValueError as error:
            raise RowError(f"{column} is no JSON: {error}") from error
    if not value:
        return ""
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise RowError(f"{column} is no list of objects: {shown(value)}")
    return encodable(json.dumps(value, ensure_ascii=False, default=str), column)


def messages(row: Row, columns: Columns) -> Conversation:
    """A list of `role`, `content`; `system` and `tools` beside it."""
    column = columns.messages or "messages"
    return _conversation(_turns(_column(row, column), column), row, columns)


def _column(row: Row, column: str) -> Any:
    if column not in row:
        raise RowError(f"has no column {column!r}")
    return unpacked(row[column])


def prompt_completion(row: Row, columns: Columns) -> Conversation:
    """A prompt and its completion, each a text or a list of messages; `system` and `tools` beside them."""
    prompt, completion = columns.prompt or "prompt", columns.completion or "completion"
    if isinstance(row.get(prompt), list):
        return _conversation(_turns(row[prompt], prompt) + _turns(row.get(completion), completion), row, columns)
    return _conversation((Turn(USER, text_of(row, prompt)), Turn(ASSISTANT, text_of(row, completion))), row, columns)


def alpaca(row: Row, columns: Columns) -> Conversation:
    """An instruction, its input below it, and the output."""
    prompt = text_of(row, columns.prompt or "instruction")
    column = columns.input or "input"
    context = row.get(column)
    if isinstance(context, str) and context.strip():
        prompt = f"{prompt}\n\n{encodable(context, column)}"
    answer = text_of(row, columns.completion or "output")
    return _conversation((Turn(USER, prompt), Turn(ASSISTANT, answer)), row, columns)


def share_gpt(row: Row, columns: Columns) -> Conversation:
    """A list of `from`, `value`; `tool_calls` beside the value, or calls as a `function_call` message."""
    column = columns.messages or "conversations"
    turns = _turns(_column(row, column), column, _SHARE_GPT)
    unknown = sorted({turn.role for turn in turns} - {SYSTEM, USER, ASSISTANT, TOOL})
    if unknown:
        raise RowError(f"{column} has roles {', '.join(unknown)}; use human, gpt, system, function_call or observation")
    return _conversation(turns, row, columns)


def plain_text(row: Row, columns: Columns) -> PlainText:
    """Text without an answer."""
    return PlainText(text_of(row, columns.text or "text"))
