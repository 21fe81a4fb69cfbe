"""A prediction beside what came: bands and medians over sizes, runs as points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.lines import Line2D

from draw import figures
from tables.predictions import SEEN

LABELS = {"iteration_seconds": "Time per iteration", "samples_per_second": "Throughput (samples/s)"}


def draw(
    predicted: pd.DataFrame, runs: pd.DataFrame, x_label: str, directory: Path, name: str, caption: str
) -> list[Path]:
    """Both measures over the ranks, an algorithm a colour; open points: runs that the prediction was made from."""
    figure, axes = figures.new_figure(1, len(LABELS))
    everything = [*predicted["num_ranks"], *runs["num_ranks"]]
    handles: list[Any] = []
    for place, (algorithm, part) in enumerate(predicted.groupby("algorithm", sort=False)):
        style = figures.run_style(place)
        own = runs[runs["algorithm"] == algorithm]
        for ax, measure in zip(axes.flat, LABELS, strict=True):
            factor, _ = _scale(measure, predicted, runs)
            low, high = (factor * part[f"{measure}_{end}"] for end in ("low", "high"))
            ax.fill_between(part["num_ranks"], low, high, color=style["color"], alpha=0.2, linewidth=0)
            ax.plot(part["num_ranks"], factor * part[measure], color=style["color"], linestyle=style["linestyle"])
            for kind, points in own.groupby("kind"):
                fill = {} if kind == SEEN else {"markerfacecolor": "white"}
                line = {"color": style["color"], "marker": style["marker"], "linestyle": "none", **fill}
                ax.plot(points["num_ranks"], factor * points[measure], **line)
        handles.append(Line2D([], [], **style))
    for ax, measure in zip(axes.flat, LABELS, strict=True):
        factor, unit = _scale(measure, predicted, runs)
        ax.set_xlabel(x_label)
        ax.set_ylabel(LABELS[measure] + unit)
        figures.size_axis(ax, everything)
        values = pd.concat([predicted[f"{measure}_low"], predicted[f"{measure}_high"], runs[measure]])
        figures.log2_axis(ax, "y", factor * values)
    labels = [str(name) for name in predicted["algorithm"].unique()]
    return figures.finish(figure, directory, name, handles=handles, labels=labels, caption=caption)


def _scale(measure: str, predicted: pd.DataFrame, runs: pd.DataFrame) -> tuple[float, str]:
    """Factor and unit of a measure."""
    if measure != "iteration_seconds":
        return 1.0, ""
    factor, unit = figures.seconds_scale([*predicted[measure], *runs[measure]])
    return factor, f" ({unit})"
