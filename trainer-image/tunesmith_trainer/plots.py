"""The plots of a run: its loss over the steps, and its metrics before and after."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from tunesmith_api.finetunejob import Progress, Scores

Point = tuple[int, float]
_SIZE = (8.0, 4.5)
_COLOURS = {"base": "#9aa5b1", "tuned": "#2563eb", "exported": "#16a34a"}


def plot_loss(path: Path, job: str, log: Sequence[Progress], evaluation: Sequence[Point]) -> None:
    """Write a PNG of the training loss per logged step and the evaluation loss at its points."""
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    steps = [line.step for line in log if line.loss is not None]
    axes.plot(steps, [line.loss for line in log if line.loss is not None], label="training", color=_COLOURS["tuned"])
    if evaluation:
        axes.plot(*zip(*evaluation, strict=True), "o--", label="evaluation", color="#ea580c")
    axes.set(title=f"{job}: loss", xlabel="optimizer step", ylabel="loss per completion token (nats)")
    axes.set_yscale("log")
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, path)


def plot_evaluation(path: Path, job: str, scores: dict[str, Scores]) -> None:
    """Write a PNG with one panel per metric and one bar per model (`base`, `tuned`, `exported`)."""
    metrics = [
        name
        for name in ("exact_match", "token_accuracy", "perplexity")
        if all(getattr(one, name) is not None for one in scores.values())
    ]
    figure = Figure(figsize=_SIZE, layout="constrained")
    figure.suptitle(f"{job}: evaluation")
    for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        values = [getattr(one, metric) for one in scores.values()]
        bars = axes.bar(list(scores), values, color=[_COLOURS[name] for name in scores])
        axes.bar_label(bars, fmt="%.4g", padding=2)
        axes.set_title(metric.replace("_", " "))
        axes.set_ylim(0, 1.1 if metric != "perplexity" else max(values) * 1.15)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    neighbour = path.with_name(f".{path.name}.tmp")
    figure.savefig(neighbour, format="png", dpi=120)
    neighbour.replace(path)
