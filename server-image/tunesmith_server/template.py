"""Chat messages to prompt text, exactly as transformers' `apply_chat_template` renders them.

The environment mirrors transformers 5.23 (`utils/chat_template_utils.py`): an immutable sandbox with trimmed blocks,
loop controls, `{% generation %}` blocks, `raise_exception`, `strftime_now` and a `tojson` that does not escape HTML.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tunesmith_server.errors import InvalidRequestError, ModelError


class _GenerationBlock(jinja2.ext.Extension):
    """`{% generation %}` marks the assistant's text for training; when serving, its body is rendered as it is."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 reads a plain class attribute

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller: Callable[[], str]) -> str:
        return caller()


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002 - the signature that templates call
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002 - as above
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class ChatTemplate:
    """A compiled chat template.

    Args:
        source: The Jinja source.
        variables: Special tokens by name (`bos_token`, `eos_token`…), visible to the template.
        now: The clock behind `strftime_now`.
    """

    def __init__(self, source: str, variables: Mapping[str, str], now: Callable[[], datetime]) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_GenerationBlock, jinja2.ext.loopcontrols],
            autoescape=False,
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = lambda pattern: now().strftime(pattern)
        self._variables = dict(variables)
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise ModelError(f"chat template: line {getattr(error, 'lineno', '?')}: {error}") from error

    def render(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The prompt for `messages`, ending where the assistant's answer begins.

        Raises:
            InvalidRequestError: the template refused the messages (for example an unsupported order of roles).
        """
        try:
            return self._template.render(
                **{"documents": None, "tools": None, **self._variables},
                messages=list(messages),
                add_generation_prompt=True,
            )
        except (jinja2.TemplateError, TypeError, ValueError, AttributeError) as error:
            raise InvalidRequestError(f"The chat template refused the messages: {error}", param="messages") from error
