"""The commands of `tunesmith`, which is also `kubectl tunesmith`: arguments in, exit codes out."""

import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.console import Console

from tunesmith_api import UnresolvableError
from tunesmith_cli.chat import Conversation, connect, first_model, talk
from tunesmith_cli.errors import CliError
from tunesmith_cli.estimate import Output, serialise, show
from tunesmith_cli.estimate import estimate as estimate_job
from tunesmith_cli.local_job import local_data
from tunesmith_cli.machine import this_machine
from tunesmith_cli.manifest import read_job
from tunesmith_cli.offers import asked_offers, data_size, machine_offer
from tunesmith_cli.run import RunOptions
from tunesmith_cli.run import run as run_job
from tunesmith_cli.validate import validate as validate_files
from tunesmith_cli.watch import WatchOptions
from tunesmith_cli.watch import watch as watch_job

#: Columns of a table that no terminal limits: as wide as the estimate's, so that no name is cut.
_PIPED_WIDTH = 110

app = typer.Typer(
    help="Fine-tune, evaluate, export and serve language models: on this machine or on Kubernetes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.command()
def validate(files: Annotated[list[Path], typer.Argument(help="Files with FineTuneJobs, endpoints or pools.")]) -> None:
    """Check resources as strictly as the API server, and what this release can do."""
    raise typer.Exit(validate_files(files, Console()))


@app.command()
def run(  # noqa: PLR0917 - typer's signature is the command line
    file: Annotated[Path | None, typer.Argument(help="File of the FineTuneJob.")] = None,
    serve: Annotated[bool, typer.Option(help="Serve the exported model afterwards.")] = False,
    once: Annotated[bool, typer.Option(help="With --serve: stop after the first answer.")] = False,
    port: Annotated[int, typer.Option(help="Port of the server.", min=1, max=65535)] = 8080,
    output: Annotated[Path | None, typer.Option(help="Folder of the run (default: runs/NAME-TIME).")] = None,
    resume: Annotated[Path | None, typer.Option(help="Folder of an interrupted run to continue.")] = None,
    secret: Annotated[list[str] | None, typer.Option(help="NAME=FOLDER: the keys of a secret as files.")] = None,
    ignore_memory: Annotated[bool, typer.Option(help="Start although the plan exceeds this machine.")] = False,
) -> None:
    """Run a FineTuneJob on this machine: prepare, train, export, report."""
    options = RunOptions(
        file=file,
        output=output,
        resume=resume,
        secrets=_secrets(secret or []),
        ignore_memory=ignore_memory,
        serve=serve,
        once=once,
        port=port,
    )
    raise typer.Exit(run_job(options, Console(), datetime.now().astimezone()))


def _secrets(given: list[str]) -> dict[str, Path]:
    for text in given:
        if "=" not in text:
            raise CliError(f"--secret {text}: write NAME=FOLDER")
    return {name: Path(folder) for name, _, folder in (text.partition("=") for text in given)}


@app.command()
def estimate(
    file: Annotated[Path, typer.Argument(help="File of the FineTuneJob.")],
    pools: Annotated[Path | None, typer.Option(help="File of ComputePools (default: this machine).")] = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="How to print it.")] = Output.TABLE,
) -> None:
    """Show what fits, how long it takes and what it costs: every technique on every pool, and what Auto chooses."""
    job = read_job(file)
    offers = [machine_offer(this_machine())] if pools is None else asked_offers(pools, job.spec.compute)
    with TemporaryDirectory() as scratch:
        data = data_size(local_data(job, file.parent, Path(scratch)))
    found = estimate_job(job, offers, data)
    if output is not Output.TABLE:
        _write(serialise(found, output) + "\n")
        return
    console = Console() if sys.stdout.isatty() else Console(width=_PIPED_WIDTH)
    for part in show(found):
        console.print(part, highlight=False, soft_wrap=True)


@app.command()
def watch(
    name: Annotated[str, typer.Argument(help="Name of the FineTuneJob.")],
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="Namespace of the job.")] = None,
    context: Annotated[str | None, typer.Option(help="kubectl context.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds after which to give up.")] = None,
) -> None:
    """Show a job of a cluster until it is Ready or has failed."""
    flags = {"--namespace": namespace, "--context": context}
    kubectl = ("kubectl", *(part for flag, value in flags.items() if value for part in (flag, value)))
    raise typer.Exit(watch_job(WatchOptions(name, kubectl, timeout), Console()))


@app.command()
def chat(
    url: Annotated[str, typer.Argument(help="URL of the endpoint, such as http://127.0.0.1:8080.")],
    message: Annotated[str | None, typer.Option("--message", "-m", help="Ask this and stop.")] = None,
    model: Annotated[str | None, typer.Option(help="Model name (default: the first that is served).")] = None,
    temperature: Annotated[float, typer.Option(help="0 always gives the likeliest answer.", min=0)] = 0,
    max_tokens: Annotated[int, typer.Option(help="Longest answer.", min=1)] = 256,
) -> None:
    """Talk to an endpoint."""
    with connect(url) as client:
        options = {"temperature": temperature, "max_tokens": max_tokens}
        conversation = Conversation(client, model or first_model(client), options)
        talk(conversation, iter([message]) if message is not None else _typed(), _write)


def _typed() -> Iterator[str]:
    """What a person types, line by line, until the end of the input."""
    prompt = "> " if sys.stdin.isatty() else ""
    while True:
        try:
            line = input(prompt).strip()
        except (EOFError, KeyboardInterrupt):
            return
        if line:
            yield line


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def main() -> None:
    """The console scripts `tunesmith` and `kubectl-tunesmith`."""
    try:
        app()
    except UnresolvableError as error:
        _stop("\n".join(error.problems), 64)
    except CliError as error:
        _stop(str(error), error.exit_code)


def _stop(message: str, exit_code: int) -> None:
    sys.stderr.write(f"error: {message}\n")
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
