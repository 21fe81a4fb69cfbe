"""The figures of Goyal 2017 (arXiv 1706.02677) from the logs of runs: large minibatches, warm-up, scaling rules.

    python analysis/goyal.py RUN... -o DIR

writes, as PNG and SVG: ``goyal_error`` (figure 1 of the paper), ``goyal_warmup`` (2), ``goyal_training`` (3),
``goyal_curves`` (4), ``goyal_timing`` (7), ``goyal_throughput`` (8) and ``goyal_schedules``, the learning rates as run;
and as CSV and Markdown the tables behind them: ``goyal_settings``, ``goyal_curves``, ``goyal_schedules``,
``goyal_sizes`` and ``goyal_runs``. Published numbers stand beside ours and are named so. What cannot be drawn is said,
with the runs that are missing. Exit code 0; 1 where no run could be read; 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from draw import curves as goyal_figures
from draw import figures, script
from draw import minibatches as goyal_sizes
from draw import sizes as size_figures
from draw.script import RECORD_NOTE, Output, skip_text
from hpcsgd import streams
from hpcsgd.record.summary import counted
from runs import logs as run_logs
from runs.groups import repeats
from runs.logs import Entry
from runs.settings import (
    WARMUPS,
    Comparison,
    Setting,
    find_comparisons,
    find_series,
    find_settings,
    setting_key,
    told_apart,
)
from tables import errors as goyal_tables
from tables import published as goyal_published
from tables import sizes as size_tables
from tables.learning import lacks_accuracy

PROGRAM = "goyal.py"
ERROR_NOTE = (
    f"The error of a run is the median over its last {goyal_tables.LAST_EPOCHS} epochs; that of a setting the mean and "
    "the standard deviation (n - 1) over its runs, which differ in their seed alone."
)
QUANTITY_NOTES = {
    "train_error_percent": "Training error: of the consensus model on the whole training set, after the epoch.",
    "train_loss": "Training loss: mean over the epoch, each batch before its update; not all runs have evaluated the "
    "training set (evaluate.splits).",
}
MISSING_SIZES = (
    "no two settings differ in their minibatch alone; missing are the same runs at other minibatches: hpcsgd sweep "
    "RECIPE --set global_batch_size=64,128,256 --seeds 5"
)
MISSING_WARMUPS = (
    "no two settings of one minibatch differ in warm-up or scaling rule alone; missing are the same runs with another "
    "warm-up: hpcsgd sweep RECIPE --set learning_rate.warmup=none,constant,gradual --seeds 5"
)
MISSING_RANKS = (
    "no two runs differ in their ranks alone; missing are the same runs on other numbers of ranks: hpcsgd scale RECIPE "
    "--gpus 1,2,4,8 --mode weak"
)


class Study:
    """Everything that the figures are drawn from."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        """Bring runs together and work out their tables."""
        self.settings = find_settings(entries)
        self.runs = goyal_tables.run_table(self.settings)
        self.table = goyal_tables.setting_table(self.settings, self.runs)
        self.curves = goyal_tables.curve_table(self.settings)
        self.schedules = goyal_tables.schedule_table(self.settings)
        self.quantity = goyal_tables.training_quantity(self.curves)
        self.series = find_series(self.settings)
        self.comparisons = find_comparisons(self.settings)
        self.error_label = goyal_tables.error_label(self.runs)

    def caption(self, settings: Sequence[Setting]) -> str:
        """What the curves of these settings are, and the errors above their panels."""
        own = self.table[self.table["setting"].isin([setting.name for setting in settings])]
        diverged = f" {goyal_figures.DIVERGED_NOTE}" if own["num_diverged"].any() else ""
        error = self.error_label.lower().removesuffix(" (%)")
        of = f"mean ± standard deviation over {seeds_text(own)}" if own["num_seeds"].max() > 1 else "of a single seed"
        return (
            f"{goyal_figures.MEAN_NOTE}{diverged} {QUANTITY_NOTES[self.quantity]} Above each panel: {error}, median of "
            f"the last {goyal_tables.LAST_EPOCHS} epochs, {of}."
        )


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = script.parser(PROGRAM, "Draw the figures of Goyal 2017 from the logs of runs.")
    return script.parse_with_skip(parser, argv)


def seeds_text(table: pd.DataFrame) -> str:
    """How many seeds the settings of a table have, in words."""
    fewest, most = table["num_seeds"].min(), table["num_seeds"].max()
    return counted(most, "seed") if fewest == most else f"{fewest} to {most} seeds"


def numbered(name: str, place: int) -> str:
    """The name of the first, second, ... figure of one kind."""
    return name if place == 0 else f"{name}_{place + 1}"


def write_errors(study: Study, output: Output) -> list[str]:
    """Figure 1; returns remarks."""
    known = study.table[study.table["error_percent"].notna() | (study.table["num_diverged"] > 0)]
    if known["error_percent"].isna().all():
        entries = [item for setting in study.settings for item in setting.entries]
        why = lacks_accuracy(entries) or "no run has come to its end with an evaluation"
        return [f"goyal_error is not drawn: {why}."]
    kinds = {setting.series: (setting.rule, setting.warmup) for setting in study.settings}
    published = goyal_published.errors()
    caption = (
        f"{ERROR_NOTE} Points: means; whiskers: standard deviations; {seeds_text(known)}. "
        f"{goyal_published.ERROR_NOTE} {output.caption}"
    )
    output.files += goyal_figures.error_figure(
        known,
        [kinds[name] for name in dict.fromkeys(known["series"])],
        published,
        study.error_label,
        output.directory,
        caption,
    )
    return []


def write_warmups(study: Study, output: Output) -> list[str]:
    """Figure 2, one for each comparison; returns remarks."""
    remarks = []
    note = goyal_published.warmup_note()
    for place, found in enumerate(study.comparisons):
        name = numbered("goyal_warmup", place)
        remarks += missing_kinds(name, found)
        shown = [*found.settings, *([found.baseline] if found.baseline else [])]
        caption = f"kn = {found.global_batch_size}. {study.caption(shown)} {note} {output.caption}"
        output.files += goyal_figures.versus_figure(
            told_apart(found.settings, [setting.kind for setting in found.settings]),
            found.baseline,
            study.table,
            study.curves,
            study.quantity,
            output.directory,
            name,
            caption,
        )
    return remarks or ([] if study.comparisons else [f"goyal_warmup is not drawn: {MISSING_WARMUPS}."])


def missing_kinds(name: str, found: Comparison) -> list[str]:
    """One line for each of the paper's three warm-ups that a comparison lacks, and for the small minibatch."""
    have = {setting.warmup for setting in found.settings if setting.rule == "linear"}
    lines = [
        f"{name} (kn = {found.global_batch_size}) lacks the runs with {text} and the linear rule."
        for warmup, text in WARMUPS.items()
        if warmup not in have
    ]
    if found.baseline is None:
        lines.append(f"{name} (kn = {found.global_batch_size}) lacks the runs at a smaller minibatch to compare with.")
    return lines


