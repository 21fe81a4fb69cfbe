"""The training loss of each step of a run, over its ranks, and where it is not finite any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hpcsgd.record.reduce import MEDIAN

if TYPE_CHECKING:
    from runs.logs import Entry


def step_losses(item: Entry) -> pd.DataFrame:
    """One row a step that has a loss: of ranks with samples; of a log of statistics, the medians.

    There, the losses of a step are known only if all ranks had samples.

    Returns:
        By ``step``: ``weighted``, the sum over the ranks of the loss times the samples, NaN where one is not finite;
        ``num_samples``, of them; and ``place``, of the row in the run's columns.
    """
    columns = item.run.columns
    weighted, samples = np.zeros(len(columns.steps)), np.zeros(len(columns.steps), np.int64)
    for rows, block in columns.blocks(["loss", "num_samples"]):
        loss, count = block["loss"], block["num_samples"]
        if item.summary:
            loss, count = loss[:, [MEDIAN]], np.where(count.min(axis=1) > 0, count[:, MEDIAN], 0)[:, None]
        # A loss that is not finite makes its step's so.
        weighted[rows] = np.where(count > 0, np.where(np.isfinite(loss), loss, np.nan) * count, 0.0).sum(axis=1)
        samples[rows] = count.sum(axis=1)
    table = pd.DataFrame({"weighted": weighted, "num_samples": samples, "place": np.arange(len(samples))})
    return table.set_axis(pd.Index(columns.steps, name="step"))[samples > 0]


def loss_notes(item: Entry) -> list[str]:
    """Where the loss of a run is not finite any more, or that it has none."""
    losses = step_losses(item)
    bad = losses[losses["weighted"].isna()]
    if bad.empty:
        return []
    if len(bad) == len(losses) and item.run.config.get("algorithm", {}).get("name") == "none":
        return [f"{item.name}: its log has no loss: its loop was only timed, without run.backward."]
    where = ""
    if not item.summary:
        place = int(bad["place"].iloc[0])
        own = {name: values[0] for name, values in _row(item, place).items()}
        rank = np.flatnonzero(~np.isfinite(own["loss"]) & (own["num_samples"] > 0))[0]
        where = f" on rank {item.run.columns.labels[rank]}"
    return [f"{item.name}: its loss is not finite from step {bad.index[0]}{where} on: curves of the loss end there."]


def _row(item: Entry, place: int) -> dict[str, np.ndarray]:
    """Losses and samples of one row."""
    return item.run.columns.read(["loss", "num_samples"], slice(place, place + 1))
