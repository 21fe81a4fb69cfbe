"""Strong and weak scaling of runs of several sizes: speed-up, efficiency, times, exposed communication and wait.

    python analysis/scaling.py DIR... [-o OUT]

takes what ``hpcsgd scale`` leaves, or any directories with runs of several sizes, and writes ``scaling_strong`` and
``scaling_weak`` (each where there are such runs; they are never mixed) as PNG and SVG, the table of each over sizes and
``scaling_runs``, one row a run, as CSV and Markdown. Exit code 0; 1 where no run could be read or none is in a series;
2 for wrong usage.
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
from draw.script import RECORD_NOTE, Output, skip_text
from draw.sizes import Panel
from hpcsgd import streams
from runs import logs as run_logs
from runs.logs import Entry
from tables import scaling as scaling_tables
from tables import sizes as size_tables
from tables import timing as timing_tables
from tables.sizes import STRONG, WEAK

PROGRAM = "scaling.py"
DEFAULT_OUTPUT = "figures, in the first DIR"
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
OVER_RUNS_NOTE = "Each value is the median over the runs of a size; lowest and highest are over these runs."


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = script.parser(PROGRAM, "Draw strong and weak scaling of runs, from their logs.", DEFAULT_OUTPUT)
    options = script.parse_with_skip(parser, argv)
    if options.output is None:
        first = Path(options.runs[0])
        options.output = str((first if first.is_dir() else first.parent) / "figures")
    return options


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


def draw(entries: Sequence[Entry], problems: Sequence[str], directory: Path, skip: int) -> tuple[list[Path], list[str]]:
    """Write all figures and tables; returns the files and the remarks."""
    output = Output(directory, entries, problems)
    runs = scaling_tables.run_table(entries, skip)
    remarks = size_tables.not_in_a_series(entries, runs, skip)
    if runs.empty:
        return [], [*output.notes, *remarks]
    remarks += [*size_tables.rough_epochs(runs), *timing_tables.untold_waits(entries)]
    remarks += scaling_tables.core_remarks(entries, runs)
    notes = (RECORD_NOTE, SPEEDUP_NOTE, SHARE_NOTE, skip_text(skip), *remarks)
    axis = size_figures.rank_label(size_tables.on_gpus(entries))
    for scaling in (STRONG, WEAK):
        part = runs[runs["scaling"] == scaling]
        if part.empty:
            continue
        text = f"{caption(part, scaling)} {skip_text(skip)} {output.caption}"
        with figures.style():
            output.files += size_figures.draw(
                part,
                "num_ranks",
                axis,
                PANELS,
                directory,
                f"scaling_{scaling}",
                text,
                columns=2,
                panel=(2.3, 1.9),
            )
        table = scaling_tables.scaling_table(runs, scaling)
        title = f"{scaling.capitalize()} scaling: the {KEPT[scaling]} is kept"
        output.table(table, f"scaling_{scaling}", title, OVER_RUNS_NOTE, *notes)
    output.table(runs, "scaling_runs", "Runs in the scaling figures", *notes)
    return output.files, [*output.notes, *remarks]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    options = arguments(argv)
    return script.run_script(PROGRAM, options, partial(draw, skip=options.skip))


if __name__ == "__main__":
    sys.exit(streams.command(main))