def write_sizes(study: Study, output: Output) -> list[str]:
    """Figures 3 and 4, one of each for every series; returns remarks."""
    if not study.series:
        return [f"goyal_training and goyal_curves are not drawn: {MISSING_SIZES}."]
    for place, series in enumerate(study.series):
        baseline, larger = series[0], [item for item in series if item.global_batch_size > series[0].global_batch_size]
        caption = f"{series[0].series}. {study.caption(series)} {output.caption}"
        output.files += goyal_figures.versus_figure(
            told_apart(larger, [f"kn = {item.global_batch_size}, η = {item.learning_rate:.3g}" for item in larger]),
            baseline,
            study.table,
            study.curves,
            study.quantity,
            output.directory,
            numbered("goyal_training", place),
            caption,
        )
        output.files += goyal_figures.curves_figure(
            series,
            study.curves,
            study.quantity,
            study.error_label,
            output.directory,
            numbered("goyal_curves", place),
            f"{series[0].series}. {goyal_figures.MEAN_NOTE} {QUANTITY_NOTES[study.quantity]} {output.caption}",
        )
    return []


def write_schedules(study: Study, output: Output) -> None:
    """The learning rates as run, by minibatch and by warm-up; without either, all of them."""
    panels: list[tuple[str, list[tuple[Setting, str]]]] = []
    for series in study.series:
        panels.append((series[0].series, by_size(series)))
    for found in study.comparisons:
        kinds = told_apart(found.settings, [setting.kind for setting in found.settings])
        panels.append((f"kn = {found.global_batch_size}", kinds))
    if not panels:
        panels.append(("as run", by_size(study.settings)))
    caption = f"The learning rate of each update as the log has it, of the longest run of a setting. {output.caption}"
    output.files += goyal_figures.schedule_figure(panels, study.schedules, output.directory, caption)


