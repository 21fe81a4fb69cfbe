"""How each figure of Crossbow 2019 is drawn from the runs of a task."""

from __future__ import annotations

from collections.abc import Sequence

from chapters.crossbow_study import (
    BAND_NOTE,
    BEST_NOTE,
    FINAL_NOTE,
    METHODS_NOTE,
    MISSED_NOTE,
    SWEEPS,
    TARGET_NOTE,
    TIME_NOTE,
    Study,
)
from chapters.figure import Figure
from draw import methods as crossbow_figures
from draw import sweeps as crossbow_sweeps
from draw.script import Output, skip_text
from draw.sweeps import SPREAD_NOTE, THROUGHPUT, UTILISATION
from runs.logs import CENTRAL, Entry
from runs.tasks import Setting
from tables import targets as crossbow_tables
from tables.learning import lacks_accuracy


def draw_sweep(figure: Figure[Study], study: Study, output: Output) -> list[str]:
    """A figure over learners, periods or learning rates."""
    sweep, table = SWEEPS[figure.name], study.sweeps[figure.name]
    panels = [item for item in sweep.panels if not table.empty and table[item.column].notna().any()]
    if not panels:
        return figure.not_drawn(name=study.called(figure))
    of_target = any(item.to_target for item in panels)
    speed = (skip_text(study.skip),) if THROUGHPUT in panels else ()
    text = study.caption(output, SPREAD_NOTE, *sweep.notes, *speed, target=of_target)
    axes = [(sweep.x, sweep.label)]
    output.files += crossbow_sweeps.draw(table, axes, panels, output.directory, study.file(figure), text)
    lacking = [item.label for item in sweep.panels if item not in panels]
    return [f"{study.called(figure)} lacks a panel, as no run has it: {label}." for label in lacking]


def draw_utilisation(figure: Figure[Study], study: Study, output: Output) -> list[str]:
    """Utilisation against batch."""
    table = study.utilisation
    if table.empty:
        why = "no log has utilisation: set log.utilisation_seconds"
        return figure.not_drawn(why, study.called(figure))
    if table["local_batch_size"].nunique() < 2 and table["global_batch_size"].nunique() < 2:
        return figure.not_drawn(name=study.called(figure))
    note = "Mean over iterations and ranks of the share of time that a rank's device was busy."
    axes = [
        ("local_batch_size", "Batch a learner (samples)"),
        ("global_batch_size", "Global batch (samples)"),
    ]
    text = study.caption(output, note, SPREAD_NOTE, skip_text(study.skip))
    output.files += crossbow_sweeps.draw(table, axes, [UTILISATION], output.directory, study.file(figure), text)
    return []


def draw_time(figure: Figure[Study], study: Study, output: Output) -> list[str]:
    """Time to accuracy."""
    why = study.missing_target()
    if why:
        return figure.not_drawn(why, study.called(figure))
    notes = (TARGET_NOTE, TIME_NOTE, "Large points: median over runs; small points: runs.", MISSED_NOTE)
    text = study.caption(output, *notes, target=True)
    output.files += crossbow_figures.time_figure(
        study.timed(), study.table, study.runs, output.directory, study.file(figure), text
    )
    return []


def draw_convergence(figure: Figure[Study], study: Study, output: Output) -> list[str]:
    """Accuracy against training time."""
    shown = study.drawable(study.shown)
    if not shown:
        return figure.not_drawn(lacks_accuracy(study.entries), study.called(figure))
    best_note = [BEST_NOTE] if len(study.shown) < len(study.settings) else []
    text = study.caption(output, BAND_NOTE, TIME_NOTE, *best_note, target=True)
    output.files += crossbow_figures.convergence_figure(
        shown, study.curves, study.target, study.accuracy_label, output.directory, study.file(figure), text
    )
    return left_out(study, shown, study.called(figure))


def left_out(study: Study, shown: Sequence[Setting], name: str) -> list[str]:
    """One line on settings that a figure of curves does not have, beside those of another learning rate."""
    missing = [setting.name for setting in study.shown if setting not in shown]
    return [f"{name} leaves out: {'; '.join(missing)}."] if missing else []


def draw_methods(figure: Figure[Study], study: Study, output: Output) -> list[str]:
    """SMA, EA-SGD and synchronous SGD."""
    shown = study.of_methods()
    methods = {setting.algorithm for setting in shown}
    if not methods & set(CENTRAL) or len(shown) < 2:
        why = f"no SMA or EA-SGD beside another method; {figure.lacks}"
        return figure.not_drawn(why, study.called(figure))
    text = study.caption(output, BAND_NOTE, FINAL_NOTE, "Large points: median over runs.", METHODS_NOTE)
    output.files += crossbow_figures.methods_figure(
        shown,
        study.drawable(study.shown),
        study.curves,
        study.runs,
        study.accuracy_label,
        output.directory,
        study.file(figure),
        text,
    )
    wanted = {"sma": "SMA", "ea_sgd": "EA-SGD", "sync_sgd": "synchronous or plain SGD"}
    lacking = [text for key, text in wanted.items() if key not in methods]
    return [f"{study.called(figure)} lacks {', '.join(lacking)}; {figure.lacks}."] if lacking else []


def draw_tuner(figure: Figure[Sequence[Entry]], entries: Sequence[Entry], output: Output) -> list[str]:
    """What the tuner tried, of all tasks."""
    trials = crossbow_tables.tuner_table(entries)
    if trials.empty:
        return figure.not_drawn()
    text = (
        "Samples of all ranks a second, at the pace of the slowest; whiskers: slowest and fastest window. Above: "
        "median gain over another number of learners in windows taken in turn, by which it is decided; points were not "
        "measured side by side."
    )
    output.files += crossbow_figures.tuner_figure(trials, output.directory, figure.name, f"{text} {output.caption}")
    output.table(trials, figure.table, "What the tuner tried", text)
    rows = trials[trials["decision"] == "impossible"].itertuples()
    return [f"{row.run}: {row.learners} learners a rank are impossible: {row.reason}." for row in rows]
