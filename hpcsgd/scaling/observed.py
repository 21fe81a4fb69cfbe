"""What a comparison takes of a run: the time of each span in each synchronisation period, after the warm-up.

One observation is a *synchronisation period*, the iterations up to and with the next synchronisation of all ranks, and
its value is a mean over them: with local SGD an iteration that averages is not like one that does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hpcsgd.errors import UsageError
from hpcsgd.record.frames import rank_axis, synchronisation_periods, training_seconds
from hpcsgd.record.reader import Run
from hpcsgd.record.schema import EXPOSED_SPANS, NOT_TRAINING, TRAINING_SPANS
from hpcsgd.scaling.batches import FEWEST_BATCHES

TOTAL = "iteration"
MEAN = "iteration, mean"
WARM_UP, WARM_UP_SHARE = 5, 0.05
"""Of each segment of a run so many iterations are left out, or this share of them if that is more."""
WARM_UP_TEXT = f"the first {WARM_UP} iterations or {WARM_UP_SHARE:.0%} of each start"


@dataclass(frozen=True, eq=False)
class Observed:
    """Times of one run.

    Attributes:
        run: the log.
        periods: one row a synchronisation period: seconds an iteration, a column a span (see :func:`observe`).
        num_left_out: iterations that are in none: warm-up, and periods that are not whole.
        clocks: of evaluation, checkpoints and logging: the seconds of each that took any, maximum over ranks.
    """

    run: Run
    periods: pd.DataFrame
    num_left_out: int
    clocks: dict[str, pd.Series]


def observe(run: Run, skip: int | None = None) -> Observed:
    """The times of a run, by synchronisation period.

    ``iteration`` is the time of record: the maximum over ranks of the training time of the period, over its iterations.
    Spans of compute are the maximum over ranks too. Of a span of communication the shortest over ranks is the
    ``transfer``, since the last to come waits for no one, and the mean over ranks beyond that the ``wait``. A log of
    statistics has the largest and smallest of each iteration in the place of the ranks.

    Args:
        run: its log.
        skip: first iterations of each segment that are left out with their periods; unset, ``WARM_UP_TEXT``.

    Raises:
        UsageError: too few iterations are left for an interval.
    """
    frame = run.iterations[np.isfinite(run.iterations[list(TRAINING_SPANS)]).all(axis=1)]
    shared = frame.drop_duplicates("step")[["step", "segment", "action"]].reset_index(drop=True)
    shared["period"] = synchronisation_periods(shared)
    sizes = shared.groupby("segment")["step"].transform("size")
    first = np.maximum(WARM_UP, np.ceil(WARM_UP_SHARE * sizes)) if skip is None else skip
    cold = shared.loc[shared.groupby("segment").cumcount() < first, "period"]
    kept = shared[(shared["period"] >= 0) & ~shared["period"].isin(cold)]
    count = kept["period"].nunique()
    if count < 2 * FEWEST_BATCHES:
        raise UsageError(
            f"{run.path}: {len(shared)} iterations, of which {len(kept)} in {count} synchronisation periods are left "
            f"after the warm-up: {2 * FEWEST_BATCHES} periods are the fewest that can be compared"
        )
    period = frame["step"].map(kept.set_index("step")["period"]).dropna()
    rows = frame.loc[period.index]
    sums = _sums(rows, period) if rank_axis(frame) == "rank" else _sums_of_statistics(rows, period)
    periods = sums.div(kept["period"].value_counts().sort_index(), axis=0)
    return Observed(run, periods, len(shared) - len(kept), _clocks(run.iterations))


def _sums(rows: pd.DataFrame, period: pd.Series) -> pd.DataFrame:
    """Seconds of each span over each period, of a log of ranks."""
    spans = rows[list(TRAINING_SPANS)].assign(**{TOTAL: training_seconds(rows)})
    ranks = spans.groupby([period.rename("period"), rows["rank"]]).sum().groupby(level=0)
    return _named(ranks.max(), ranks.min(), ranks.mean())


def _sums_of_statistics(rows: pd.DataFrame, period: pd.Series) -> pd.DataFrame:
    """The same of a log of minimum, median and maximum over the ranks of each iteration."""
    beside = rows[list(NOT_TRAINING)].sum(axis=1)
    spans = rows[list(TRAINING_SPANS)].assign(**{TOTAL: (rows["wall_seconds"] - beside).clip(lower=0)})
    sums = spans.groupby([rows["statistic"], period.rename("period")]).sum()
    return _named(sums.loc["max"], sums.loc["min"], sums.loc["median"])


def _named(largest: pd.DataFrame, smallest: pd.DataFrame, middle: pd.DataFrame) -> pd.DataFrame:
    """The columns of :attr:`Observed.periods`, of statistics over ranks."""
    columns = {TOTAL: largest[TOTAL]}
    for span in TRAINING_SPANS:
        name = span.removesuffix("_seconds")
        if span in EXPOSED_SPANS:
            columns[f"{name} transfer"] = smallest[span]
            columns[f"{name} wait"] = (middle[span] - smallest[span]).clip(lower=0)
        else:
            columns[name] = largest[span]
    return pd.DataFrame(columns)


def _clocks(frame: pd.DataFrame) -> dict[str, pd.Series]:
    """What has clocks of its own."""
    largest = frame.groupby("step")[list(NOT_TRAINING)].max()
    return {name.removesuffix("_seconds"): largest.loc[largest[name] > 0, name] for name in NOT_TRAINING}