def by_size(settings: Sequence[Setting]) -> list[tuple[Setting, str]]:
    """Settings called by their minibatch."""
    return told_apart(settings, [f"kn = {setting.global_batch_size}" for setting in settings])


def write_times(entries: Sequence[Entry], skip: int, output: Output) -> list[str]:
    """Figures 7 and 8; returns remarks."""
    sizes = size_tables.size_table(entries, skip)
    remarks = [] if sizes.empty else size_tables.rough_epochs(sizes)
    times, rates = goyal_published.times(), goyal_published.throughput()
    caption = f"{skip_text(skip)} {output.caption}"
    drawn = goyal_sizes.against_minibatch(sizes, times, output.directory, caption)
    if not drawn:
        remarks.append(f"goyal_timing is not drawn: {MISSING_SIZES}.")
    output.files += drawn
    drawn = goyal_sizes.against_gpus(sizes, [times, rates], size_tables.on_gpus(entries), output.directory, caption)
    if not drawn:
        remarks.append(f"goyal_throughput is not drawn: {MISSING_RANKS}.")
    output.files += drawn
    if not sizes.empty:
        notes = (size_figures.MEANING.strip(), RECORD_NOTE, skip_text(skip), *remarks)
        output.table(sizes, "goyal_sizes", "Times over sizes", *notes)
    return remarks


def draw(entries: Sequence[Entry], problems: Sequence[str], directory: Path, skip: int) -> tuple[list[Path], list[str]]:
    """Write all figures and tables; returns the files and the remarks."""
    output = Output(directory, entries, problems)
    study = Study(entries)
    said = [*repeats(entries, setting_key), *goyal_tables.remarks(study.runs, study.table)]
    with figures.style():
        said += write_errors(study, output)
        said += write_warmups(study, output)
        said += write_sizes(study, output)
        write_schedules(study, output)
        said += write_times(entries, skip, output)
    output.table(study.table, "goyal_settings", "Errors by setting", ERROR_NOTE, *said)
    output.table(study.curves, "goyal_curves", "Curves of runs", *QUANTITY_NOTES.values())
    output.table(
        study.schedules,
        "goyal_schedules",
        "Learning rates as run",
        "Between two rows of a setting the rate is linear in the step.",
    )
    runs = run_logs.runs_table(entries).merge(
        study.runs.drop(columns="status"), on="run", how="left", suffixes=("", "_evaluated")
    )
    output.table(runs, "goyal_runs", "Runs in the figures", ERROR_NOTE, *said)
    return output.files, [*output.notes, *said]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    options = arguments(argv)
    return script.run_script(PROGRAM, options, partial(draw, skip=options.skip))


if __name__ == "__main__":
    sys.exit(streams.command(main))
