"""The gradient noise scale along a run: runs in, a tidy table out (McCandlish 2018, appendix A.1).

A step's estimates of |G|^2 and of tr(Sigma) are unbiased and noisy. B_simple = tr(Sigma) / |G|^2 is the ratio of their
exponential moving averages, each taken for itself: a mean of ratios would be biased.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from runs.logs import Entry
from tables.timing import steps_per_epoch

HALF_LIFE_SHARE = 0.02
"""Half-life of the moving averages, as a share of the steps with estimates; at least one step."""

COLUMNS = ("run", "step", "epoch", "global_batch_size", "gradient_square", "gradient_variance", "noise_scale")


def noise_table(entries: Sequence[Entry]) -> pd.DataFrame:
    """One row a run and step with estimates: their moving averages, and the noise scale in samples.

    It is NaN where the average of |G|^2 is not positive: the noise hides the gradient. The batch is that of the step.
    """
    tables = [_noise(item) for item in entries]
    return pd.concat(tables, ignore_index=True)[list(COLUMNS)]


def _noise(item: Entry) -> pd.DataFrame:
    """The rows of a run."""
    shared = item.run.per_step.set_index("step")
    known = shared[shared["gradient_square"].notna()]
    half_life = max(1.0, HALF_LIFE_SHARE * len(known))
    smooth = known[["gradient_square", "gradient_variance"]].ewm(halflife=half_life).mean()
    full = steps_per_epoch(item)
    table = smooth.rename_axis("step").reset_index()
    square = table["gradient_square"]
    return table.assign(
        run=item.name,
        epoch=table["step"] / full if full else math.nan,
        global_batch_size=item.run.provenance.get("global_batch_size", math.nan),
        noise_scale=(table["gradient_variance"] / square).where((square > 0) & (table["gradient_variance"] > 0)),
    )
