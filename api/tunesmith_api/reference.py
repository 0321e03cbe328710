"""The reference pages below `docs/reference`, generated from the CRDs and the tables of the contract.

`python -m tunesmith_api.reference FOLDER` writes them below FOLDER, the repository's root.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunesmith_api.crd import crd
from tunesmith_api.enums import ModelKind, Task
from tunesmith_api.exits import CRASHED, EXIT_MEANINGS, ExitMeaning
from tunesmith_api.resource import API_VERSION, KINDS, Kind
from tunesmith_api.tasks import TASKS
from tunesmith_api.technique_page import TECHNIQUES_PAGE, filled

REFERENCE_FOLDER = Path("docs/reference")
_BOUNDS = {"minimum": "at least {}", "maximum": "at most {}", "maxItems": "at most {} items", "pattern": "matches `{}`"}


def reference_page(kind: Kind) -> str:
    """The page of a kind, in Markdown."""
    schema = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    names = ", ".join(f"`{name}`" for name in (kind.plural, *kind.short_names))
    head = f"# {kind.name}\n\n`{API_VERSION}`, {names}. {schema['description']}\n"
    tables = [table for part in ("spec", "status") for table in _tables(part, schema["properties"][part])]
    return "\n".join([head, *tables])


def _tables(path: str, schema: dict[str, Any]) -> Iterator[str]:
    """The table of an object, then those of the objects in it."""
    required = set(schema.get("required", ()))
    rows = [_row(name, field, required=name in required) for name, field in schema["properties"].items()]
    rules = "".join(f"\n- {rule['message']}" for rule in schema.get("x-kubernetes-validations", ()))
    yield "\n".join(
        [f"## {path}\n", schema.get("description", ""), "", "| field | type | what |", "| --- | --- | --- |", *rows]
    ) + (f"\n\nRules:\n{rules}\n" if rules else "\n")
    for name, field in schema["properties"].items():
        child = field.get("items", field)
        if "properties" in child:
            suffix = "[]" if "items" in field else ""
            yield from _tables(f"{path}.{name}{suffix}", child)


def _row(name: str, field: dict[str, Any], *, required: bool) -> str:
    words = [field.get("description", "").rstrip(".") + "."]
    if required:
        words.append("**Required.**")
    if "default" in field and field["default"] not in ({}, []):
        words.append(f"Default: `{field['default']}`.")
    if "enum" in field:
        words.append("One of " + ", ".join(f"`{value}`" for value in field["enum"]) + ".")
    bounds = [text.format(field[key]) for key, text in _BOUNDS.items() if key in field]
    if bounds:
        words.append(_sentence(", ".join(bounds)))
    return f"| `{name}` | {_type(field)} | {' '.join(words).replace('|', chr(92) + '|')} |"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _type(field: dict[str, Any]) -> str:
    if field.get("type") == "array":
        return f"list of {_type(field['items'])}"
    if "additionalProperties" in field:
        return "map"
    return str(field.get("type", "any"))


def exit_codes_page() -> str:
    """The page of the stages' exit codes, in Markdown."""
    head = (
        "# Exit codes of the stages\n\n"
        "| code | category | tried again | counts | what to do |\n| --- | --- | --- | --- | --- |"
    )
    rows = [_exit_row(str(int(code)), meaning) for code, meaning in EXIT_MEANINGS.items()]
    return "\n".join([head, "| 0 | | | | Nothing: the stage is done. |", *rows, _exit_row("any other", CRASHED), ""])


def _exit_row(code: str, meaning: ExitMeaning) -> str:
    again = "by itself" if meaning.retryable else "no"
    counts = "yes" if meaning.counts else "no"
    return f"| {code} | {meaning.category} | {again} | {counts} | {meaning.resolution} |"


def tasks_page() -> str:
    """The page of the tasks, in Markdown: a row for each kind of model that can learn each."""
    head = (
        "# Tasks\n\nWhat each `spec.task` takes on each kind of model, and what is measured; how it works:"
        " [Tasks](../tasks.md).\n\n| task | model | formats, as Auto tries them | metrics |\n| --- | --- | --- | --- |"
    )
    return "\n".join([head, *(_task_row(task, kind) for task, kinds in TASKS.items() for kind in kinds), ""])


def _task_row(task: Task, kind: ModelKind) -> str:
    row = TASKS[task][kind]
    cells = [", ".join(f"`{name}`" for name in names) for names in (row.formats, row.metrics)]
    return f"| `{task}` | {kind} | {' | '.join(cells)} |"


def pages() -> dict[Path, str]:
    """Every generated page by its path below the repository's root."""
    kinds = {REFERENCE_FOLDER / f"{kind.name.lower()}.md": reference_page(kind) for kind in KINDS.values()}
    return kinds | {
        REFERENCE_FOLDER / "exit-codes.md": exit_codes_page(),
        REFERENCE_FOLDER / "tasks.md": tasks_page(),
    }


def main() -> None:
    """Write the pages below the folder that the command line names."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    written = root / TECHNIQUES_PAGE
    for path, text in (pages() | {TECHNIQUES_PAGE: filled(written.read_text())}).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


if __name__ == "__main__":
    main()
