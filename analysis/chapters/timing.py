"""Where the time of an iteration and an epoch goes, and how it grows with size: the figures of timing_curves.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from chapters.figure import Chapter, Figure
from draw import figures
from draw import sizes as size_figures
from draw import timing as timing_figures
from draw.script import DEFAULT_SKIP, RECORD_NOTE, Output, skip_text
from runs import logs as run_logs
from runs.logs import Entry
from tables import iterations as iteration_tables
from tables import sizes as size_tables
from tables import timing as timing_tables

PERIOD_NOTE = (
    "A synchronisation period is the iterations up to and with the next synchronisation of all ranks; its mean is the "
    "maximum over ranks of their sum, divided by their number. Periods with a left-out iteration and the unfinished "
    "last one are left out whole."
)
THROUGHPUT_NOTE = (
    "Samples of all ranks over the training clock, of the epochs that are done; before the first is, of the "
    "iterations. Along the run it stands in timing_along_run."
)
WHOLE_NOTE = "No iteration is left out."


@dataclass(frozen=True)
class Times:
    """What the figures are drawn from."""

    entries: Sequence[Entry]
    skip: int

    @cached_property
    def windows(self) -> pd.DataFrame:
        """Time of record and throughput along each run."""
        return timing_tables.window_table(self.entries)

    @cached_property
    def sizes(self) -> pd.DataFrame:
        """Times over sizes; empty where no two runs differ in their size alone."""
        return size_tables.size_table(self.entries, self.skip)

    def caption(self, output: Output) -> str:
        """What stands below a figure over sizes."""
        return " ".join([skip_text(self.skip), *self.size_remarks, output.caption])

    @cached_property
    def size_remarks(self) -> list[str]:
        """What is to be known of the figures over sizes."""
        remarks = size_tables.not_in_a_series(self.entries, self.sizes, self.skip)
        return remarks if self.sizes.empty else [*remarks, *size_tables.rough_epochs(self.sizes)]


def draw_iteration(figure: Figure[Times], times: Times, output: Output) -> list[str]:
    """Time per iteration by span and rank, and of record."""
    remarks = iteration_tables.too_short(times.entries, times.skip)
    spans = iteration_tables.span_table(times.entries, times.skip)
    many = iteration_tables.many_ranks(times.entries)
    notes = (RECORD_NOTE, skip_text(times.skip), *remarks, *many)
    if not spans.empty:
        caption = " ".join([skip_text(times.skip), *many, output.caption])
        output.files += timing_figures.by_rank(times.entries, spans, output.directory, caption)
        output.table(spans, figure.table, "Time per iteration by rank and span", *notes)
    else:
        remarks += figure.not_drawn()
    summary = iteration_tables.iteration_table(times.entries, times.skip)
    output.table(summary, "timing_iteration_of_record", "Time of record per iteration", *notes, PERIOD_NOTE)
    return remarks


def draw_along_run(figure: Figure[Times], times: Times, output: Output) -> list[str]:
    """Time per iteration along the run."""
    output.files += timing_figures.along_run(times.entries, times.windows, output.directory, output.caption)
    output.table(times.windows, figure.table, "Time per iteration along the run", RECORD_NOTE, WHOLE_NOTE)
    return []


def draw_throughput(figure: Figure[Times], times: Times, output: Output) -> list[str]:
    """Samples a second."""
    overall = timing_tables.throughput_table(times.entries)
    output.files += timing_figures.throughput(times.entries, times.windows, overall, output.directory, output.caption)
    output.table(overall, figure.table, "Throughput of the whole run", WHOLE_NOTE, THROUGHPUT_NOTE)
    return []


def draw_epochs(figure: Figure[Times], times: Times, output: Output) -> list[str]:
    """Time per epoch."""
    remarks = [f"{item.name}: no epoch is done: no time per epoch." for item in times.entries if item.run.epochs.empty]
    epochs = timing_tables.epoch_table(times.entries)
    if epochs.empty:
        return remarks + figure.not_drawn()
    caption = " ".join([*remarks, output.caption])
    output.files += timing_figures.per_epoch(times.entries, epochs, output.directory, caption)
    notes = ("Each clock is the maximum over ranks. No epoch and no iteration is left out.", *remarks)
    output.table(epochs, figure.table, "Time per epoch", *notes)
    return remarks


def draw_waits(figure: Figure[Times], times: Times, output: Output) -> list[str]:
    """Wait and transfer."""
    remarks = timing_tables.untold_waits(times.entries)
    waits = timing_tables.wait_table(times.entries, times.skip)
    if waits.empty:
        return remarks + figure.not_drawn()
    shown = {*waits["run"], *(line.split(": ")[0] for line in remarks)}
    without = [item.name for item in times.entries if item.name not in shown]
    remarks += [f"{name}: no synchronisation to draw wait and transfer of." for name in without]
    remarks += iteration_tables.many_ranks(times.entries, "wait")
    caption = " ".join([skip_text(times.skip), *remarks, output.caption])
    output.files += timing_figures.wait_and_transfer(times.entries, waits, output.directory, caption)
    notes = ("wait = own duration - minimum over the ranks of the same call; transfer = that minimum.", *remarks)
    output.table(waits, figure.table, "Wait and transfer of synchronisations", skip_text(times.skip), *notes)
    return remarks


def draw_batches(figure: Figure[Times], times: Times, output: Output) -> list[str]:
    """Times against the global batch, and the table over sizes."""
    sizes, remarks = times.sizes, times.size_remarks
    if not sizes.empty:
        output.files += size_figures.against_batch(sizes, output.directory, times.caption(output))
        notes = (size_figures.MEANING.strip(), skip_text(times.skip), "Per epoch no iteration is left out.", *remarks)
        output.table(sizes, figure.table, "Times over sizes", *notes)
    return list(remarks)


def draw_ranks(figure: Figure[Times], times: Times, output: Output) -> list[str]:
    """Times against the ranks."""
    if not times.sizes.empty:
        on_gpus = size_tables.on_gpus(times.entries)
        output.files += size_figures.against_ranks(times.sizes, on_gpus, output.directory, times.caption(output))
    return []


FIGURES = (
    Figure(
        "timing_iteration",
        "Where does the time of an iteration go, on every rank?",
        "Stacked: mean of each span. Dots and whiskers: median, 5th and 95th percentile over iterations. Orange is "
        "what the gradient allreduce adds after the backward pass, pink the averaging of replicas: two different "
        "things.",
        "timing_iteration",
        draw_iteration,
        "no run has iterations left",
    ),
    Figure(
        "timing_along_run",
        "Does an iteration take as long at the end as at the beginning?",
        "The same along the run: jumps are changes of the schedule, or of the machine.",
        "timing_along_run",
        draw_along_run,
    ),
    Figure(
        "timing_throughput",
        "How many samples are trained a second?",
        "Samples of all ranks over the training clock, along the run and as a whole.",
        "timing_throughput",
        draw_throughput,
    ),
    Figure(
        "timing_epoch",
        "How long does an epoch take?",
        "Training time of an epoch; evaluation, checkpoints and logging have clocks of their own.",
        "timing_epoch",
        draw_epochs,
        "no run has an epoch",
    ),
    Figure(
        "timing_wait_transfer",
        "Does a synchronisation take long, or do ranks wait for others?",
        "The transfer of a call is its shortest duration over the ranks; what a rank needs beyond that is waiting for "
        "others.",
        "timing_wait_transfer",
        draw_waits,
        "no run has a synchronisation in the iterations kept",
    ),
    Figure(
        "timing_batch",
        "How do times grow with the batch?",
        "Time per iteration and per epoch against the global batch, with the ideal line.",
        "timing_sizes",
        draw_batches,
        "no two runs differ only in their ranks or batch",
        "hpcsgd sweep RECIPE --set global_batch_size=64,128,256",
    ),
    Figure(
        "timing_ranks",
        "How do times fall with the ranks?",
        "Time per iteration and per epoch against the ranks, with the ideal line.",
        "timing_sizes",
        draw_ranks,
        "no two runs differ only in their ranks or batch",
        "hpcsgd scale RECIPE --gpus 1,2,4,8",
    ),
)


def draw(
    entries: Sequence[Entry], problems: Sequence[str], directory: Path, skip: int = DEFAULT_SKIP
) -> tuple[list[Path], list[str]]:
    """Write all figures and tables; returns the files and the remarks."""
    output = Output.of_runs(directory, entries, problems)
    times = Times(entries, skip)
    with figures.style():
        remarks = [line for figure in FIGURES for line in figure.draw(times, output)]
    output.table(run_logs.runs_table(entries), "timing_runs", "Runs in the timing figures", *remarks)
    return output.files, [*output.notes, *remarks]


CHAPTER = Chapter(
    "timing",
    "Where the time goes",
    "The spans of an iteration, of every rank, as the log has them; the time of record is the maximum over ranks.",
    "timing_curves.py",
    FIGURES,
    draw,
)
