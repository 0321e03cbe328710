"""The plots of a run: its loss, its metrics before and after, its classes, and what was taken for what."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from tunesmith_api.enums import Metric
from tunesmith_api.finetunejob import Progress, Scores
from tunesmith_api.metrics import METRICS, measured, score_of
from tunesmith_api.reports import ClassScores
from tunesmith_trainer.lettering import families, lettered
from tunesmith_trainer.recipe import Measured

Point = tuple[int, float]
_SIZE = (8.0, 4.5)
#: Panels of one row of the evaluation plot.
_PANELS = 4
#: More classes than this are too small to read.
MOST_CLASSES = 40
#: The column of what was found beside the classes of a confusion matrix.
OTHERS = "(others)"
_TEN_THOUSAND = 10_000
_COLOURS = {"base": "#9aa5b1", "tuned": "#2563eb", "exported": "#16a34a"}
_SHARES = {"precision": "#93c5fd", "recall": "#fdba74", "f1": "#1e3a8a"}


def draw_all(
    job: str, log: Sequence[Progress], evaluation: Sequence[Point], base: Scores, tuned: Measured
) -> dict[str, Figure]:
    """The plots of a training by their names: classes and confusion for the tasks that have them."""
    found = {
        "loss": draw_loss(job, log, evaluation),
        "evaluation": draw_evaluation(job, {"base": base, "tuned": tuned.scores}),
    }
    if tuned.classes:
        found["classes"] = draw_classes(job, tuned.classes)
    if tuned.confusion:
        found["confusion"] = draw_confusion(job, tuned.labels, tuned.confusion)
    return found


def draw_loss(job: str, log: Sequence[Progress], evaluation: Sequence[Point]) -> Figure:
    """The training loss per logged step, its mean over some, and the evaluation loss at its points."""
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    points = [(line.step, line.loss) for line in log if line.loss is not None]
    _draw_training(axes, points)
    if evaluation:
        step, least = min(evaluation, key=lambda point: point[1])
        label = f"evaluation, least {least:.4g} at step {step}"
        axes.plot(*zip(*evaluation, strict=True), "o--", label=label, color="#ea580c")
    axes.set(title=f"{job}: loss", xlabel="optimizer step", ylabel="loss per label (nats)")
    _scale(axes, [loss for _, loss in (*points, *evaluation)])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def _draw_training(axes: Any, points: Sequence[Point]) -> None:
    """Many points jump about their mean: they are drawn pale behind it. Few are drawn as points."""
    steps = [step for step, _ in points]
    window = len(points) // 25
    if window < 2:
        axes.plot(steps, [loss for _, loss in points], ".-", label="training", color=_COLOURS["tuned"])
        return
    axes.plot(steps, [loss for _, loss in points], label="training", color=_COLOURS["tuned"], alpha=0.25)
    means = [sum(loss for _, loss in points[end - window : end]) / window for end in range(window, len(points) + 1)]
    middles = steps[window // 2 :][: len(means)]
    axes.plot(middles, means, label=f"training, mean of {window} logged losses", color=_COLOURS["tuned"])


def _scale(axes: Any, losses: Sequence[float]) -> None:
    """Logarithmic once the losses differ tenfold, with plain numbers at 1, 2 and 5 of each decade."""
    if losses and 0 < 10 * min(losses) <= max(losses):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def draw_evaluation(job: str, scores: dict[str, Scores]) -> Figure:
    """One panel per metric and one bar per model (`base`, `tuned`, `exported`)."""
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
    return figure


def _panel(axes: Any, metric: Metric, values: dict[str, float]) -> None:
    traits = METRICS[metric]
    bars = axes.bar(list(values), list(values.values()), color=[_COLOURS[name] for name in values])
    axes.bar_label(bars, fmt="%.4g", padding=2)
    axes.set(title=traits.label, xlabel="lower is better" if traits.lower_is_better else "")
    axes.set_ylim(0, traits.best * 1.1 if traits.best else max(values.values()) * 1.15)


def draw_classes(job: str, classes: Sequence[ClassScores]) -> Figure:
    """Precision, recall, F1 and support (n) of each class, the best F1 on top; of many, the worst."""
    names = lettered([one.label for one in classes])
    ordered = sorted(zip(names, classes, strict=True), key=lambda pair: (-pair[1].f1, pair[1].support))
    drawn = ordered[-MOST_CLASSES:]
    figure = Figure(figsize=(_SIZE[0], 0.42 * len(drawn) + 1.6), layout="constrained")
    axes = figure.subplots()
    for place, (name, colour) in enumerate(_SHARES.items()):
        values = [getattr(one, name) for _, one in drawn]
        bars = axes.barh([row + 0.27 * (place - 1) for row in range(len(drawn))], values, 0.25, color=colour)
        bars.set_label(name if name != "f1" else "F1")
        if name == "f1":
            axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    for row, (_, one) in enumerate(drawn):
        axes.text(1.07, row, f"n = {one.support}", va="center", fontsize=8, color="#475569")
    ticks = [name for name, _ in drawn]
    axes.set_yticks(range(len(drawn)), ticks, parse_math=False, family=families(ticks))
    axes.set(xlim=(0, 1.2), xticks=(0, 0.2, 0.4, 0.6, 0.8, 1), ylim=(len(drawn) - 0.4, -0.6))
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    some = "" if len(drawn) == len(classes) else f", the {len(drawn)} lowest of {len(classes)}"
    axes.set_title(f"{job}: classes by F1{some}")
    figure.legend(loc="outside lower center", ncols=len(_SHARES))
    return figure


def draw_confusion(job: str, labels: Sequence[str], counts: Sequence[Sequence[int]]) -> Figure:
    """A confusion matrix: a row per right class, a column per found class, shaded by the row's share.

    Of many classes it has those of the most mistakes, and one column for what was found beside them.

    Args:
        job: the job's name.
        labels: names of the columns; those of the rows come first.
        counts: texts by right and found class.
    """
    drawn = most_confused(counts, MOST_CLASSES)
    some = "" if len(drawn) == len(counts) else f", the {len(drawn)} most confused of {len(counts)} classes"
    names = lettered(labels)
    columns = [*drawn, *range(len(counts), len(labels))]
    table = [[counts[row][column] for column in columns] for row in drawn]
    heads = [names[column] for column in columns]
    if some:
        heads.append(OTHERS)
        table = [[*line, sum(counts[row]) - sum(line)] for row, line in zip(drawn, table, strict=True)]
    return _matrix(f"{job}: confusion{some}", heads, table)


def most_confused(counts: Sequence[Sequence[int]], most: int) -> list[int]:
    """Places of at most so many classes in their order: those taken most often for others, or others for them."""
    mistakes = [
        sum(line) + sum(other[place] for other in counts) - 2 * line[place] for place, line in enumerate(counts)
    ]
    return sorted(sorted(range(len(counts)), key=lambda place: (-mistakes[place], place))[:most])


def _matrix(title: str, heads: Sequence[str], table: Sequence[Sequence[int]]) -> Figure:
    side = max(_SIZE[1], 0.34 * len(heads) + 2)
    figure = Figure(figsize=(side + 2, side), layout="constrained")
    axes = figure.subplots()
    shares = [[count / max(sum(row), 1) for count in row] for row in table]
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(picture, label="share of the right class", shrink=0.8)
    drawn: dict[str, Any] = {"family": families(heads), "parse_math": False}
    axes.set_xticks(range(len(heads)), heads, rotation=45, ha="right", rotation_mode="anchor", **drawn)
    axes.set_yticks(range(len(table)), heads[: len(table)], **drawn)
    axes.set(xlabel="found", ylabel="right")
    figure.suptitle(title)
    for row, line in enumerate(table):
        for column, count in enumerate(line):
            if count:
                colour = "white" if shares[row][column] > 0.5 else "black"
                axes.text(column, row, _short(count), ha="center", va="center", color=colour, fontsize=8)
    return figure


def _short(count: int) -> str:
    """Four characters at most, which a cell holds."""
    return str(count) if count < _TEN_THOUSAND else f"{count / 1000:.0f}k"


def save(figure: Figure, path: Path) -> None:
    """Write a plot as a PNG, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    neighbour = path.with_name(f".{path.name}.tmp")
    figure.savefig(neighbour, format="png", dpi=120)
    neighbour.replace(path)
