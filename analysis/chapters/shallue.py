"""The figures of Shallue 2019 (arXiv 1811.03600) from batch-size studies: those of shallue.py.

Published points are named so.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from chapters.figure import Chapter, Figure
from chapters.shallue_drawings import (
    draw_budgets,
    draw_comparison,
    draw_goals,
    draw_rates,
    draw_scatter,
    draw_sizes,
    draw_smoothing,
    draw_steps,
)
from chapters.shallue_study import INTERVAL_NOTE, REGIME_NOTE, STEPS_NOTE, Studies
from draw import figures
from draw.script import Output
from runs.workloads import METRIC, Workload
from tables import results as shallue_tables

FIGURES = (
    Figure(
        "shallue_steps",
        "How many steps does training take at each batch size? (1)",
        "Steps to result against the batch size. Along the dashed line twice the batch needs half of the steps; where "
        "the curve is flat, a larger batch buys nothing. Whiskers: 95 % intervals over trials. Grey: published points. "
        "The limits depend on the goal and on the space that was searched.",
        "shallue_regimes",
        draw_steps,
        "no trial of any study reaches the goal: give another --goal",
    ),
    Figure(
        "shallue_goals",
        "Do the regimes move with the goal? (2)",
        "The same for several goals.",
        "shallue_results",
        draw_goals,
        "no trial reaches any goal",
    ),
    *(
        Figure(
            f"shallue_{kind}s",
            f"Does it depend on {of}? ({number})",
            f"Workloads that differ in nothing but their {kind.replace('dataset', 'data set')}.",
            "shallue_results",
            partial(draw_comparison, kind),
            f"missing is a study {missing}",
        )
        for number, kind, of, missing in (
            (3, "model", "the model", "of another model on the same data set with the same optimizer"),
            (4, "optimizer", "the optimizer", "with another optimizer of the same model and data set"),
            (5, "dataset", "the data set", "of another data set with the same model and optimizer"),
        )
    ),
    Figure(
        "shallue_sizes",
        "Does it depend on the size of the training set? (6)",
        "Parts of one training set.",
        "shallue_results",
        draw_sizes,
        "missing is a study of a part of a training set (data.train_fraction) beside one of the whole",
    ),
    Figure(
        "shallue_smoothing",
        "Does label smoothing help at large batches? (7)",
        "Trials by their label smoothing.",
        "shallue_results",
        draw_smoothing,
        "missing is a study whose space has several values of label_smoothing (feasible_points)",
    ),
    Figure(
        "shallue_rates",
        "How far are the linear and the square-root rule right? (8)",
        "The best effective learning rate η / (1 − μ), with both rules from the smallest batch.",
        "shallue_rates",
        draw_rates,
        "no trial with a momentum and a learning rate reaches the goal",
    ),
    Figure(
        "shallue_scatter",
        "Was the space that was searched wide enough? (9)",
        "All trials of a batch size. Best trials at the border of the cloud call for a wider space.",
        "shallue_results",
        draw_scatter,
    ),
    Figure(
        "shallue_budgets",
        "What is the best that so many steps, or so many epochs, give? (11)",
        "The best metric within a budget; only of studies without stop.at_goal.",
        "shallue_budgets",
        draw_budgets,
    ),
)


def write_tables(studies: Studies, output: Output) -> None:
    """The tables that several figures are drawn from."""
    output.table(studies.results, "shallue_results", "Steps to result", STEPS_NOTE, INTERVAL_NOTE)
    if len(studies.regimes):
        output.table(studies.regimes, "shallue_regimes", "Regimes", REGIME_NOTE, INTERVAL_NOTE)
    slopes = shallue_tables.slope_table(studies.workloads, studies.metric, studies.goals[:1])
    if len(slopes):
        note = "Slope: d log2 steps / d log2 batch size; -1 is perfect scaling, 0 maximal data parallelism."
        output.table(slopes, "shallue_slopes", "Local slopes", note)


def draw(
    workloads: Sequence[Workload],
    problems: Sequence[str],
    directory: Path,
    goals: Sequence[float] = (),
    metric: str = METRIC,
) -> tuple[list[Path], list[str]]:
    """Write all figures and tables; returns the files and the remarks."""
    studies = Studies(workloads, goals, metric)
    output = Output(directory, [*(f"Not read: {line}" for line in problems), *studies.unmeasured])
    if not studies.workloads:
        return [], output.notes
    with figures.style():
        for figure in FIGURES:
            output.notes += figure.draw(studies, output)
    write_tables(studies, output)
    return output.files, output.notes


CHAPTER = Chapter(
    "shallue",
    "Batch-size studies",
    "The figures of Shallue 2019: how many steps does training take at each batch size?",
    "shallue.py",
    FIGURES,
    draw,
    of_studies=True,
)
