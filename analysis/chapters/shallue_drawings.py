"""How each figure of Shallue 2019 is drawn from studies."""

from __future__ import annotations

import pandas as pd

from chapters.figure import Figure, numbered
from chapters.shallue_study import INTERVAL_NOTE, PUBLISHED_NOTE, REGIME_NOTE, STEPS_NOTE, Studies
from draw import results as shallue_figures
from draw.script import Output
from runs.workloads import FRACTION, Workload
from tables import results as shallue_tables

Lines = list[tuple[str, dict[int, int]]]
"""What each line of a panel is called, and its steps to result by batch size."""

SAME = {
    "model": ("dataset", "optimizer"),
    "optimizer": ("dataset", "model"),
    "dataset": ("model", "optimizer"),
}
"""What workloads have in common that are compared by their model, optimizer or data set."""


def draw_steps(figure: Figure[Studies], studies: Studies, output: Output) -> list[str]:
    """Figure 1."""
    panels, remarks = [], []
    for workload in studies.workloads:
        goal = studies.goal_of(workload)
        own = studies.results[(studies.results["workload"] == workload.name) & (studies.results["goal"] == goal)]
        missing = own[own["steps_to_result"].isna()]["batch_size"]
        if len(missing):
            sizes = ", ".join(map(str, missing))
            text = f"{workload.name}: no COMPLETE trial reaches {goal:g} at batch size {sizes}"
            remarks.append(f"{text}: the regimes pass over what is not reached.")
        remarks += shallue_tables.open_studies(workload)
        if own["steps_to_result"].isna().all():
            continue
        known = studies.regimes
        known = known[known["workload"] == workload.name] if len(known) else known
        regime = known.iloc[0].to_dict() if len(known) else {}
        panels.append((workload.name, own, regime, shallue_tables.published_points(workload.dataset)))
    if not panels:
        return remarks + figure.not_drawn()
    caption = f"{STEPS_NOTE} {REGIME_NOTE} {INTERVAL_NOTE} {PUBLISHED_NOTE}"
    output.files += shallue_figures.steps_figure(panels, output.directory, caption)
    return remarks


def draw_goals(figure: Figure[Studies], studies: Studies, output: Output) -> list[str]:
    """Figure 2: several goals, those given or some around the first."""
    panels = []
    for workload in studies.workloads:
        goal = studies.goal_of(workload)
        goals = studies.goals if len(studies.goals) > 1 else [goal * factor for factor in (1.0, 1.1, 1.25, 1.5)]
        lines = [(f"goal {value:.3g}", studies.steps_of(workload, value)) for value in goals]
        panels.append((workload.name, [(label, steps) for label, steps in lines if steps]))
    return draw_lines(figure, panels, STEPS_NOTE, output)


def draw_comparison(differs: str, figure: Figure[Studies], studies: Studies, output: Output) -> list[str]:
    """Figures 3 to 5: workloads that differ in one thing."""
    groups: dict[tuple[str, ...], list[Workload]] = {}
    for workload in studies.workloads:
        if differs != "dataset" or not FRACTION.fullmatch(workload.dataset):
            groups.setdefault(tuple(getattr(workload, key) for key in SAME[differs]), []).append(workload)
    panels = [
        (", ".join(key), [(getattr(item, differs), studies.steps_of(item)) for item in group])
        for key, group in groups.items()
        if len({getattr(item, differs) for item in group}) > 1
    ]
    return draw_lines(figure, panels, f"{STEPS_NOTE} {studies.goal_note}", output)


def draw_sizes(figure: Figure[Studies], studies: Studies, output: Output) -> list[str]:
    """Figure 6: fractions of one training set."""
    groups: dict[tuple[str, ...], Lines] = {}
    for workload in studies.workloads:
        split = FRACTION.fullmatch(workload.dataset)
        key = (split["name"] if split else workload.dataset, workload.model, workload.optimizer)
        label = f"{100 * float(split['fraction']):g} % of the training set" if split else "whole training set"
        groups.setdefault(key, []).append((label, studies.steps_of(workload)))
    panels = [(", ".join(key), lines) for key, lines in groups.items() if len(lines) > 1]
    return draw_lines(figure, panels, f"{STEPS_NOTE} {studies.goal_note}", output)


