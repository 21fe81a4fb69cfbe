"""Lines over sizes of what settings reach and communicate: a panel for each pair of axes, with the spread of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from draw import figures
from draw.sweeps import NOT_REACHED, whiskers

POINT = {"linestyle": "none"}


@dataclass(frozen=True)
class Axis:
    """What an axis of lines shows: the column, its label, and whether it is logarithmic."""

    column: str
    label: str
    is_log: bool = True


def line_figure(
    table: pd.DataFrame,
    panels: Sequence[tuple[Axis, Axis]],
    directory: Path,
    name: str,
    caption: str,
    *,
    joined: bool = True,
    ideal: str = "",
) -> list[Path]:
    """Lines over sizes: a panel for each pair of axes; points are medians, whiskers lowest and highest.

    Args:
        table: rows with ``line``, the columns of the axes, and of those of y also ``_min`` and ``_max``.
        panels: the axes x and y of each.
        directory: where to.
        name: of the files.
        caption: below the panels.
        joined: draw lines between the points.
        ideal: the column that the dashed line of the last panel shows; empty: none.
    """
    names = list(dict.fromkeys(table["line"]))
    width = max({1: 5.2}.get(len(panels), 3.6 * len(panels)), min(12.0, 0.1 + figures.label_width(names)))
    figure, axes = figures.new_figure(1, len(panels), panel=(width / len(panels), 2.9))
    handles = [Line2D([], [], **figures.run_style(place) | ({} if joined else POINT)) for place in range(len(names))]
    missed = False
    for ax, (x, y) in zip(axes.flat, panels, strict=True):
        factor, unit = _scale(table, y)
        across, across_unit = _scale(table, x)
        for place, line in enumerate(names):
            own = table[table["line"] == line].sort_values(x.column)
            style = figures.run_style(place) | ({} if joined else POINT)
            middle, low, high = (factor * own[f"{y.column}{end}"].to_numpy(float) for end in ("", "_min", "_max"))
            at = across * own[x.column].to_numpy(float)
            ax.plot(at, np.where(np.isfinite(middle), middle, np.nan), **style)
            whiskers(ax, at, low, high, style["color"])
            if y.column.endswith("_to_target"):
                missed |= _missed(ax, at, own, place, style["color"])
        if x.is_log:
            figures.log2_axis(ax, "x", across * table[x.column])
        else:
            ax.set_xlim(left=-0.03 * table[x.column].max())
        if not y.column.endswith("_accuracy"):
            ax.set_ylim(bottom=0)
        ax.set_xlabel(x.label + across_unit)
        ax.set_ylabel(y.label + unit)
    labels = list(names)
    if ideal:
        own = table.drop_duplicates(panels[-1][0].column).sort_values(panels[-1][0].column)
        axes[0, -1].plot(own[panels[-1][0].column], own[ideal], **figures.IDEAL)
        handles.append(Line2D([], [], **figures.IDEAL))
        labels.append("as many times faster as there are more ranks")
    if missed:
        handles.append(Line2D([], [], color="#444444", **NOT_REACHED))
        labels.append("runs that did not reach the target")
    return figures.finish(figure, directory, name, handles=handles, labels=labels, caption=caption)


def _scale(table: pd.DataFrame, axis: Axis) -> tuple[float, str]:
    """What an axis' values are multiplied by, and the unit after its label."""
    if axis.column.endswith("_accuracy"):
        return 100.0, ""
    scales = {"seconds_to_target": figures.seconds_scale, "sync_bytes": figures.bytes_scale}
    if axis.column not in scales:
        return 1.0, ""
    factor, unit = scales[axis.column](table[axis.column])
    return factor, f" ({unit})"


def _missed(ax: Axes, at: Any, own: pd.DataFrame, place: int, color: str) -> bool:
    """A cross at the top for each point with runs that did not reach the target; whether there is any."""
    missing = (own["num_known"] > own["num_reached"]).to_numpy()
    height = np.full(int(missing.sum()), 0.97 - 0.06 * place)
    ax.plot(at[missing], height, transform=ax.get_xaxis_transform(), color=color, clip_on=False, **NOT_REACHED)
    return bool(missing.any())
