"""How each figure of Lin 2020 is drawn from the runs of a workload."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from chapters.figure import Figure
from chapters.lin_study import ACCURACY_NOTE, MOMENTS_NOTE, ROUNDS_NOTE, SIZES, SPREAD_NOTE, SWEEPS, Study
from draw import communication as figures
from draw import lines
from draw.lines import Axis
from draw.methods import MOST_LINES
from draw.script import Output
from runs.scenarios import SCENARIOS, SYNCHRONOUS
from runs.tasks import Setting
from tables import communication
from tables import published as published_tables
from tables.learning import lacks_accuracy

CURVE_NOTE = (
    "Lines: median over the runs of a setting that did not diverge; bands: from the lowest to the highest of them."
)
PARALLEL_NOTE = "The table has parallelism and communication, relative to A1."
AT_H_NOTE = "A3 to A5 at the H that most of them have; the table has all."


def draw_scenarios(figure: Figure[Study], study: Study, output: Output) -> list[str]:
    """A1 to A5, ours beside the published ones."""
    table = study.scenarios
    if table.empty or table["test_percent"].isna().all():
        return figure.not_drawn(lacks_accuracy(study.entries), study.called(figure))
    text = study.caption(output, ACCURACY_NOTE, MOMENTS_NOTE, PARALLEL_NOTE, published_tables.LIN_NOTE)
    output.files += figures.scenario_figure(
        table,
        published_tables.scenarios(),
        study.name,
        study.accuracy_label,
        output.directory,
        study.file(figure),
        text,
    )
    return lacking(figure, study, table)


def lacking(figure: Figure[Study], study: Study, table: pd.DataFrame) -> list[str]:
    """One line on the scenarios that no run is of."""
    missing = [f"{key} ({text})" for key, text in SCENARIOS.items() if key not in set(table["scenario"])]
    return [f"{study.called(figure)} lacks {', '.join(missing)}; {figure.lacks}."] if missing else []


def draw_epochs(figure: Figure[Study], study: Study, output: Output) -> list[str]:
    """Accuracy against epochs of the five."""
    settings, names = study.of_scenarios()
    kept = study.evaluated(settings)
    if not kept:
        return figure.not_drawn(lacks_accuracy(study.entries), study.called(figure))
    texts = [text for setting, text in zip(settings, names, strict=True) if setting in kept]
    return curves(figure, study, output, kept, texts, [Axis("epoch", "Epochs", is_log=False)], AT_H_NOTE)


def curves(
    figure: Figure[Study],
    study: Study,
    output: Output,
    settings: Sequence[Setting],
    names: Sequence[str],
    xs: Sequence[Axis],
    *notes: str,
) -> list[str]:
    """Draw the curves of some settings."""
    text = study.caption(output, CURVE_NOTE, *notes)
    output.files += figures.split_curves(
        settings, names, study.curves, xs, study.accuracy_label, output.directory, study.file(figure), text
    )
    return []


def draw_lines(figure: Figure[Study], study: Study, output: Output) -> list[str]:
    """A figure of lines over a size."""
    sweep, table = SWEEPS[figure.name], study.sweeps[figure.name]
    measure = sweep.panels[0][1].column
    if table.empty or not np.isfinite(table[measure]).any():
        why = "" if table.empty else lacks_accuracy(study.entries)
        return figure.not_drawn(why, study.called(figure))
    panels = [pair for pair in sweep.panels if (table[pair[0].column] > 0).any()]
    timed = measure.endswith("_to_target")
    text = study.caption(output, *([] if timed else [ACCURACY_NOTE]), SPREAD_NOTE, *sweep.notes, target=timed)
    output.files += lines.line_figure(
        table,
        panels,
        output.directory,
        study.file(figure),
        text,
        joined=figure.name != "lin_communication",
        ideal="ideal" if timed else "",
    )
    return []


def draw_minibatch(figure: Figure[Study], study: Study, output: Output) -> list[str]:
    """Local SGD against mini-batches; only with both."""
    table = study.sweeps[figure.name]
    if table.empty or table["line"].nunique() < 2:
        return figure.not_drawn(name=study.called(figure))
    return draw_lines(figure, study, output)


def draw_wires(figure: Figure[Study], study: Study, output: Output) -> list[str]:
    """Settings that differ in their wire alone."""
    keys = ["algorithm", "sync_period", "block_sync_period", *SIZES, "local_from_epoch", "variant"]
    groups = [own for _, own in study.runs.groupby(keys) if own["wire"].nunique() > 1]
    names = [name for own in groups for name in own["setting"].unique()]
    settings = study.evaluated(study.setting_of(names))[:MOST_LINES]
    if len(settings) < 2:
        return figure.not_drawn(name=study.called(figure))
    xs = [Axis("epoch", "Epochs", is_log=False), Axis("sync_bytes", "Bytes of a rank so far")]
    names = communication.setting_labels(study.runs, [setting.name for setting in settings])
    return curves(figure, study, output, settings, names, xs, ROUNDS_NOTE)


def draw_hierarchy(figure: Figure[Study], study: Study, output: Output) -> list[str]:
    """The grid of H and H_b."""
    table = study.grid
    if table.empty or table["test_percent"].isna().all():
        return figure.not_drawn("" if table.empty else lacks_accuracy(study.entries), study.called(figure))
    text = study.caption(output, ACCURACY_NOTE, "Mean over runs. H_b = 1 is local SGD.")
    output.files += figures.grid_figure(table, study.accuracy_label, output.directory, study.file(figure), text)
    return []


def draw_schedules(figure: Figure[Study], study: Study, output: Output) -> list[str]:
    """Schedules of H beside constant H, by whatever makes H change."""
    moving = set(communication.changing(study.schedules))
    common = study.runs["wire"].mode()
    own = study.runs[study.runs["wire"].isin(common[:1]) & (study.runs["global_batch_size"] == study.reference)]
    known = own[own["algorithm"].ne(SYNCHRONOUS) & own["final_accuracy"].notna() & own["block_sync_period"].eq(1)]
    settings = study.setting_of(list(known["setting"]))
    if len(settings) < 2 or not moving & {setting.name for setting in settings}:
        return figure.not_drawn(name=study.called(figure))
    first = sorted(settings, key=lambda setting: setting.name not in moving)[:MOST_LINES]
    kept = [setting for setting in settings if setting in first]
    names = [setting.name for setting in kept]
    table = communication.points(known[known["setting"].isin(names)]).assign(line=lambda rows: rows["setting"])
    text = study.caption(output, ACCURACY_NOTE, SPREAD_NOTE, ROUNDS_NOTE)
    output.files += figures.schedule_figure(
        kept,
        communication.setting_labels(study.runs, names),
        study.schedules[study.schedules["setting"].isin(names)],
        table,
        study.accuracy_label,
        output.directory,
        study.file(figure),
        text,
    )
    return []
