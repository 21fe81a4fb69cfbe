"""Measurements for Extra-P (Calotoiu 2013), which looks for formulas of how time grows: its JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpcsgd.export.course import world_sizes
from hpcsgd.export.excerpt import Excerpt
from hpcsgd.files import write_whole

ROOT = "iteration"


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
    from hpcsgd.record.frames import iteration_spans

    frame = excerpt.iterations
    first = excerpt.run.iterations["step"].min()
    if frame["step"].nunique() > 1:
        frame = frame[frame["step"] != first]
    spans = iteration_spans(frame).drop(columns=["step", excerpt.run.rank_axis])
    spans.insert(0, "wall_seconds", frame["wall_seconds"])
    sizes = world_sizes(excerpt.run, frame["segment"])
    for size in sorted(sizes.unique()):
        rows = sizes == size
        params = {"p": int(size), "local_batch": int(frame.loc[rows, "num_samples"].max())}
        for metric in ("median", "max"):
            if excerpt.has_ranks:
                table = spans[rows].groupby(frame.loc[rows, "step"]).agg(metric)
            else:
                table = spans[rows & (frame["statistic"] == metric)]
            for name, value in table.mean().items():
                span = str(name).removesuffix("_seconds")
                path = ROOT if span == "wall" else f"{ROOT}->{span}"
                # What is in no span is a difference, which may fall below 0 where its terms are of different ranks.
                yield {
                    "params": dict(params),
                    "callpath": path,
                    "metric": f"{metric}_seconds",
                    "value": max(value, 0.0),
                }
