"""The figures of Crossbow 2019 (VLDB 12, 1399) from the logs of runs: learners, model averaging, time to accuracy.

    python analysis/crossbow.py RUN... -o DIR [--target_accuracy X]

writes, as PNG and SVG: ``crossbow_hardware`` (throughput against learners a rank), ``crossbow_statistical`` (epochs to
a target accuracy against all learners), ``crossbow_time`` (time to accuracy by setting), ``crossbow_convergence``
(accuracy against training time), ``crossbow_utilisation`` (of devices, against batch), ``crossbow_learners``
(throughput, epochs and time to accuracy against learners a rank), ``crossbow_methods`` (SMA, EA-SGD, synchronous and
plain SGD), ``crossbow_period`` (against τ), ``crossbow_rates`` (final accuracy by learning rate) and ``crossbow_tuner``
(what the tuner tried); and as CSV and Markdown the tables behind them: ``crossbow_settings``, ``crossbow_curves``,
``crossbow_sweeps``, ``crossbow_utilisation``, ``crossbow_tuner`` and ``crossbow_runs``. Each model on a data set has
its own figures. What cannot be drawn is said, with the runs that are missing. Exit code 0; 1 where no run could be
read; 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from draw import figures, script
from draw import methods as crossbow_figures
from draw import sweeps as crossbow_sweeps
from draw.script import RECORD_NOTE, Output, skip_text
from draw.study import (
    BAND_NOTE,
    BEST_NOTE,
    FINAL_NOTE,
    METHODS_NOTE,
    MISSED_NOTE,
    SWEEP,
    SWEEPS,
    TARGET_NOTE,
    TIME_NOTE,
    Study,
)
from draw.sweeps import SPREAD_NOTE, THROUGHPUT, UTILISATION
from hpcsgd import streams
from runs import logs as run_logs
from runs.facts import WORDS, Setting, find_tasks
from runs.logs import CENTRAL, Entry
from tables import targets as crossbow_tables
from tables.learning import lacks_accuracy

PROGRAM = "crossbow.py"
MISSING_METHODS = "missing are the same runs by other algorithms: " + SWEEP.format("algorithm.name=sma,ea_sgd,sync_sgd")
MISSING_BATCHES = "missing are the same runs at other batches: " + SWEEP.format("local_batch_size=4,16,64")
MISSING_TUNER = "no run has left its learners to the tuner: hpcsgd train RECIPE --learners_per_rank auto"


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = script.parser(PROGRAM, "Draw the figures of Crossbow 2019 from the logs of runs.")
    what = "the accuracy to be reached, a fraction (default: what three quarters of the settings shown reach)"
    parser.add_argument("--target_accuracy", type=float, metavar="X", help=what)
    options = script.parse_with_skip(parser, argv)
    target = options.target_accuracy
    if target is not None and not 0 < target < 1:
        parser.error(f"argument --target_accuracy: {target:g} is not between 0 and 1: give a fraction, as 0.88")
    return options


def numbered(name: str, place: int) -> str:
    """The name of a figure of the first, second, ... task."""
    return name if place == 0 else f"{name}_{place + 1}"


def caption(study: Study, output: Output, *notes: str, target: bool = False) -> str:
    """What stands below a figure."""
    said = crossbow_sweeps.target_text(study.target) if target else ""
    return " ".join(filter(None, (f"{study.task}.", said, WORDS, *notes, output.caption)))


def write_sweeps(study: Study, place: int, skip: int, output: Output) -> list[str]:
    """The figures over learners, periods and learning rates; returns remarks."""
    remarks = []
    for sweep in SWEEPS:
        table = study.sweeps[sweep.name]
        name = numbered(sweep.name, place)
        panels = [item for item in sweep.panels if not table.empty and table[item.column].notna().any()]
        if not panels:
            remarks.append(f"{name} ({study.task}) is not drawn: {sweep.missing}.")
            continue
        lacking = [item.label for item in sweep.panels if item not in panels]
        remarks += [f"{name} ({study.task}) lacks a panel, as no run has it: {label}." for label in lacking]
        of_target = any(item.to_target for item in panels)
        speed = (skip_text(skip),) if THROUGHPUT in panels else ()
        text = caption(study, output, SPREAD_NOTE, *sweep.notes, *speed, target=of_target)
        output.files += crossbow_sweeps.draw(table, [(sweep.x, sweep.label)], panels, output.directory, name, text)
    return remarks


def write_utilisation(study: Study, place: int, skip: int, output: Output) -> list[str]:
    """Utilisation against batch; returns remarks."""
    name = numbered("crossbow_utilisation", place)
    table = study.utilisation
    if table.empty:
        return [f"{name} ({study.task}) is not drawn: no log has utilisation: set log.utilisation_seconds."]
    if table["local_batch_size"].nunique() < 2 and table["global_batch_size"].nunique() < 2:
        return [f"{name} ({study.task}) is not drawn: all runs have one batch; {MISSING_BATCHES}."]
    note = "Mean over iterations and ranks of the share of time that a rank's device was busy."
    axes = [
        ("local_batch_size", "Batch a learner (samples)"),
        ("global_batch_size", "Global batch (samples)"),
    ]
    text = caption(study, output, note, SPREAD_NOTE, skip_text(skip))
    output.files += crossbow_sweeps.draw(table, axes, [UTILISATION], output.directory, name, text)
    return []


def write_times(study: Study, place: int, output: Output) -> list[str]:
    """Time to accuracy and convergence; returns remarks."""
    remarks = []
    time, convergence = (numbered(f"crossbow_{name}", place) for name in ("time", "convergence"))
    why = study.missing_target()
    if why:
        remarks.append(f"{time} ({study.task}) is not drawn: {why}.")
    else:
        notes = (TARGET_NOTE, TIME_NOTE, "Large points: median over runs; small points: runs.", MISSED_NOTE)
        text = caption(study, output, *notes, target=True)
        output.files += crossbow_figures.time_figure(
            study.timed(), study.table, study.runs, output.directory, time, text
        )
    shown = study.drawable(study.shown)
    if not shown:
        why = lacks_accuracy(study.entries) or "no run has an evaluation"
        return [*remarks, f"{convergence} ({study.task}) is not drawn: {why}."]
    text = caption(study, output, BAND_NOTE, TIME_NOTE, *best_note(study), target=True)
    output.files += crossbow_figures.convergence_figure(
        shown, study.curves, study.target, study.accuracy_label, output.directory, convergence, text
    )
    return remarks + left_out(study, shown, convergence)


def best_note(study: Study) -> list[str]:
    """What is said where learning rates were left out."""
    return [BEST_NOTE] if len(study.shown) < len(study.settings) else []


def left_out(study: Study, shown: Sequence[Setting], name: str) -> list[str]:
    """One line on settings that a figure of curves does not have, beside those of another learning rate."""
    missing = [setting.name for setting in study.shown if setting not in shown]
    return [f"{name} ({study.task}) leaves out: {'; '.join(missing)}."] if missing else []


def write_methods(study: Study, place: int, output: Output) -> list[str]:
    """SMA, EA-SGD and synchronous SGD; returns remarks."""
    name = numbered("crossbow_methods", place)
    shown = study.of_methods()
    methods = {setting.algorithm for setting in shown}
    if not methods & set(CENTRAL) or len(shown) < 2:
        return [f"{name} ({study.task}) is not drawn: no SMA or EA-SGD beside another method; {MISSING_METHODS}."]
    text = caption(study, output, BAND_NOTE, FINAL_NOTE, "Large points: median over runs.", METHODS_NOTE)
    output.files += crossbow_figures.methods_figure(
        shown, study.drawable(study.shown), study.curves, study.runs, study.accuracy_label, output.directory, name, text
    )
    wanted = {"sma": "SMA", "ea_sgd": "EA-SGD", "sync_sgd": "synchronous or plain SGD"}
    lacking = [text for key, text in wanted.items() if key not in methods]
    return [f"{name} ({study.task}) lacks {', '.join(lacking)}; {MISSING_METHODS}."] if lacking else []


def write_tuner(entries: Sequence[Entry], output: Output) -> list[str]:
    """What the tuner tried, of all tasks; returns remarks."""
    trials = crossbow_tables.tuner_table(entries)
    if trials.empty:
        return [f"crossbow_tuner is not drawn: {MISSING_TUNER}."]
    text = (
        "Samples of all ranks a second, at the pace of the slowest; whiskers: slowest and fastest window. Above: "
        "median gain over another number of learners in windows taken in turn, by which it is decided; points were not "
        "measured side by side."
    )
    output.files += crossbow_figures.tuner_figure(
        trials, output.directory, "crossbow_tuner", f"{text} {output.caption}"
    )
    output.table(trials, "crossbow_tuner", "What the tuner tried", text)
    rows = trials[trials["decision"] == "impossible"].itertuples()
    return [f"{row.run}: {row.learners} learners a rank are impossible: {row.reason}." for row in rows]


def write_tables(studies: Sequence[Study], entries: Sequence[Entry], output: Output, said: Sequence[str]) -> None:
    """The tables of all tasks."""

    def together(of: Callable[[Study], pd.DataFrame]) -> pd.DataFrame:
        parts = [(study, of(study)) for study in studies]
        tables = [table.assign(task=study.task) for study, table in parts if not table.empty]
        found = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
        return found[["task", *(name for name in found if name != "task")]] if tables else found

    notes = (TARGET_NOTE, "inf: the target was not reached; no value: not known.", TIME_NOTE, FINAL_NOTE)
    output.table(together(lambda study: study.table), "crossbow_settings", "Settings", *notes, *said)
    output.table(together(lambda study: study.curves), "crossbow_curves", "Curves of runs", TIME_NOTE)
    for name, title, of in (
        ("crossbow_sweeps", "Over sizes", _sweep_rows),
        ("crossbow_utilisation", "Utilisation of devices", lambda study: study.utilisation),
    ):
        table = together(of)
        if not table.empty:
            output.table(table, name, title, *notes, SPREAD_NOTE)
    runs = run_logs.runs_table(entries)[["run", "algorithm", "status", "path"]]
    own = together(lambda study: study.runs).drop(columns="status")
    output.table(own.merge(runs, on="run"), "crossbow_runs", "Runs in the figures", *notes, RECORD_NOTE, *said)


def _sweep_rows(study: Study) -> pd.DataFrame:
    """The rows of all sweeps of a task, each with its figure, the column that it is over, and the value there."""
    tables = [
        study.sweeps[sweep.name].rename(columns={sweep.x: "value"}).assign(figure=sweep.name, over=sweep.x)
        for sweep in SWEEPS
        if not study.sweeps[sweep.name].empty
    ]
    if not tables:
        return pd.DataFrame()
    found = pd.concat(tables, ignore_index=True)
    first = ["figure", "line", "over", "value"]
    return found[[*first, *(name for name in found if name not in first)]]


def draw(
    entries: Sequence[Entry], problems: Sequence[str], directory: Path, skip: int, target: float | None = None
) -> tuple[list[Path], list[str]]:
    """Write all figures and tables; returns the files and the remarks."""
    output = Output(directory, entries, problems)
    studies = [Study(task, own, target, skip) for task, own in find_tasks(entries).items()]
    said: list[str] = []
    with figures.style():
        for place, study in enumerate(studies):
            said += study.repeats + crossbow_tables.remarks(study.runs)
            said += write_sweeps(study, place, skip, output)
            said += write_utilisation(study, place, skip, output)
            said += write_times(study, place, output)
            said += write_methods(study, place, output)
        said += write_tuner(entries, output)
    write_tables(studies, entries, output, said)
    return output.files, [*output.notes, *said]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    options = arguments(argv)
    return script.run_script(PROGRAM, options, partial(draw, skip=options.skip, target=options.target_accuracy))


if __name__ == "__main__":
    sys.exit(streams.command(main))
