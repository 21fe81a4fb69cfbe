"""Timing figures and tables of runs: where the time of an iteration and an epoch goes, and how it grows with size.

    python analysis/timing_curves.py RUN... -o DIR

writes, as PNG and SVG with the table behind each as CSV and Markdown: ``timing_iteration`` (every rank, by span),
``timing_along_run``, ``timing_epoch``, ``timing_wait_transfer``, ``timing_throughput`` and, for runs of several
sizes, ``timing_batch`` and ``timing_ranks``. Exit code 0; 1 where no run could be read; 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from draw import figures, script
from draw import sizes as size_figures
from draw import timing as timing_figures
from draw.script import RECORD_NOTE, Output, skip_text
from hpcsgd import streams
from hpcsgd.record.frames import throughput
from runs import logs as run_logs
from runs.logs import Entry
from tables import iterations as iteration_tables
from tables import sizes as size_tables
from tables import timing as timing_tables

PROGRAM = "timing_curves.py"
PERIOD_NOTE = (
    "A synchronisation period is the iterations up to and with the next synchronisation of all ranks; its mean is the "
    "maximum over ranks of their sum, divided by their number. Periods with a left-out iteration and the unfinished "
    "last one are left out whole."
)
THROUGHPUT_NOTE = (
    "Samples of all ranks over the training clock, of the epochs that are done; before the first is, of the "
    "iterations. Along the run it stands in timing_along_run."
)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    return script.parse_with_skip(script.parser(PROGRAM, "Draw where the time of runs goes, from their logs."), argv)


def write_iterations(entries: Sequence[Entry], skip: int, output: Output) -> list[str]:
    """Time per iteration by span and rank, and along the run; returns remarks."""
    remarks = iteration_tables.too_short(entries, skip)
    spans = iteration_tables.span_table(entries, skip)
    notes = (RECORD_NOTE, skip_text(skip), *remarks)
    if not spans.empty:
        caption = f"{skip_text(skip)} {output.caption}"
        output.files += timing_figures.by_rank(entries, spans, output.directory, caption)
        output.table(spans, "timing_iteration", "Time per iteration by rank and span", *notes)
    else:
        remarks.append("timing_iteration is not drawn: no run has iterations left.")
    summary = iteration_tables.iteration_table(entries, skip)
    output.table(summary, "timing_iteration_of_record", "Time of record per iteration", *notes, PERIOD_NOTE)
    windows = timing_tables.window_table(entries)
    output.files += timing_figures.along_run(entries, windows, output.directory, output.caption)
    whole = "No iteration is left out."
    output.table(windows, "timing_along_run", "Time per iteration along the run", RECORD_NOTE, whole)
    overall = throughput_table(entries)
    output.files += timing_figures.throughput(entries, windows, overall, output.directory, output.caption)
    output.table(overall, "timing_throughput", "Throughput of the whole run", whole, THROUGHPUT_NOTE)
    return remarks


def throughput_table(entries: Sequence[Entry]) -> pd.DataFrame:
    """One row a run: its size and its samples a second."""
    return pd.DataFrame(
        [
            {
                "run": item.name,
                "num_ranks": item.world_size,
                "global_batch_size": item.global_batch_size,
                "samples_per_second": throughput(item.run),
                "samples_per_second_per_rank": throughput(item.run) / item.world_size,
            }
            for item in entries
        ]
    )


def write_epochs(entries: Sequence[Entry], output: Output) -> list[str]:
    """Time per epoch; returns remarks."""
    remarks = [f"{item.name}: no epoch is done: no time per epoch." for item in entries if item.run.epochs.empty]
    epochs = timing_tables.epoch_table(entries)
    if epochs.empty:
        return [*remarks, "timing_epoch is not drawn: no run has an epoch."]
    caption = " ".join([*remarks, output.caption])
    output.files += timing_figures.per_epoch(entries, epochs, output.directory, caption)
    notes = ("Each clock is the maximum over ranks. No epoch and no iteration is left out.", *remarks)
    output.table(epochs, "timing_epoch", "Time per epoch", *notes)
    return remarks


def write_waits(entries: Sequence[Entry], skip: int, output: Output) -> list[str]:
    """Wait and transfer; returns remarks."""
    remarks = timing_tables.untold_waits(entries)
    waits = timing_tables.wait_table(entries, skip)
    if waits.empty:
        return [*remarks, "timing_wait_transfer is not drawn: no run has a synchronisation in the iterations kept."]
    shown = {*waits["run"], *(line.split(": ")[0] for line in remarks)}
    without = [item.name for item in entries if item.name not in shown]
    remarks += [f"{name}: no synchronisation to draw wait and transfer of." for name in without]
    caption = " ".join([skip_text(skip), *remarks, output.caption])
    output.files += timing_figures.wait_and_transfer(entries, waits, output.directory, caption)
    notes = ("wait = own duration - minimum over the ranks of the same call; transfer = that minimum.", *remarks)
    output.table(waits, "timing_wait_transfer", "Wait and transfer of synchronisations", skip_text(skip), *notes)
    return remarks


def write_sizes(entries: Sequence[Entry], skip: int, output: Output) -> list[str]:
    """Times against the global batch and the ranks; returns remarks."""
    sizes = size_tables.size_table(entries, skip)
    remarks = size_tables.not_in_a_series(entries, sizes, skip)
    if sizes.empty:
        return remarks
    remarks += size_tables.rough_epochs(sizes)
    caption = " ".join([skip_text(skip), *remarks, output.caption])
    output.files += size_figures.against_batch(sizes, output.directory, caption)
    output.files += size_figures.against_ranks(sizes, size_tables.on_gpus(entries), output.directory, caption)
    notes = (size_figures.MEANING.strip(), skip_text(skip), "Per epoch no iteration is left out.", *remarks)
    output.table(sizes, "timing_sizes", "Times over sizes", *notes)
    return remarks


def draw(entries: Sequence[Entry], problems: Sequence[str], directory: Path, skip: int) -> tuple[list[Path], list[str]]:
    """Write all figures and tables; returns the files and the remarks."""
    output = Output(directory, entries, problems)
    with figures.style():
        remarks = write_iterations(entries, skip, output)
        remarks += write_epochs(entries, output)
        remarks += write_waits(entries, skip, output)
        remarks += write_sizes(entries, skip, output)
    output.table(run_logs.runs_table(entries), "timing_runs", "Runs in the timing figures", *remarks)
    return output.files, [*output.notes, *remarks]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    options = arguments(argv)
    return script.run_script(PROGRAM, options, partial(draw, skip=options.skip))


if __name__ == "__main__":
    sys.exit(streams.command(main))
