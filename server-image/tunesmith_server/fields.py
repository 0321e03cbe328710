"""Every request field that OpenAI's API knows, and what happens to it here: none is accepted and silently ignored.

`USED` changes the answer. `HARMLESS` cannot change it (bookkeeping of the hosted service) and is accepted. `REFUSED`
would change it in a way that this server cannot do; only values that mean "not asked for" pass. Others are unknown.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from tunesmith_server.errors import InvalidRequestError


class Handling(Enum):
    """What happens to a field."""

    USED = "used"
    HARMLESS = "harmless"
    REFUSED = "refused"


@dataclass(frozen=True)
class Rule:
    """A field's handling; `neutral` are the values of a refused field that ask for nothing (null always does)."""

    handling: Handling
    neutral: tuple[Any, ...] = ()


_USED, _HARMLESS = Rule(Handling.USED), Rule(Handling.HARMLESS)


def _refused(*neutral: Any) -> Rule:
    return Rule(Handling.REFUSED, neutral)


_COMMON: Mapping[str, Rule] = {
    "model": _USED,
    "stream": _USED,
    "stream_options": _USED,
    "max_tokens": _USED,
    "temperature": _USED,
    "top_p": _USED,
    "top_k": _USED,
    "n": _USED,
    "stop": _USED,
    "seed": _USED,
    "logprobs": _USED,
    "logit_bias": _USED,
    "frequency_penalty": _USED,
    "presence_penalty": _USED,
    "user": _HARMLESS,
}

CHAT: Mapping[str, Rule] = {
    **_COMMON,
    "messages": _USED,
    "max_completion_tokens": _USED,
    "top_logprobs": _USED,
    "metadata": _HARMLESS,
    "store": _HARMLESS,
    "safety_identifier": _HARMLESS,
    "service_tier": _HARMLESS,
    "prompt_cache_key": _HARMLESS,
    "prompt_cache_options": _HARMLESS,
    "prompt_cache_retention": _HARMLESS,
    "parallel_tool_calls": _HARMLESS,  # says how to call tools, and tools are refused
    "tools": _refused([]),
    "tool_choice": _refused("none", "auto"),
    "functions": _refused([]),
    "function_call": _refused("none", "auto"),
    "response_format": _refused({"type": "text"}),
    "modalities": _refused(["text"]),
    "audio": _refused(),
    "moderation": _refused(),
    "prediction": _refused(),
    "reasoning_effort": _refused("none"),
    "verbosity": _refused(),
    "web_search_options": _refused(),
}

COMPLETION: Mapping[str, Rule] = {
    **_COMMON,
    "prompt": _USED,
    "echo": _refused(False),  # noqa: FBT003 - the value of a JSON field
    "best_of": _refused(1),
    "suffix": _refused(""),
}


def used_fields(body: Mapping[str, Any], rules: Mapping[str, Rule]) -> dict[str, Any]:
    """The fields of `body` that decide the answer, without nulls.

    Raises:
        InvalidRequestError: a field is unknown, or asks for something that is not supported; `param` names it.
    """
    used: dict[str, Any] = {}
    for name, value in body.items():
        rule = rules.get(name)
        if rule is None:
            raise InvalidRequestError(f"Unrecognized request argument: {name}", param=name, code="unknown_parameter")
        if rule.handling is Handling.REFUSED and value is not None and not _is_neutral(value, rule):
            raise InvalidRequestError(
                f"'{name}' is not supported by this server; leave it out.", param=name, code="unsupported_parameter"
            )
        if rule.handling is Handling.USED and value is not None:
            used[name] = value
    return used


def _is_neutral(value: Any, rule: Rule) -> bool:
    return any(value == neutral and type(value) is type(neutral) for neutral in rule.neutral)
