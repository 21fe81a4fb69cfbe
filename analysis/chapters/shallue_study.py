"""What the figures of Shallue 2019 are drawn from: workloads with their studies, goals and tables."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from hpcsgd.study import regimes
from runs.workloads import Workload
from tables import results as shallue_tables

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


class Studies:
    """Some workloads, the goals that are asked for, and the tables that several figures are drawn from."""

    def __init__(self, workloads: Sequence[Workload], goals: Sequence[float], metric: str) -> None:
        """``goals`` may be empty: each workload then has its own."""
        self.workloads = [
            item for item in workloads if any(shallue_tables.measures(study, metric) for study in item.studies)
        ]
        self.unmeasured = [
            f"{w.name}: nothing is measured of {metric}; --metric takes {' or '.join(shallue_tables.measured(w))}."
            for w in workloads
            if w not in self.workloads
        ]
        self.metric = metric
        self.goals = list(goals)
        self.results = self._results()
        self.regimes = shallue_tables.regime_table(self.workloads, metric, self.goals[:1], DRAWS)

    def goal_of(self, workload: Workload) -> float:
        """The goal of all figures but the second."""
        return self.goals[0] if self.goals else shallue_tables.own_goal(workload, self.metric)

    def steps_of(self, workload: Workload, goal: float | None = None) -> dict[int, int]:
        """Steps to result by batch size."""
        return shallue_tables.steps_by_batch(workload, self.metric, self.goal_of(workload) if goal is None else goal)

    @property
    def goal_note(self) -> str:
        """Which goals the lines of a panel have."""
        own = ", ".join(f"{item.name}: {self.goal_of(item):g}" for item in self.workloads)
        return f"Goal of all: {self.goals[0]:g}." if self.goals else f"Goals: {own}."

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
