"""Measurements for Extra-P (Calotoiu 2013), which looks for formulas of how time grows: its JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcsgd.export.course import world_sizes
from hpcsgd.export.excerpt import Excerpt
from hpcsgd.files import write_whole
from hpcsgd.record.schema import SPANS, STATISTICS

ROOT = "iteration"
SPANS_OF = ("wall_seconds", *(column.name for column in SPANS))


def write(excerpts: list[Excerpt], path: Path) -> list[Path]:
    """Write the measurements of several runs in one file.

    Raises:
        OSError: it cannot be written.
    """
    found = [measurement for excerpt in excerpts for measurement in measurements(excerpt)]
    write_whole(path, "".join(json.dumps(one, allow_nan=False) + "\n" for one in found).encode())
    return [path]


def measurements(excerpt: Excerpt) -> Iterator[dict[str, Any]]:
    """The measurements of one run, each a repetition at ``p`` ranks and ``local_batch`` samples a rank.

    Of the whole iteration and of each span (``iteration->forward``): seconds, the mean over the iterations but the
    first, which warms up caches and connections, of the median and of the maximum over the ranks (metrics
    ``median_seconds`` and ``max_seconds``). A run that lost ranks is measured at each number of them.
    """
    import pandas as pd

    run = excerpt.run
    rows = range(*excerpt.rows.indices(len(run.columns.steps)))
    begin = rows.start + (len(rows) > 1 and rows.start == 0)
    segment = pd.Series(run.columns.column("segment"))
    sizes = world_sizes(run, segment).to_numpy()
    totals: dict[int, dict[str, NDArray[np.float64]]] = {}
    batches: dict[int, int] = {}
    for part, block in run.columns.blocks([*SPANS_OF, "num_samples"], slice(begin, rows.stop)):
        for size in np.unique(sizes[part]).tolist():
            own = sizes[part] == size
            samples = block["num_samples"][own][:, excerpt.places]
            batches[size] = max(batches.get(size, 0), int(samples.max()))
            sums = totals.setdefault(size, {})
            for metric, values in _over_ranks({n: block[n][own][:, excerpt.places] for n in SPANS_OF}, excerpt):
                sums[metric] = sums.get(metric, 0.0) + values
    for size in sorted(totals):
        count = int((sizes[begin : rows.stop] == size).sum())
        for metric, values in totals[size].items():
            for name, value in zip((*SPANS_OF, "other_seconds"), (values / count).tolist(), strict=True):
                span = name.removesuffix("_seconds")
                # What is in no span is a difference, which may fall below 0 where its terms are of different ranks.
                yield {
                    "params": {"p": int(size), "local_batch": batches[size]},
                    "callpath": ROOT if span == "wall" else f"{ROOT}->{span}",
                    "metric": f"{metric}_seconds",
                    "value": max(value, 0.0),
                }


def _over_ranks(block: dict[str, NDArray[np.float64]], excerpt: Excerpt) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Median and maximum over the ranks of each of ``SPANS_OF`` and of what is in no span, summed over the steps."""
    wall, *spans = block.values()
    values = np.stack([wall, *spans, wall - np.sum(spans, axis=0)])
    for metric in ("median", "max"):
        if not excerpt.has_ranks:
            over = values[:, :, STATISTICS.index(metric)]
        elif metric == "max":
            over = np.nanmax(values, axis=2)
        else:
            over = (np.nanmedian if np.isnan(wall).any() else np.median)(values, axis=2)
        yield metric, over.sum(axis=1)
