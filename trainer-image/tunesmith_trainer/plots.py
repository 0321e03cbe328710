"""The plots of a run: its loss over the steps, its metrics before and after, and what was taken for what."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tunesmith_api.enums import Metric
from tunesmith_api.finetunejob import Progress, Scores
from tunesmith_api.metrics import METRICS, measured, score_of

Point = tuple[int, float]
_SIZE = (8.0, 4.5)
#: Panels of one row of the evaluation plot.
_PANELS = 4
#: More classes than this are too small to read in a confusion matrix.
MOST_CLASSES = 60
_COLOURS = {"base": "#9aa5b1", "tuned": "#2563eb", "exported": "#16a34a"}


def plot_loss(path: Path, job: str, log: Sequence[Progress], evaluation: Sequence[Point]) -> None:
    """Write a PNG of the training loss per logged step and the evaluation loss at its points."""
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    steps = [line.step for line in log if line.loss is not None]
    axes.plot(steps, [line.loss for line in log if line.loss is not None], label="training", color=_COLOURS["tuned"])
    if evaluation:
        axes.plot(*zip(*evaluation, strict=True), "o--", label="evaluation", color="#ea580c")
    axes.set(title=f"{job}: loss", xlabel="optimizer step", ylabel="loss per label (nats)")
    axes.set_yscale("log")
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, path)


def plot_evaluation(path: Path, job: str, scores: dict[str, Scores]) -> None:
    """Write a PNG with one panel per metric and one bar per model (`base`, `tuned`, `exported`)."""
    metrics = [
        metric
        for metric in measured(*scores.values())
        if all(score_of(one, metric) is not None for one in scores.values())
    ]
    rows = max(1, math.ceil(len(metrics) / _PANELS))
    panels = math.ceil(len(metrics) / rows)
    figure = Figure(figsize=(_SIZE[0], _SIZE[1] * rows), layout="constrained")
    figure.suptitle(f"{job}: evaluation")
    places = figure.subplots(rows, panels, squeeze=False).flatten()
    for axes, metric in zip(places, metrics, strict=False):
        _panel(axes, metric, {name: score_of(one, metric) or 0.0 for name, one in scores.items()})
    for axes in places[len(metrics) :]:
        axes.set_axis_off()
    _save(figure, path)


def _panel(axes: Any, metric: Metric, values: dict[str, float]) -> None:
    traits = METRICS[metric]
    bars = axes.bar(list(values), list(values.values()), color=[_COLOURS[name] for name in values])
    axes.bar_label(bars, fmt="%.4g", padding=2)
    axes.set(title=traits.label, xlabel="lower is better" if traits.lower_is_better else "")
    axes.set_ylim(0, traits.best * 1.1 if traits.best else max(values.values()) * 1.15)


def plot_confusion(path: Path, job: str, labels: Sequence[str], counts: Sequence[Sequence[int]]) -> None:
    """Write a PNG of a confusion matrix: a row per right class, a column per found class, shaded by the row's share.

    Args:
        path: where to.
        job: the job's name.
        labels: names of the columns; those of the rows come first.
        counts: texts by right and found class.
    """
    side = max(_SIZE[1], 0.32 * len(labels) + 2)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    shares = [[count / max(sum(row), 1) for count in row] for row in counts]
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(picture, label="share of the right class", shrink=0.8)
    axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(counts)), labels[: len(counts)])
    axes.set(title=f"{job}: confusion", xlabel="found", ylabel="right")
    for row, line in enumerate(counts):
        for column, count in enumerate(line):
            if count:
                colour = "white" if shares[row][column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    neighbour = path.with_name(f".{path.name}.tmp")
    figure.savefig(neighbour, format="png", dpi=120)
    neighbour.replace(path)
