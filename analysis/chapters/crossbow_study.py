"""What the figures of Crossbow 2019 are drawn from: runs of a task with their tables, and the figures over sizes."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from chapters.figure import Figure, numbered
from draw import methods as crossbow_figures
from draw import sweeps as crossbow_sweeps
from draw.script import Output
from draw.sweeps import ACCURACY, EPOCHS, SECONDS, THROUGHPUT, Panel
from runs.groups import repeats
from runs.logs import Entry
from runs.tasks import LEARNERS, PERIOD, RATE, SPLIT, TRAINING, WORDS, Setting, best_rates, find_settings, setting_names
from tables import targets as crossbow_tables
from tables.learning import lacks_accuracy

TARGET_NOTE = (
    f"A run reaches the target with the first evaluation at which the median of its last {crossbow_tables.WINDOW} "
    "evaluations is at or above it: the fifth at the earliest."
)
MISSED_NOTE = (
    "Runs that never reach it count as longer than all others in the median; crosses: how many of a point's runs these "
    "are."
)
TIME_NOTE = "Training time: maximum over ranks, without evaluation, checkpoints and logging."
FINAL_NOTE = "Final accuracy: median over the last 5 epochs of a run; one that diverged has none and is in no point."
BEST_NOTE = (
    "Of settings that differ in their learning rate alone, the one of highest final accuracy is shown, chosen on the "
    "split that is shown."
)
BAND_NOTE = (
    "Lines: median over the runs of a setting that did not diverge; bands: from the lowest to the highest of them."
)
LEARNER_LABEL = "Learners a rank, m"


@dataclass(frozen=True)
class Sweep:
    """What a figure over a size is over.

    Attributes:
        x: the column that it is over.
        label: of its axis.
        leave: the facts that follow from the size, or do not matter.
        panels: what is drawn.
        notes: how it is made, for its caption.
    """

    x: str
    label: str
    leave: Collection[str]
    panels: Sequence[Panel]
    notes: Sequence[str]


METHODS_NOTE = (
    "Of each method the setting of highest final accuracy at the global batch that most methods have (of a method "
    "without it, the best of all), chosen on the split that is shown."
)
SWEEPS = {
    "crossbow_hardware": Sweep(
        "learners_per_rank",
        LEARNER_LABEL,
        (*LEARNERS, *TRAINING),
        (THROUGHPUT,),
        ("Samples of all ranks over the training time of record.",),
    ),
    "crossbow_statistical": Sweep(
        "num_learners", "Learners of all ranks, k", SPLIT, (EPOCHS,), (TARGET_NOTE, MISSED_NOTE)
    ),
    "crossbow_learners": Sweep(
        "learners_per_rank",
        LEARNER_LABEL,
        LEARNERS,
        (THROUGHPUT, EPOCHS, SECONDS),
        (TARGET_NOTE, TIME_NOTE, MISSED_NOTE),
    ),
    "crossbow_period": Sweep(
        "sync_period",
        "Period τ or H (iterations)",
        PERIOD,
        (ACCURACY, SECONDS, THROUGHPUT),
        (FINAL_NOTE, TARGET_NOTE, TIME_NOTE, MISSED_NOTE),
    ),
    "crossbow_rates": Sweep("learning_rate", "Largest learning rate η as run", RATE, (ACCURACY,), (FINAL_NOTE,)),
}
"""The figures over a size, by name."""


class Study:
    """The runs of one task, and everything that their figures are drawn from."""

    def __init__(self, task: str, place: int, entries: Sequence[Entry], target: float | None, skip: int) -> None:
        """``place``: among the tasks; ``target``: unset, what three quarters of the settings that are shown reach."""
        self.task = task
        self.place = place
        self.skip = skip
        self.entries = list(entries)
        self.settings = find_settings(entries)
        names = setting_names(entries)
        self.repeats = repeats(entries, lambda item: names[item.name])
        runs = crossbow_tables.run_table(self.settings, skip)
        final = runs.groupby("setting")["final_accuracy"].median().to_dict()
        self.shown = best_rates(self.settings, final)
        self.target = crossbow_tables.default_target(runs, self.shown) if target is None else target
        self.runs = crossbow_tables.with_target(runs, entries, self.target)
        self.table = crossbow_tables.setting_table(self.settings, self.runs)
        self.curves = crossbow_tables.curve_table(self.settings)
        self.utilisation = crossbow_tables.utilisation_table(self.runs)
        self.sweeps = {name: self._rows(sweep) for name, sweep in SWEEPS.items()}
        self.accuracy_label = crossbow_tables.accuracy_label(self.runs)

    def _rows(self, sweep: Sweep) -> pd.DataFrame:
        """Rows of a figure over a size; where it is about a target, of the runs that tell of it, if any do."""
        runs = self.runs
        told = runs["epochs_to_target"].notna()
        if any(panel.to_target for panel in sweep.panels) and told.any():
            runs = runs[told]
        names = set(runs["run"])
        entries = [item for item in self.entries if item.name in names]
        return crossbow_tables.sweep_table(runs, entries, sweep.x, sweep.leave)

    def file(self, figure: Figure[Study]) -> str:
        """The name of the task's own files of a figure."""
        return numbered(figure.name, self.place)

    def called(self, figure: Figure[Study]) -> str:
        """What remarks call a figure of the task."""
        return f"{self.file(figure)} ({self.task})"

    def caption(self, output: Output, *notes: str, target: bool = False) -> str:
        """What stands below a figure."""
        said = crossbow_sweeps.target_text(self.target) if target else ""
        return " ".join(filter(None, (f"{self.task}.", said, WORDS, *notes, output.caption)))

    def timed(self) -> list[Setting]:
        """The settings with runs that reach the target, or end without it."""
        told = set(self.table.loc[self.table["num_known"] > 0, "setting"])
        return [setting for setting in self.settings if setting.name in told]

    def drawable(self, settings: Sequence[Setting]) -> list[Setting]:
        """Those of some settings that have a curve to end with; of many the best, the best of each method among them.

        Where any setting has the evaluations that a median is over, those with fewer are left out.
        """
        counts = self.curves[~self.curves["diverged"]].groupby(["setting", "run"]).size().groupby("setting").max()
        least = min(crossbow_tables.WINDOW, counts.max()) if len(counts) else 0
        names = set(counts.index[counts >= least])
        known = [setting for setting in settings if setting.name in names]
        final = self.table.set_index("setting")["final_accuracy"].fillna(-1.0)
        ranked = sorted(known, key=lambda setting: -final[setting.name])
        first = list({setting.method: setting for setting in reversed(ranked)}.values())
        kept = [*first, *(setting for setting in ranked if setting not in first)][: crossbow_figures.MOST_LINES]
        return [setting for setting in known if setting in kept]

    def of_methods(self) -> list[Setting]:
        """The best setting of each method at the global batch that most methods have; of a method without it, its best.

        Of batches that as many have, the largest counts.
        """
        known = self.drawable(self.shown)
        final = self.table.set_index("setting")["final_accuracy"].fillna(-1.0)
        methods: dict[int, set[str]] = {}
        for setting in known:
            methods.setdefault(setting.global_batch_size, set()).add(setting.method)
        most = max(methods, key=lambda size: (len(methods[size]), size), default=0)
        best = {}
        for setting in sorted(known, key=lambda item: (item.global_batch_size == most, final[item.name])):
            best[setting.method] = setting
        return [setting for setting in known if setting in best.values()]

    def missing_target(self) -> str:
        """Why nothing can be said of a target; empty where something can."""
        if math.isnan(self.target):
            return lacks_accuracy(self.entries) or f"no run has {crossbow_tables.WINDOW} evaluations"
        if not np.isfinite(self.runs["seconds_to_target"]).any():
            return f"no run reaches {100 * self.target:g} %: give a lower --target_accuracy"
        return ""
