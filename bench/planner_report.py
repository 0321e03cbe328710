"""The planner's benchmark as a table and a plot: estimated against measured peaks, and how honest the constants are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter, NullFormatter

MIB = 2**20


@dataclass(frozen=True)
class Point:
    """One configuration.

    Attributes:
        model, technique, batch, length, precision: what it was.
        estimated: the planner's peak in bytes.
        measured: the kernel's.
        transient: estimated bytes of tensors that come and go in training, where its peak is the highest; states: of
            weights, adapter and moments, and of an evaluation where that is the highest.
    """

    model: str
    technique: str
    batch: int
    length: int
    precision: str
    estimated: int
    measured: int
    transient: int
    states: int

    @property
    def error(self) -> float:
        """Share by which the estimate is above what was measured."""
        return self.estimated / self.measured - 1


def markdown(points: Sequence[Point]) -> str:
    """A row for each configuration."""
    lines = ["| model | technique | batch x length | arithmetic | estimated MiB | measured MiB | error |"]
    lines.append("| --- | --- | --- | --- | ---: | ---: | ---: |")
    for one in points:
        sizes = f"{one.estimated / MIB:.0f} | {one.measured / MIB:.0f}"
        shape = f"{one.batch} x {one.length} | {one.precision}"
        lines.append(f"| {one.model} | {one.technique} | {shape} | {sizes} | {one.error:+.1%} |")
    return "\n".join(lines)


def summary(points: Sequence[Point], name: str) -> str:
    """How many estimates are within a tenth, and the worst on either side."""
    errors = [one.error for one in points]
    close = sum(abs(error) <= 0.1 for error in errors)
    mean = sum(abs(error) for error in errors) / len(errors)
    worst = f"lowest {min(errors):+.1%}, highest {max(errors):+.1%}"
    return f"{name}: {close} of {len(errors)} within 10 %, mean error {mean:.1%}, {worst}"


def refitted(points: Sequence[Point]) -> str:
    """The two fitted constants from every other configuration alone, and the errors that they make on the rest.

    measured = framework + states + (1 + slack) x transient: least squares of the relative error, by Cramer's rule.
    """
    half, rest = points[::2], points[1::2]
    weights = [1 / one.measured**2 for one in half]
    aa = sum(weights)
    ab = sum(w * one.transient for w, one in zip(weights, half, strict=True))
    bb = sum(w * one.transient**2 for w, one in zip(weights, half, strict=True))
    ay = sum(w * (one.measured - one.states) for w, one in zip(weights, half, strict=True))
    by = sum(w * one.transient * (one.measured - one.states) for w, one in zip(weights, half, strict=True))
    determinant = aa * bb - ab * ab
    framework, factor = (ay * bb - by * ab) / determinant, (aa * by - ab * ay) / determinant
    errors = [(framework + one.states + factor * one.transient) / one.measured - 1 for one in rest]
    close = sum(abs(error) <= 0.1 for error in errors)
    return (
        f"fitted on every other configuration ({len(half)}): framework {framework / MIB:.0f} MiB,"
        f" slack {factor - 1:.2f}; on the other {len(rest)}: {close} within 10 %, lowest {min(errors):+.1%},"
        f" highest {max(errors):+.1%}"
    )


def plot(points: Sequence[Point], path: Path) -> None:
    """Estimated over measured, both logarithmic, with the diagonal and a tenth to either side."""
    figure, axes = plt.subplots(figsize=(6.4, 5.6), layout="constrained")
    values = [size / MIB for one in points for size in (one.estimated, one.measured)]
    ends = [min(values) * 0.93, max(values) * 1.07]
    axes.plot(ends, ends, color="black", linewidth=1, label="estimated = measured")
    axes.fill_between(ends, [0.9 * end for end in ends], [1.1 * end for end in ends], color="0.9", label="within 10 %")
    markers = dict(zip(sorted({one.technique for one in points}), "osD^vP*Xh<>d", strict=False))
    for technique, marker in markers.items():
        chosen = [one for one in points if one.technique == technique]
        measured, estimated = ([getattr(one, name) / MIB for one in chosen] for name in ("measured", "estimated"))
        axes.scatter(measured, estimated, marker=marker, s=34, label=technique, zorder=3)
    axes.set(
        xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel="measured peak, MiB", ylabel="estimated peak, MiB"
    )
    ticks = [tick for tick in (800, 1000, 1200, 1500, 2000, 2500, 3000, 4000) if ends[0] <= tick <= ends[1]]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(ticks)
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axis.set_minor_formatter(NullFormatter())
    axes.set_title(f"{len(points)} configurations, each a training process of its own")
    axes.legend(fontsize=8, loc="upper left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
