"""The gradient noise scale of runs along their steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.lines import Line2D

from draw import figures
from runs.logs import Entry


def draw_noise(entries: Sequence[Entry], noise: pd.DataFrame, directory: Path, name: str, caption: str) -> list[Path]:
    """The noise scale with each run's batch (left), and what it is the ratio of; [] where no run has any."""
    if noise["noise_scale"].isna().all():
        return []
    figure, axes = figures.new_figure(1, 2, panel=(3.5, 2.8), sharex=True)
    scale, parts = axes[0]
    handles, labels = [], []
    for place, item in enumerate(entries):
        own = noise[noise["run"] == item.name]
        if own.empty:
            continue
        line = {**figures.run_style(place), "marker": ""}
        scale.plot(own["step"], own["noise_scale"], **line)
        scale.plot(own["step"], own["global_batch_size"], **{**line, "linestyle": ":"})
        parts.plot(own["step"], own["gradient_variance"].where(own["gradient_variance"] > 0), **line)
        parts.plot(own["step"], own["gradient_square"].where(own["gradient_square"] > 0), **{**line, "linestyle": "--"})
        handles.append(Line2D([], [], **line))
        labels.append(item.label)
    figures.log2_axis(scale, "y", pd.concat([noise["noise_scale"], noise["global_batch_size"]]))
    parts.set_yscale("log")
    scale.set_ylabel("Gradient noise scale (samples)")
    parts.set_ylabel(r"tr $\Sigma$; $|G|^2$ (dashed)")
    for ax in (scale, parts):
        ax.set_xlabel("Optimizer steps")
    text = "Dotted: the batch of all ranks. Moving averages of the estimates of each step. " + caption
    return figures.finish(figure, directory, name, handles=handles, labels=labels, caption=text)
