"""The tables of `docs/techniques.md`, generated from the technique table. `tunesmith_api.reference` writes them."""

import json
from pathlib import Path

from tunesmith_api.techniques import TECHNIQUES, Option, Technique

TECHNIQUES_PAGE = Path("docs/techniques.md")
#: What is generated lies between these lines; the rest of the page is written by hand.
BEGIN, END = "<!-- generated: techniques -->", "<!-- end of generated -->"


def technique_tables() -> str:
    """What lies between the marks, in Markdown."""
    head = (
        "| technique | `spec.technique` | trained weights | default rate | from | merges | models | paper |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- |"
    )
    table = "\n".join([head, *map(_row, TECHNIQUES.values())])
    options = "\n".join(_options(row) for row in TECHNIQUES.values() if row.options)
    return f"{table}\n\n## Options of `peft.config`\n\n{options}"


def _row(row: Technique) -> str:
    models = "any" if len(row.kinds) > 1 else ", ".join(row.kinds)
    merges = "yes" if row.merges else "no"
    cells = (f"`{_flow(row.example)}`", row.formula, f"{row.learning_rate:g}", row.source, merges, models, row.paper)
    return f"| {' | '.join((row.name, *cells))} |"


def _flow(value: object) -> str:
    """A spec in YAML's flow form."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(inner)}" for key, inner in value.items()) + "}"
    return value if isinstance(value, str) else json.dumps(value)


def _options(row: Technique) -> str:
    head = f"### {row.name}\n\n| option | default | allowed | what |\n| --- | --- | --- | --- |"
    lines = [
        f"| `{name}` | {_default(option)} | {_allowed(option)} | {option.what} |"
        for name, option in row.options.items()
    ]
    return "\n".join([head, *lines, ""])


def _default(option: Option) -> str:
    return "" if option.default is None else f"`{_flow(option.default)}`"


def _allowed(option: Option) -> str:
    if option.choices:
        return ", ".join(f"`{choice}`" for choice in option.choices)
    if option.kind is bool:
        return "`true`, `false`"
    return f"{_number(option.low)} to {_number(option.high)}"


def _number(value: float | None) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def filled(page: str) -> str:
    """A page with the tables between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{technique_tables()}\n{END}{after}"
