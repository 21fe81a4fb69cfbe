"""Seconds of a step at other sizes, from a table of one's own measurements: GPUs, global batch, seconds."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from hpcsgd.errors import UsageError, suggestion
from hpcsgd.scaling.curve import Points, Prior, posterior

SIZES = ("gpus", "global_batch")
SECONDS = "seconds"
SHARE = 0.1
"""Of the shortest step, what is fixed of it is taken to be about this, and by a factor of e more or less."""
GENERAL = {"power": 0.5, "spread": 0.18, "kinship": 1.0, "transfer": 0.3, "latency": 0.006, "noise": 0.03, "care": 0.6}
"""The rest of the prior of a system of which nothing else is known: as MLPerf's have it, but for its kinship."""


def general_prior(points: Points) -> Prior:
    """The prior of a system of which nothing is known but its points."""
    level = math.log(SHARE * points.seconds.min()) - GENERAL["power"] * math.log(points.pace)
    return Prior(level, **GENERAL)


def predict_points(table: pd.DataFrame, at: pd.DataFrame, gpus_per_node: int = 8, level: float = 0.9) -> pd.DataFrame:
    """Predict the time of a step at other sizes.

    Args:
        table: what was measured, one row or more: ``gpus``, ``global_batch``, ``seconds`` of a step. A row at the local
            batch of the larger sizes, on several nodes, tells the most.
        at: the sizes: ``gpus``, ``global_batch``.
        gpus_per_node: a ``nodes`` column in either table goes before it.
        level: of the intervals.

    Returns:
        ``at`` with ``seconds``, ``low_seconds`` and ``high_seconds``.

    Raises:
        UsageError: a column is missing, there is no row, or a number is not positive.
    """
    known = _checked(table, (*SIZES, SECONDS), "the measured points", gpus_per_node)
    wanted = _checked(at, SIZES, "the sizes to predict", gpus_per_node)
    columns = (known[name].to_numpy(float) for name in ("gpus", "nodes", "local_batch", SECONDS))
    points = Points(*columns)
    curve = posterior(points, general_prior(points))
    told = [curve.predict(row.gpus, row.nodes, row.local_batch, level) for row in wanted.itertuples()]
    names = (SECONDS, f"low_{SECONDS}", f"high_{SECONDS}")
    return at.assign(**dict(zip(names, np.array(told).T, strict=True)))


def _checked(table: pd.DataFrame, names: tuple[str, ...], what: str, gpus_per_node: int) -> pd.DataFrame:
    """The table, with ``local_batch`` and ``nodes``."""
    for name in names:
        if name not in table:
            columns = ", ".join(map(str, table.columns)) or "none"
            raise UsageError(f"{what} have no column {name!r} (columns: {columns})" + suggestion(name, table.columns))
    if table.empty:
        raise UsageError(f"{what}: no row")
    numbers = table[list(names)].apply(pd.to_numeric, errors="coerce")
    wrong = ~(np.isfinite(numbers) & (numbers > 0))
    if wrong.to_numpy().any():
        row, name = next((row, name) for name in names for row in table.index if wrong.at[row, name])
        raise UsageError(f"{what}: {name} is {table.at[row, name]} in row {row}, not a number above 0")
    nodes = table["nodes"] if "nodes" in table else np.ceil(numbers["gpus"] / gpus_per_node)
    return numbers.assign(nodes=nodes, local_batch=numbers["global_batch"] / numbers["gpus"])
