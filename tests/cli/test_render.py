"""Values as people read them."""

import pytest
from rich.console import Console

from tunesmith_api.enums import Metric
from tunesmith_api.finetunejob import GateResult, Progress, Scores
from tunesmith_api.reports import ClassScores, StoppingReport, TrainReport
from tunesmith_cli.display import stage_display
from tunesmith_cli.render import (
    class_rows,
    duration,
    gate_lines,
    markdown_table,
    progress_line,
    score_rows,
    score_table,
    size,
    train_line,
)


@pytest.mark.parametrize(("seconds", "text"), [(7, "0:07"), (750, "12:30"), (3723, "1:02:03")])
def test_durations(seconds: float, text: str) -> None:
    """Minutes and seconds, hours only when there are any."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(5, "5 B"), (2048, "2.0 KiB"), (3 << 20, "3.0 MiB"), (5 << 40, "5120.0 GiB")]
)
def test_sizes(count: float, text: str) -> None:
    """The largest unit with a whole part."""
    assert size(count) == text


def test_a_progress_line_has_what_is_known() -> None:
    """Loss, speed and time left appear when they were measured; the last step has no time left."""
    full = Progress(step=5, total_steps=10, loss=0.5, tokens_per_second=1234.5, eta_seconds=61)
    assert progress_line(full) == "step 5/10, loss 0.5000, 1,234 tokens/s, 1:01 left"
    assert progress_line(Progress(step=10, total_steps=10, eta_seconds=0)) == "step 10/10"


def test_a_metric_nobody_measured_has_no_row() -> None:
    """The table has a row for each metric of any model and an empty cell where one lacks it."""
    rows = score_rows({"base": Scores(perplexity=4), "tuned": Scores(perplexity=2, exact_match=0.9), "exported": None})
    assert rows == [["exact match", "", "90.0%", ""], ["perplexity", "4.000", "2.000", ""]]


def test_the_score_table_prints_every_model() -> None:
    """A model is a column."""
    table = score_table({"base": Scores(perplexity=4), "tuned": None})
    console = Console(width=80)
    with console.capture() as captured:
        console.print(table)
    assert all(text in captured.get() for text in ("base", "tuned", "perplexity", "4.000"))


def test_a_missed_gate_stands_out() -> None:
    """Passed and missed gates read differently."""
    gates = [GateResult(metric=Metric.EXACT_MATCH, value=0.5, passed=passed, message="0.5") for passed in (True, False)]
    assert gate_lines(gates) == ["gate passed: 0.5", "gate NOT MET: 0.5"]


def test_cells_do_not_break_a_table() -> None:
    """Neither a pipe nor a prompt of several lines."""
    assert markdown_table(["a"], [["x|y"], ["two\n\nlines"]]) == "| a |\n| --- |\n| x\\|y |\n| two  lines |"


def test_progress_elsewhere_is_a_line_for_each_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal, 100 steps are eleven lines at most, and the end has a summary."""
    with stage_display(Console(width=80), "train") as display:
        for step in range(1, 101):
            display.show(Progress(step=step, total_steps=100))
        display.done("all [is] well")
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if "step" in line]) == 11
    assert lines[-1].endswith("all [is] well")


def test_progress_on_a_terminal_is_one_bar(capsys: pytest.CaptureFixture[str]) -> None:
    """On a terminal the bar is redrawn in place and gone at the end."""
    with stage_display(Console(width=80, force_terminal=True), "train") as display:
        display.show(Progress(step=3, total_steps=9, loss=1.5))
        display.failed()
    assert capsys.readouterr().out.rstrip("\n").endswith("train (0:00)")


def test_each_class_has_a_row() -> None:
    """Name, three shares and the support."""
    one = ClassScores(label="billing", precision=0.5, recall=1, f1=2 / 3, support=1200)
    assert class_rows([one]) == [["billing", "50.0%", "100.0%", "66.7%", "1,200"]]


@pytest.mark.parametrize(
    ("steps", "stopping", "text"),
    [
        (60, None, "60 steps, loss 0.5000, 90 tokens/s"),
        (60, (50, 60), "60 steps, weights of step 50 (evaluation loss 0.2500), loss"),
        (30, (10, 60), "30 steps of 60, stopped early, weights of step 10 (evaluation loss 0.2500), loss"),
    ],
)
def test_a_training_says_what_early_stopping_came_to(steps: int, stopping: tuple[int, int] | None, text: str) -> None:
    """Steps made of those planned, and the step whose weights are the result."""
    found = StoppingReport(best_step=stopping[0], best_loss=0.25, planned_steps=stopping[1]) if stopping else None
    report = TrainReport(
        base=Scores(),
        tuned=Scores(),
        gates=[],
        steps=steps,
        early_stopping=found,
        final_loss=0.5,
        trained_parameters=1,
        total_parameters=4,
        duration_seconds=1,
        tokens_per_second=90,
        peak_memory_bytes=1,
        precision="FP32",
    )
    assert train_line(report).startswith(text)
