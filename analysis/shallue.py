"""The figures of Shallue 2019 (arXiv 1811.03600) from archives of studies.

    python analysis/shallue.py STUDY... -o DIR [--goal X ...]

A STUDY is the directory of ``hpcsgd study run``, an archive in the public layout, or either packed (.tar.xz, .zip). It
writes, as PNG and SVG: ``shallue_steps`` (figure 1 of the paper, with the three regimes), ``shallue_goals`` (2),
``shallue_models`` (3), ``shallue_optimizers`` (4), ``shallue_datasets`` (5), ``shallue_sizes`` (6),
``shallue_smoothing`` (7), ``shallue_rates`` (8), ``shallue_scatter`` (9) and ``shallue_budgets`` (11); and the
tables behind them. Published points are named so; what cannot be drawn is said. Exit code 1: no study could be read.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from draw import figures, script
from draw import results as shallue_figures
from hpcsgd import streams
from hpcsgd.paths import argument
from hpcsgd.study import regimes
from runs.workloads import FRACTION, METRIC, Workload, load
from tables import results as shallue_tables
from tables.write import write_table

PROGRAM = "shallue.py"
DRAWS = 1000
STEPS_NOTE = (
    "Steps to result: among the first 100 COMPLETE trials of a batch size, the smallest measured step at which one is "
    "strictly better than the goal."
)
REGIME_NOTE = (
    "Perfect scaling: steps times batch size stay within 2^0.5 of those of the smallest batch. Maximal data "
    "parallelism: from the smallest batch from which on steps stay within 2^0.5 of the least; inf: from none."
)
INTERVAL_NOTE = "Intervals: 95 %, trials of each batch size drawn anew with replacement; inf: not reached."
PUBLISHED_NOTE = "Published points: Shallue et al. 2019, figures 1 and 4, digitised, of the models and goals named."
COMPARISONS = {
    "model": (
        "shallue_models",
        ("dataset", "optimizer"),
        "of another model on the same data set with the same optimizer",
    ),
    "optimizer": ("shallue_optimizers", ("dataset", "model"), "with another optimizer of the same model and data set"),
    "dataset": ("shallue_datasets", ("model", "optimizer"), "of another data set with the same model and optimizer"),
}


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Draw the figures of Shallue 2019 from studies.")
    what = "directory of a study, an archive in the public layout, or a packed one"
    parser.add_argument("studies", nargs="+", metavar="STUDY", type=argument, help=what)
    parser.add_argument("-o", "--output", required=True, metavar="DIR", type=argument, help="for figures and tables")
    goal = "goals; the first is that of all figures but the second (default: what every batch size reaches)"
    parser.add_argument("--goal", type=float, nargs="+", default=[], metavar="X", help=goal)
    metric = "measured column that the goal is judged on; lower is better (default: %(default)s)"
    parser.add_argument("--metric", default=METRIC, metavar="NAME", help=metric)
    return parser.parse_args(argv)


class Figures:
    """Figures and tables of some workloads on their way to a directory."""

    def __init__(self, workloads: Sequence[Workload], goals: Sequence[float], metric: str, directory: Path) -> None:
        """``goals`` may be empty: each workload then has its own."""
        self.workloads = [
            item for item in workloads if any(shallue_tables.measures(study, metric) for study in item.studies)
        ]
        self.remarks = [f"{w.name}: nothing is measured of {metric}." for w in workloads if w not in self.workloads]
        self.metric = metric
        self.directory = directory
        self.goals = list(goals)
        self.files: list[Path] = []
        self.results = self._results()
        self.regimes = shallue_tables.regime_table(self.workloads, metric, self.goals[:1], DRAWS)

    def goal_of(self, workload: Workload) -> float:
        """The goal of all figures but the second."""
        return self.goals[0] if self.goals else shallue_tables.own_goal(workload, self.metric)

    def steps_of(self, workload: Workload, goal: float | None = None) -> dict[int, int]:
        """Steps to result by batch size."""
        return shallue_tables.steps_by_batch(workload, self.metric, self.goal_of(workload) if goal is None else goal)

    def _results(self) -> pd.DataFrame:
        """The result table, with the intervals of the first goal."""
        table = shallue_tables.result_table(self.workloads, self.metric, self.goals)
        table = table.assign(low_steps=float("nan"), high_steps=float("nan"))
        for workload in self.workloads:
            goal = self.goal_of(workload)
            if not self.steps_of(workload):
                continue
            spread = regimes.bootstrap(workload.studies, self.metric, goal, draws=DRAWS)
            for size, (low, high) in spread.steps.items():
                row = (table["workload"] == workload.name) & (table["batch_size"] == size) & (table["goal"] == goal)
                table.loc[row, ["low_steps", "high_steps"]] = low, high
        return table

    def write_steps(self) -> None:
        """Figure 1."""
        panels = []
        for workload in self.workloads:
            goal = self.goal_of(workload)
            own = self.results[(self.results["workload"] == workload.name) & (self.results["goal"] == goal)]
            missing = own[own["steps_to_result"].isna()]["batch_size"]
            if len(missing):
                sizes = ", ".join(map(str, missing))
                text = f"{workload.name}: no COMPLETE trial reaches {goal:g} at batch size {sizes}"
                self.remarks.append(f"{text}: the regimes pass over what is not reached.")
            self.remarks += shallue_tables.open_studies(workload)
            if own["steps_to_result"].isna().all():
                continue
            known = self.regimes[self.regimes["workload"] == workload.name] if len(self.regimes) else self.regimes
            regime = known.iloc[0].to_dict() if len(known) else {}
            points = shallue_tables.published_points(workload.dataset)
            panels.append((workload.name, own, regime, points))
        if not panels:
            self.remarks.append(
                "shallue_steps is not drawn: no trial of any study reaches the goal: give another --goal."
            )
            return
        caption = f"{STEPS_NOTE} {REGIME_NOTE} {INTERVAL_NOTE} {PUBLISHED_NOTE}"
        self.files += shallue_figures.steps_figure(panels, self.directory, caption)

    def write_goals(self) -> None:
        """Figure 2: several goals, those given or some around the first."""
        panels = []
        for workload in self.workloads:
            goal = self.goal_of(workload)
            goals = self.goals if len(self.goals) > 1 else [goal * factor for factor in (1.0, 1.1, 1.25, 1.5)]
            lines = [(f"goal {value:.3g}", self.steps_of(workload, value)) for value in goals]
            panels.append((workload.name, [(label, steps) for label, steps in lines if steps]))
        self._lines("shallue_goals", panels, "no trial reaches any goal.", STEPS_NOTE)

    def write_comparisons(self) -> None:
        """Figures 3 to 5: workloads that differ in one thing."""
        for differs, (name, same, missing) in COMPARISONS.items():
            groups: dict[tuple[str, ...], list[Workload]] = {}
            for workload in self.workloads:
                if differs != "dataset" or not FRACTION.fullmatch(workload.dataset):
                    groups.setdefault(tuple(getattr(workload, key) for key in same), []).append(workload)
            panels = [
                (", ".join(key), [(getattr(item, differs), self.steps_of(item)) for item in group])
                for key, group in groups.items()
                if len({getattr(item, differs) for item in group}) > 1
            ]
            self._lines(name, panels, f"missing is a study {missing}.", f"{STEPS_NOTE} {self._goal_note()}")

    def write_sizes(self) -> None:
        """Figure 6: fractions of one training set."""
        groups: dict[tuple[str, ...], list[tuple[str, dict[int, int]]]] = {}
        for workload in self.workloads:
            split = FRACTION.fullmatch(workload.dataset)
            key = (split["name"] if split else workload.dataset, workload.model, workload.optimizer)
            label = f"{100 * float(split['fraction']):g} % of the training set" if split else "whole training set"
            groups.setdefault(key, []).append((label, self.steps_of(workload)))
        panels = [(", ".join(key), lines) for key, lines in groups.items() if len(lines) > 1]
        missing = "missing is a study of a part of a training set (data.train_fraction) beside one of the whole."
        self._lines("shallue_sizes", panels, missing, f"{STEPS_NOTE} {self._goal_note()}")

    def write_smoothing(self) -> None:
        """Figure 7: label smoothing."""
        panels = []
        for workload in self.workloads:
            found = shallue_tables.smoothing_steps(workload, self.metric, self.goal_of(workload))
            if len(found) > 1:
                lines = [(f"label smoothing {value:g}", steps) for value, steps in found.items()]
                panels.append((f"{workload.name}, goal {self.goal_of(workload):g}", lines))
        missing = "missing is a study whose space has several values of label_smoothing (feasible_points)."
        self._lines("shallue_smoothing", panels, missing, STEPS_NOTE)

    def _goal_note(self) -> str:
        """Which goals the lines of a panel have."""
        own = ", ".join(f"{item.name}: {self.goal_of(item):g}" for item in self.workloads)
        return f"Goal of all: {self.goals[0]:g}." if self.goals else f"Goals: {own}."

    def _lines(
        self, name: str, panels: list[tuple[str, list[tuple[str, dict[int, int]]]]], missing: str, caption: str
    ) -> None:
        shown = [(title, [line for line in lines if line[1]]) for title, lines in panels]
        shown = [(title, lines) for title, lines in shown if lines]
        if not shown:
            self.remarks.append(f"{name} is not drawn: {missing}")
            return
        self.files += shallue_figures.lines_figure(shown, self.directory, name, caption)

    def write_rates(self) -> None:
        """Figure 8."""
        table = shallue_tables.rate_table(self.workloads, self.metric, self.goals)
        if table.empty:
            self.remarks.append(
                "shallue_rates is not drawn: no trial with a momentum and a learning rate reaches the goal."
            )
            return
        caption = (
            "Optimal: effective learning rate η / (1 − μ) of the trial with the least steps to result. Heuristics: the "
            "optimum of the smallest batch times the ratio of batch sizes, or its root (Shallue 2019, section 4.7)."
        )
        self.files += shallue_figures.rates_figure(table, self.directory, caption)
        self._table(table, "shallue_rates", "Optimal effective learning rates", caption)

    def write_scatter(self) -> None:
        """Figure 9, one for each workload."""
        for place, workload in enumerate(self.workloads):
            trials = shallue_tables.trial_table(workload, self.metric, self.goal_of(workload))
            if not {"learning_rate", "momentum"} <= set(trials.columns):
                self.remarks.append(f"shallue_scatter is not drawn of {workload.name}: no momentum in its space.")
                continue
            caption = f"Goal {self.goal_of(workload):g}. Each point is a trial. High momentum is at the top."
            file = _numbered("shallue_scatter", place)
            self.files += shallue_figures.scatter_figure(workload.name, trials, self.directory, file, caption)

    def write_budgets(self) -> None:
        """Figure 11, one for each workload."""
        every = []
        for place, workload in enumerate(self.workloads):
            points = shallue_tables.budget_table(workload, self.metric)
            table = points.dropna(subset=["best_metric"])
            if table.empty:
                self.remarks.append(f"shallue_budgets is not drawn of {workload.name}: nothing is measured in time.")
                continue
            self.remarks += shallue_tables.budgets_left_out(workload, points)
            if workload.train_samples is None:
                self.remarks.append(
                    f"{workload.name}: epoch budgets need the size of a training set that is not known."
                )
            ended = any(study.settings.get("early_stopping") for study in workload.studies)
            note = " Trials were ended when they had reached the goal: what comes after is not known." if ended else ""
            caption = f"{workload.name}. The best that any COMPLETE trial has measured within the budget, of "
            caption += f"batch sizes that were trained for as long; of others it is not known.{note}"
            file = _numbered("shallue_budgets", place)
            self.files += shallue_figures.budgets_figure(table, self.metric, self.directory, file, caption)
            every.append(table)
        if every:
            self._table(pd.concat(every), "shallue_budgets", "Best metric under budgets")

    def write_tables(self) -> None:
        """The tables that several figures are drawn from."""
        self._table(self.results, "shallue_results", "Steps to result", STEPS_NOTE, INTERVAL_NOTE)
        if len(self.regimes):
            self._table(self.regimes, "shallue_regimes", "Regimes", REGIME_NOTE, INTERVAL_NOTE)
        slopes = shallue_tables.slope_table(self.workloads, self.metric, self.goals[:1])
        if len(slopes):
            note = "Slope: d log2 steps / d log2 batch size; -1 is perfect scaling, 0 maximal data parallelism."
            self._table(slopes, "shallue_slopes", "Local slopes", note)

    def _table(self, frame: pd.DataFrame, name: str, headline: str, *notes: str) -> None:
        self.files += write_table(frame, self.directory, name, title=headline, notes=[*notes, *self.remarks])


def _numbered(name: str, place: int) -> str:
    """The name of the first, second, ... figure of one kind."""
    return name if place == 0 else f"{name}_{place + 1}"


def draw(
    workloads: Sequence[Workload],
    problems: Sequence[str],
    directory: Path,
    goals: Sequence[float] = (),
    metric: str = METRIC,
) -> tuple[list[Path], list[str]]:
    """Write all figures and tables; returns the files and the remarks."""
    drawn = Figures(workloads, goals, metric, directory)
    drawn.remarks[:0] = [f"Not read: {line}" for line in problems]
    if not drawn.workloads:
        return [], drawn.remarks
    with figures.style():
        drawn.write_steps()
        drawn.write_goals()
        drawn.write_comparisons()
        drawn.write_sizes()
        drawn.write_smoothing()
        drawn.write_rates()
        drawn.write_scatter()
        drawn.write_budgets()
    drawn.write_tables()
    return drawn.files, drawn.remarks


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code."""
    options = arguments(argv)
    drawing = partial(draw, goals=options.goal, metric=options.metric)
    return script.run(
        PROGRAM, options.output, lambda: load(options.studies), drawing, "none of the studies can be read"
    )


if __name__ == "__main__":
    sys.exit(streams.command(main))
