"""Predicted against measured times of a step: errors and intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from draw import figures

WAYS = {"curve (%)": "cost model, with its 90 % interval", "line (%)": "line", "Extra-P (%)": "Extra-P"}
WAYS |= {"Extra-P, other rounds too (%)": "Extra-P, from other rounds too"}
LARGEST = 45.0
"""Errors beyond these per cent are drawn at the edge."""


def draw(errors: pd.DataFrame, found: pd.DataFrame, directory: Path, caption: str) -> list[Path]:
    """Both panels: the rows of the goal by each way, and all rows that were not fitted."""
    with figures.style():
        figure, axes = figures.new_figure(1, 2, panel=(3.9, 2.9))
        handles = _ways(axes[0, 0], errors)
        _all(axes[0, 1], found)
        return figures.finish(
            figure, directory, "published_scaling", handles=handles, labels=list(WAYS.values()), caption=caption
        )


def _ways(ax: Axes, errors: pd.DataFrame) -> list[object]:
    """Errors of each way, a group a row."""
    handles: list[object] = []
    places = np.arange(len(errors), dtype=float)
    for number, name in enumerate(WAYS):
        style = figures.run_style(number)
        x = places + 0.18 * (number - 1.5)
        y = errors[name].clip(-LARGEST, LARGEST)
        if number == 0:
            reach = np.abs(errors[["low (%)", "high (%)"]].sub(errors[name], axis=0).to_numpy().T)
            ax.errorbar(x, y, reach, fmt="none", color=style["color"], linewidth=1)
        handles += ax.plot(x, y, color=style["color"], marker=style["marker"], linestyle="none")
    ax.axhline(0, **figures.IDEAL)
    labels = [f"{row.gpus}\n{row.round}" for row in errors.itertuples()]
    ax.set_xticks(places, labels, fontsize=6.5)
    ax.set(title="ResNet-50, from 8 and 64 GPUs", xlabel="GPUs, round of MLPerf", ylabel="predicted over measured (%)")
    return handles


def _all(ax: Axes, found: pd.DataFrame) -> None:
    """Measured against predicted, with intervals."""
    for number, (bench, part) in enumerate(found.groupby("bench", sort=False)):
        style = figures.run_style(number)
        reach = 1e3 * np.abs(part[["low", "high"]].sub(part["predicted"], axis=0).to_numpy().T)
        look: dict[str, Any] = {"fmt": style["marker"], "color": style["color"], "markersize": 3, "linewidth": 0.7}
        ax.errorbar(1e3 * part["seconds"], 1e3 * part["predicted"], reach, label=str(bench), **look)
    values = 1e3 * pd.concat([found["low"], found["high"]])
    for which in ("x", "y"):
        figures.log2_axis(ax, which, values)
    ends = [values.min(), values.max()]
    ax.plot(ends, ends, **figures.IDEAL)
    ax.legend()
    ax.set(title="All rows not fitted", xlabel="measured (ms a step)", ylabel="predicted (ms a step)")