def draw_smoothing(figure: Figure[Studies], studies: Studies, output: Output) -> list[str]:
    """Figure 7: label smoothing."""
    panels = []
    for workload in studies.workloads:
        found = shallue_tables.smoothing_steps(workload, studies.metric, studies.goal_of(workload))
        if len(found) > 1:
            lines = [(f"label smoothing {value:g}", steps) for value, steps in found.items()]
            panels.append((f"{workload.name}, goal {studies.goal_of(workload):g}", lines))
    return draw_lines(figure, panels, STEPS_NOTE, output)


def draw_lines(figure: Figure[Studies], panels: list[tuple[str, Lines]], caption: str, output: Output) -> list[str]:
    """Panels of lines, without those that have none."""
    shown = [(title, [line for line in lines if line[1]]) for title, lines in panels]
    shown = [(title, lines) for title, lines in shown if lines]
    if not shown:
        return figure.not_drawn()
    output.files += shallue_figures.lines_figure(shown, output.directory, figure.name, caption)
    return []


def draw_rates(figure: Figure[Studies], studies: Studies, output: Output) -> list[str]:
    """Figure 8."""
    table = shallue_tables.rate_table(studies.workloads, studies.metric, studies.goals)
    if table.empty:
        return figure.not_drawn()
    caption = (
        "Optimal: effective learning rate η / (1 − μ) of the trial with the least steps to result. Heuristics: the "
        "optimum of the smallest batch times the ratio of batch sizes, or its root (Shallue 2019, section 4.7)."
    )
    output.files += shallue_figures.rates_figure(table, output.directory, caption)
    output.table(table, figure.table, "Optimal effective learning rates", caption)
    return []


def draw_scatter(figure: Figure[Studies], studies: Studies, output: Output) -> list[str]:
    """Figure 9, one for each workload."""
    remarks = []
    for place, workload in enumerate(studies.workloads):
        trials = shallue_tables.trial_table(workload, studies.metric, studies.goal_of(workload))
        if not {"learning_rate", "momentum"} <= set(trials.columns):
            remarks.append(f"{figure.name} is not drawn of {workload.name}: no momentum in its space.")
            continue
        caption = f"Goal {studies.goal_of(workload):g}. Each point is a trial. High momentum is at the top."
        file = numbered(figure.name, place)
        output.files += shallue_figures.scatter_figure(workload.name, trials, output.directory, file, caption)
    return remarks


def draw_budgets(figure: Figure[Studies], studies: Studies, output: Output) -> list[str]:
    """Figure 11, one for each workload."""
    every, remarks = [], []
    for place, workload in enumerate(studies.workloads):
        points = shallue_tables.budget_table(workload, studies.metric)
        table = points.dropna(subset=["best_metric"])
        if table.empty:
            remarks.append(f"{figure.name} is not drawn of {workload.name}: nothing is measured in time.")
            continue
        remarks += shallue_tables.budgets_left_out(workload, points)
        if workload.train_samples is None:
            remarks.append(f"{workload.name}: epoch budgets need the size of a training set that is not known.")
        ended = any(study.settings.get("early_stopping") for study in workload.studies)
        note = " Trials were ended when they had reached the goal: what comes after is not known." if ended else ""
        caption = f"{workload.name}. The best that any COMPLETE trial has measured within the budget, of "
        caption += f"batch sizes that were trained for as long; of others it is not known.{note}"
        file = numbered(figure.name, place)
        output.files += shallue_figures.budgets_figure(table, studies.metric, output.directory, file, caption)
        every.append(table)
    if every:
        output.table(pd.concat(every), figure.table, "Best metric under budgets")
    return remarks
