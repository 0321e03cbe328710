"""The plots of a run. What they look like was judged by eye; here is what they have to say."""

import pytest

from tunesmith_api.finetunejob import Progress, Scores
from tunesmith_api.reports import ClassScores
from tunesmith_trainer.plots import (
    MOST_CLASSES,
    OTHERS,
    draw_all,
    draw_classes,
    draw_confusion,
    draw_loss,
    most_confused,
    save,
)
from tunesmith_trainer.recipe import Measured


def progress(*losses):
    """A log with a line per step."""
    return [Progress(step=step, total_steps=len(losses), loss=loss) for step, loss in enumerate(losses, start=1)]


def scores(label, f1, support=10):
    """A class whose precision, recall and F1 are one number."""
    return ClassScores(label=label, precision=f1, recall=f1, f1=f1, support=support)


def ticks(axis):
    """The labels along an axis."""
    return [tick.get_text() for tick in axis.get_ticklabels()]


def cells(axes):
    """The numbers in a matrix, by row and column."""
    return {(int(text.get_position()[1]), int(text.get_position()[0])): text.get_text() for text in axes.texts}


def diagonal(count, right=5):
    """The matrix of a model that makes no mistake."""
    return [[right if row == column else 0 for column in range(count)] for row in range(count)]


def test_the_plots_of_a_task_are_those_that_it_has_numbers_for():
    """Several classes per row have scores by class and no matrix; texts have neither."""
    base = Scores(accuracy=0.5)
    texts, several = Measured(base), Measured(base, [scores("a", 1.0)])
    single = Measured(base, [scores("a", 1.0)], diagonal(1), ("a",))
    drawn = [set(draw_all("job", [], [], base, measured)) for measured in (texts, several, single)]
    always = {"loss", "evaluation"}
    assert drawn == [always, always | {"classes"}, always | {"classes", "confusion"}]


def test_classes_stand_by_f1_with_their_support():
    """The best on top; every one has its three bars and says of how many rows."""
    figure = draw_classes("job", [scores("poor", 0.2, 7), scores("good", 0.9, 1234)])
    axes = figure.axes[0]
    assert axes.get_title() == "job: classes by F1"
    assert ticks(axes.yaxis) == ["good", "poor"]
    assert axes.yaxis_inverted()
    assert [bar.get_width() for bar in axes.patches] == [0.9, 0.2] * 3
    assert [text.get_text() for text in axes.texts] == ["0.90", "0.20", "n = 1234", "n = 7"]


def test_of_many_classes_the_worst_are_drawn():
    """The title says of how many."""
    figure = draw_classes("job", [scores(f"class {place}", place / 100) for place in range(100)])
    axes = figure.axes[0]
    assert axes.get_title() == f"job: classes by F1, the {MOST_CLASSES} lowest of 100"
    assert ticks(axes.yaxis) == [f"class {place}" for place in reversed(range(MOST_CLASSES))]


def test_a_small_matrix_has_every_class_and_the_columns_beside_them():
    """A row for each class, a column more for answers that name none."""
    axes = draw_confusion("job", ["a", "b", "(unreadable)"], [[3, 1, 0], [0, 12_345, 2]]).axes[0]
    assert ticks(axes.xaxis) == ["a", "b", "(unreadable)"]
    assert ticks(axes.yaxis) == ["a", "b"]
    assert cells(axes) == {(0, 0): "3", (0, 1): "1", (1, 1): "12k", (1, 2): "2"}


def test_of_many_classes_the_matrix_has_the_most_confused():
    """Here the last ones; what was found beside them has a column, so that a row still adds up."""
    counts = diagonal(151)
    for place in range(151 - MOST_CLASSES, 151):
        counts[place][place - 1], counts[place][place - 111] = 2, 1
    figure = draw_confusion("job", [*(f"class {place}" for place in range(151))], counts)
    axes = figure.axes[0]
    assert figure.get_suptitle() == f"job: confusion, the {MOST_CLASSES} most confused of 151 classes"
    assert ticks(axes.yaxis)[-1] == "class 150"
    assert ticks(axes.xaxis)[-1] == OTHERS
    last = MOST_CLASSES - 1
    assert {cell: count for cell, count in cells(axes).items() if cell[0] == last} == {
        (last, last): "5",
        (last, last - 1): "2",
        (last, MOST_CLASSES): "1",
    }


def test_the_most_confused_classes_are_taken_for_others_or_others_for_them():
    """The second is taken for the first twice, the fourth names no class once; the third is always right."""
    counts = [[5, 0, 0, 0, 0], [2, 1, 0, 0, 0], [0, 0, 9, 0, 0], [0, 0, 0, 1, 1]]
    assert most_confused(counts, 2) == [0, 1]
    assert most_confused(counts, 3) == [0, 1, 3]
    assert most_confused(counts, 9) == [0, 1, 2, 3]


@pytest.mark.parametrize("label", [r"$\frac$", "$5 to $10", "退款", "🎉", "", "x" * 500])
def test_any_label_can_be_drawn(tmp_path, label):
    """Dollar signs are no formula, and a letter without a font is no warning (which would fail this test)."""
    save(draw_classes("job", [scores(label, 0.5)]), tmp_path / "classes.png")
    save(draw_confusion("job", [label], [[1]]), tmp_path / "confusion.png")
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.iterdir())
    assert len(list(tmp_path.iterdir())) == 2


def test_a_single_loss_is_seen():
    """A line through one point has no length: it has a marker."""
    axes = draw_loss("job", progress(2.5), []).axes[0]
    assert axes.lines[0].get_marker() == "."
    assert all(step.is_integer() for step in axes.get_xticks())


def test_many_losses_have_their_mean_before_them():
    """Each point of it stands at the middle of its window; the jumps stay, pale."""
    noisy, mean = draw_loss("job", progress(*[1.0, 3.0] * 50), []).axes[0].lines
    assert noisy.get_alpha() < 0.5
    assert set(mean.get_ydata()) == {2.0}
    assert (mean.get_xdata()[0], mean.get_xdata()[-1]) == (3, 99)


@pytest.mark.parametrize(
    ("losses", "scale"),
    [((2.0, 1.5), "linear"), ((20.0, 2.0), "log"), ((2.0, 0.0), "linear"), ((0.0, 0.0), "linear"), ((), "linear")],
)
def test_the_scale_is_logarithmic_where_losses_differ_tenfold(losses, scale):
    """With plain numbers beside it; a loss of 0 has no logarithm."""
    figure = draw_loss("job", progress(*losses), [])
    axes = figure.axes[0]
    figure.canvas.draw()
    assert axes.get_yscale() == scale
    assert not any("mathdefault" in tick for tick in ticks(axes.yaxis))


def test_the_legend_says_the_least_evaluation_loss():
    """Which is the number that people look for."""
    axes = draw_loss("job", progress(2.0, 1.0), [(0, 2.2), (1, 1.23456), (2, 1.5)]).axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "training",
        "evaluation, least 1.235 at step 1",
    ]
