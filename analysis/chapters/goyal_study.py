"""What the figures of Goyal 2017 are drawn from: runs brought together, and their tables."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from draw import curves as goyal_figures
from hpcsgd.record.summary import counted
from runs.logs import Entry
from runs.settings import Setting, find_comparisons, find_series, find_settings
from tables import errors as goyal_tables
from tables import sizes as size_tables

ERROR_NOTE = (
    f"The error of a run is the median over its last {goyal_tables.LAST_EPOCHS} epochs; that of a setting the mean and "
    "the standard deviation (n - 1) over its runs, which differ in their seed alone."
)
QUANTITY_NOTES = {
    "train_error_percent": "Training error: of the consensus model on the whole training set, after the epoch.",
    "train_loss": "Training loss: mean over the epoch, each batch before its update; not all runs have evaluated the "
    "training set (evaluate.splits).",
}


class Study:
    """Everything that the figures are drawn from."""

    def __init__(self, entries: Sequence[Entry], skip: int) -> None:
        """Bring runs together and work out their tables; ``skip``: iterations that times leave out."""
        self.entries = entries
        self.skip = skip
        self.sizes = size_tables.size_table(entries, skip)
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


def seeds_text(table: pd.DataFrame) -> str:
    """How many seeds the settings of a table have, in words."""
    fewest, most = table["num_seeds"].min(), table["num_seeds"].max()
    return counted(most, "seed") if fewest == most else f"{fewest} to {most} seeds"
