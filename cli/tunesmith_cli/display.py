"""Live progress: a bar on a terminal, a line for each tenth of the steps elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from tunesmith_api.finetunejob import Progress
from tunesmith_cli.render import duration, progress_line

_TENTHS = 10


class StageDisplay:
    """Shows one stage while it runs."""

    def __init__(self, console: Console, name: str, bars: Bars | None, task: TaskID | None) -> None:
        self._console = console
        self._name = name
        self._bars = bars
        self._task = task
        self._shown = -1
        self._began = time.monotonic()

    def show(self, progress: Progress) -> None:
        """Show how far the stage is."""
        if self._bars is not None and self._task is not None:
            line = progress_line(progress)
            self._bars.update(self._task, total=progress.total_steps, completed=progress.step, detail=line)
            return
        tenth = progress.step * _TENTHS // max(progress.total_steps, 1)
        if tenth > self._shown:
            self._shown = tenth
            self._print(f"  {self._name}: {progress_line(progress)}")

    def done(self, line: str) -> None:
        """Say that the stage is complete, and what came of it."""
        took = duration(time.monotonic() - self._began)
        self._print(f"[green]✓[/] {self._name} ({took}): ", line)

    def failed(self) -> None:
        """Say that the stage is not complete."""
        self._print(f"[red]✗[/] {self._name} ({duration(time.monotonic() - self._began)})")

    def _print(self, markup: str, plain: str = "") -> None:
        if self._bars is not None:
            self._bars.stop()
        self._console.print(markup, end="", highlight=False, soft_wrap=True)
        self._console.print(plain, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def stage_display(console: Console, name: str) -> Iterator[StageDisplay]:
    """The display of a stage; the bar is gone when the block is left."""
    if not console.is_terminal:
        console.print(f"  {name} started", highlight=False)
        yield StageDisplay(console, name, None, None)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[detail]}"),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        yield StageDisplay(console, name, bars, bars.add_task(name, total=None, detail=""))
