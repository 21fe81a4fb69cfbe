"""Loss, accuracy and other metrics of runs against what they cost: the figures of learning_curves.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from chapters.figure import Chapter, Figure
from draw import figures
from draw.learning import draw_curve
from draw.noise import draw_noise
from draw.script import Output
from runs import logs as run_logs
from runs.logs import Entry
from tables import learning as learning_tables
from tables.noise import noise_table

EVALUATION_NOTE = "Metrics are those of the consensus model on the whole split; costs are those up to it."
NOISE_NOTE = (
    "Exponential moving averages of the estimates of |G|^2 and of tr(Sigma), and their ratio in samples; NaN where one "
    "of the averages is not positive."
)


@dataclass(frozen=True)
class Curves:
    """What the figures are drawn from: the runs, their evaluations, and their training losses."""

    entries: Sequence[Entry]
    evaluations: pd.DataFrame
    losses: pd.DataFrame
    noise: pd.DataFrame


def draw_against(x: str, figure: Figure[Curves], curves: Curves, output: Output) -> list[str]:
    """Loss and metrics against one measure of cost."""
    drawn = draw_curve(
        curves.entries, curves.evaluations, curves.losses, x, output.directory, figure.name, output.caption
    )
    output.files += drawn
    return [] if drawn else figure.not_drawn()


def draw_noise_scale(figure: Figure[Curves], curves: Curves, output: Output) -> list[str]:
    """The gradient noise scale; a run is not asked for it, and nothing is said where none has it."""
    output.files += draw_noise(curves.entries, curves.noise, output.directory, figure.name, output.caption)
    return []


AGAINST = tuple(
    Figure(
        f"learning_{name}",
        f"What is learned by the same {of}?",
        f"Loss, and accuracy or whatever else the runs were evaluated by, after the same {meaning}",
        "learning_evaluations",
        partial(draw_against, x),
        "no run has it",
    )
    for x, name, of, meaning in (
        ("epoch", "epoch", "samples", "number of samples."),
        ("step", "step", "updates", "number of updates."),
        ("train_seconds", "seconds", "time", "training time: the fairest comparison on one machine."),
        ("sync_bytes", "bytes", "communication", "communication."),
    )
)
NOISE = Figure(
    "learning_noise",
    "How large a batch does the gradient allow?",
    "The gradient noise scale (McCandlish 2018): batches far below it learn as much of each sample as the smallest, "
    "far above it little more of each step. Only of runs that keep it; they average gradients.",
    "learning_noise",
    draw_noise_scale,
    "no run has it",
    "hpcsgd train RECIPE --log.noise_scale true",
)
FIGURES = (*AGAINST, NOISE)


def draw(entries: Sequence[Entry], problems: Sequence[str], directory: Path) -> tuple[list[Path], list[str]]:
    """Write all figures and tables; returns the files and the remarks."""
    output = Output.of_runs(directory, entries, problems)
    curves = Curves(
        entries,
        learning_tables.evaluation_table(entries),
        learning_tables.training_loss_table(entries),
        noise_table(entries),
    )
    remarks = learning_tables.missing_curves(entries)
    with figures.style():
        remarks += [line for figure in FIGURES for line in figure.draw(curves, output)]
    windows = "Mean over the samples of a window of iterations."
    for frame, name, title, own in (
        (curves.evaluations, "learning_evaluations", "Evaluations", [EVALUATION_NOTE]),
        (curves.losses, "learning_training_loss", "Training loss", [windows]),
        (learning_tables.result_table(entries), "learning_results", "Best and last results", [EVALUATION_NOTE]),
        (run_logs.runs_table(entries), "learning_runs", "Runs in the learning curves", []),
    ):
        output.table(frame, name, title, *own, *remarks, digits=5)
    if not curves.noise.empty:
        output.table(curves.noise, "learning_noise", "Gradient noise scale", NOISE_NOTE, digits=5)
    return output.files, [*output.notes, *remarks]


CHAPTER = Chapter(
    "learning",
    "What was learned, and at what cost",
    "Loss and other metrics of the one consistent model against samples, time and communication.",
    "learning_curves.py",
    FIGURES,
    draw,
)
