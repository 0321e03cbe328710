"""`tunesmith validate`: every problem of every file at once."""

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from tunesmith_api import ExitCode, InvalidResourceError, parse_resource
from tunesmith_cli.errors import CliError
from tunesmith_cli.manifest import is_ours, read_documents


def validate(files: list[Path], console: Console) -> int:
    """Check files and say what was found; 0 when all is well, 64 when not."""
    problems = 0
    for file in files:
        try:
            documents = read_documents(file)
        except CliError as error:
            console.print(str(error), markup=False, highlight=False, soft_wrap=True)
            problems += 1
            continue
        for line, is_problem in _lines(file, documents):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
            problems += is_problem
    if problems:
        console.print(f"{problems} problem{'s' if problems > 1 else ''} found", highlight=False)
    return ExitCode.BAD_CONFIG if problems else ExitCode.DONE


def _lines(file: Path, documents: list[object]) -> Iterator[tuple[str, bool]]:
    """What to say of each document, and whether it is a problem."""
    if not documents:
        yield f"{file}: has no document", True
    for document in documents:
        name = _name(document)
        if not is_ours(document):
            yield f"{file}: {name}: not of tunesmith.dev, not checked", False
            continue
        try:
            parse_resource(document)
        except InvalidResourceError as error:
            yield from ((f"{file}: {problem}", True) for problem in error.problems)
        else:
            yield f"{file}: {name}: valid", False


def _name(document: object) -> str:
    if not isinstance(document, dict):
        return "document"
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return f"{document.get('kind', 'object')}/{name or '?'}"
