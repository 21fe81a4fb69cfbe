"""Strong and weak scaling of runs of several sizes: the figures of scaling.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from chapters.figure import Chapter, Figure
from draw import figures
from draw import predictions as prediction_figure
from draw import sizes as size_figures
from draw.script import DEFAULT_SKIP, RECORD_NOTE, Output, skip_text
from draw.sizes import Panel
from runs import logs as run_logs
from runs.logs import Entry
from tables import predictions as prediction_tables
from tables import scaling as scaling_tables
from tables import sizes as size_tables
from tables import timing as timing_tables
from tables.sizes import STRONG, WEAK

PANELS = (
    Panel("speedup", "Speed-up", "ideal_speedup", ("speedup_p5", "speedup_p95")),
    Panel("iteration_efficiency", "Efficiency (%)", None, ("iteration_efficiency_p5", "iteration_efficiency_p95")),
    size_figures.ITERATION,
    size_figures.EPOCH,
    Panel("exposed_share", "Exposed comm.\n(% of time)", None, ("exposed_share_p5", "exposed_share_p95")),
    Panel("wait_share", "Wait\n(% of time)", None, ("wait_share_p5", "wait_share_p95")),
)
KEPT = {STRONG: "global batch", WEAK: "local batch"}
SHARE_NOTE = (
    "Exposed communication is the gradient allreduce that the backward pass does not hide, and averagings; the wait, "
    "which is a part of it, is a call's own duration less the shortest over its ranks. Both are the mean over ranks, "
    "as a share of the time of record."
)
SPEEDUP_NOTE = (
    "Speed-up is samples/s over those of the reference, the smallest size of the series (median of its runs); "
    "efficiency is speed-up over ideal speed-up."
)
ENERGY_NOTE = (
    "Joules a sample are those that the GPUs, the processors or the nodes of a run counted (hpcsgd info says which), "
    "with all that was done meanwhile, over the samples trained on; a run of a few readings has none."
)
OVER_RUNS_NOTE = "Each value is the median over the runs of a size; lowest and highest are over these runs."


@dataclass(frozen=True)
class Series:
    """What the figures are drawn from: one row a run and series, and what goes with each table."""

    runs: pd.DataFrame
    axis: str
    skip: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Foreseen:
    """A kept prediction, and the runs beside it."""

    prediction: dict[str, Any]
    entries: Sequence[Entry]
    skip: int


def caption(part: pd.DataFrame, scaling: str) -> str:
    """What the figure's marks mean, in short; the tables' notes say it in full."""
    smallest = ", ".join(run_logs.ranks_text(int(ranks)) for ranks in sorted(part["reference_ranks"].unique()))
    text = (
        f"{scaling.capitalize()} scaling: the {KEPT[scaling]} is the same at all sizes. Speed-up: samples/s over those "
        f"of the smallest size ({smallest}). Times of record (maximum over ranks); exposed communication and wait: "
        "means over ranks. Points: median of a run over synchronisation periods; whiskers: 5th to 95th percentile"
    )
    text += "; lines: median over the runs of a size." if part.duplicated(["series", "num_ranks"]).any() else "."
    if not part["epoch_source"].str.startswith("median").all():
        text += " Open markers: epoch estimated from the iterations of a part of it."
    return text


def draw_scaling(figure: Figure[Series], series: Series, output: Output) -> list[str]:
    """The series of one kind, where there are some."""
    scaling = figure.name.removeprefix("scaling_")
    part = series.runs[series.runs["scaling"] == scaling]
    if part.empty:
        # A study is of one kind, and the other is not missed.
        return []
    panels = (*PANELS, size_figures.ENERGY) if size_figures.ENERGY.column in part else PANELS
    text = f"{caption(part, scaling)} {skip_text(series.skip)} {output.caption}"
    output.files += size_figures.draw(
        part, "num_ranks", series.axis, panels, output.directory, figure.name, text, columns=2, panel=(2.3, 1.9)
    )
    table = scaling_tables.scaling_table(series.runs, scaling)
    title = f"{scaling.capitalize()} scaling: the {KEPT[scaling]} is kept"
    output.table(table, figure.table, title, OVER_RUNS_NOTE, *series.notes)
    return []


def draw_prediction(figure: Figure[Foreseen], foreseen: Foreseen, output: Output) -> list[str]:
    """Bands and medians of a prediction, and the runs of its algorithms."""
    found, prediction = prediction_tables.predicted(foreseen.prediction), foreseen.prediction
    runs = prediction_tables.beside(foreseen.entries, prediction, foreseen.skip)
    text = (
        f"Predicted {prediction['made']} from {len(prediction['logs'])} runs: median and {prediction['level']:.0%} "
        f"interval. Points: runs; open, those that it was made from. {output.caption}"
    )
    label = size_figures.rank_label(size_tables.on_gpus(foreseen.entries))
    output.files += prediction_figure.draw(found, runs, label, output.directory, figure.name, text)
    output.table(
        runs, figure.table, "A prediction beside the runs", *(f"Not known: {line}" for line in prediction["unknown"])
    )
    return []


PREDICTION = Figure(
    "scaling_prediction",
    "Did it come as it was predicted?",
    "Bands: where 90 % of the draws of a prediction lie, which `hpcsgd predict` kept before these runs were there. "
    "Filled points: what they took; open points: the small runs that it was made from.",
    "scaling_prediction",
    draw_prediction,
    "no prediction was given (--prediction FILE)",
    "hpcsgd predict RUN... --gpus 64,512 -o FILE",
)

FIGURES: tuple[Figure[Series], ...] = tuple(
    Figure(
        f"scaling_{kind}",
        f"What do more ranks buy where the {KEPT[kind]} is the same?",
        "Dashed: as many times more as there are more ranks. The last panels say where the rest went: exposed "
        "communication, and the part of it that is waiting for slower ranks.",
        f"scaling_{kind}",
        draw_scaling,
        f"no two runs of one {KEPT[kind]} differ in their ranks alone",
        f"hpcsgd scale RECIPE --gpus 1,2,4,8 --mode {kind}",
    )
    for kind in (STRONG, WEAK)
)


def draw(
    entries: Sequence[Entry],
    problems: Sequence[str],
    directory: Path,
    skip: int = DEFAULT_SKIP,
    prediction: Path | None = None,
) -> tuple[list[Path], list[str]]:
    """Write all figures and tables, with that of a kept ``prediction``; returns the files and the remarks."""
    output = Output.of_runs(directory, entries, problems)
    if prediction is not None:
        with figures.style():
            PREDICTION.draw(Foreseen(prediction_tables.read(prediction), entries, skip), output)
    runs = scaling_tables.run_table(entries, skip)
    remarks = size_tables.not_in_a_series(entries, runs, skip)
    if runs.empty:
        return output.files, [*output.notes, *remarks]
    remarks += [*size_tables.rough_epochs(runs), *timing_tables.untold_waits(entries)]
    remarks += scaling_tables.core_remarks(entries, runs)
    told = [ENERGY_NOTE] if size_figures.ENERGY.column in runs else []
    notes = (RECORD_NOTE, SPEEDUP_NOTE, SHARE_NOTE, *told, skip_text(skip), *remarks)
    series = Series(runs, size_figures.rank_label(size_tables.on_gpus(entries)), skip, notes)
    with figures.style():
        remarks += [line for figure in FIGURES for line in figure.draw(series, output)]
    output.table(runs, "scaling_runs", "Runs in the scaling figures", *notes)
    return output.files, [*output.notes, *remarks]


CHAPTER = Chapter(
    "scaling",
    "Scaling",
    "The same training on more ranks: strong scaling keeps the global batch, weak scaling the local one.",
    "scaling.py",
    (*FIGURES, PREDICTION),
    draw,
)
