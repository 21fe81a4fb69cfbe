"""Figures of Crossbow 2019 over a size: panels of what runs reach against learners, batch or τ, one colour a line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from draw import figures

NOT_REACHED: dict[str, Any] = {"marker": "x", "markersize": 6, "markeredgewidth": 1.6, "linestyle": "none"}
CROSS_HEIGHT = 0.97
CROSS_ROW = 0.06
"""Share of a panel's height that the crosses of one line take."""
DODGE = 0.05
ROOM = 0.2
WIDEST = 12.0
WIDE = 12.0
"""Values that differ by more than this factor are drawn on a logarithmic axis."""
SPREAD_NOTE = "Points: median over runs; whiskers: lowest and highest."


@dataclass(frozen=True)
class Panel:
    """What one panel shows: a measure of :func:`crossbow_tables.spread`, and the label of its axis without a unit."""

    column: str
    label: str

    @property
    def in_percent(self) -> bool:
        """Whether it is a fraction."""
        return self.column in ("final_accuracy", "utilisation")

    @property
    def to_target(self) -> bool:
        """Whether a run may never have it."""
        return self.column.endswith("_to_target")

    @property
    def columns(self) -> list[str]:
        """The point and its whiskers."""
        return [self.column, f"{self.column}_min", f"{self.column}_max"]


THROUGHPUT = Panel("samples_per_second", "Throughput (samples/s)")
EPOCHS = Panel("epochs_to_target", "Epochs to target accuracy")
SECONDS = Panel("seconds_to_target", "Time to target accuracy")
ACCURACY = Panel("final_accuracy", "Final accuracy (%)")
UTILISATION = Panel("utilisation", "Device utilisation (%)")


def draw(
    table: pd.DataFrame,
    xs: Sequence[tuple[str, str]],
    panels: Sequence[Panel],
    directory: Path,
    name: str,
    caption: str,
) -> list[Path]:
    """A row of panels against one size, or one panel against several sizes.

    Args:
        table: rows of :func:`crossbow_tables.sweep_table` or :func:`crossbow_tables.utilisation_table`.
        xs: the columns that panels are over, with the labels of their axes.
        panels: what is drawn.
        directory: where to.
        name: of the files.
        caption: below the panels.
    """
    pairs = [(x, label, item) for item in panels for x, label in xs]
    names = list(dict.fromkeys(table["line"]))
    width = max({1: 5.2, 2: 7.0}.get(len(pairs), 2.7 * len(pairs)), min(WIDEST, 0.1 + figures.label_width(names)))
    figure, axes = figures.new_figure(1, len(pairs), panel=(width / len(pairs), 2.7))
    apart = min(DODGE, ROOM / len(names))
    missed = False
    for ax, (x, label, item) in zip(axes.flat, pairs, strict=True):
        factor, unit = _scale(table, item)
        for place, line in enumerate(names):
            part = table[table["line"] == line].sort_values(x)
            at = part[x] * 2.0 ** (apart * (place - (len(names) - 1) / 2))
            _line(ax, at, part, item, factor, figures.run_style(place))
            if item.to_target:
                _crosses(ax, at, part, CROSS_HEIGHT - CROSS_ROW * place, figures.run_style(place)["color"])
        figures.log2_axis(ax, "x", table[x], as_power=True)
        ax.set_xlabel(label)
        ax.set_ylabel(item.label + unit)
        crosses = item.to_target and bool((table["num_known"] > table["num_reached"]).any())
        missed |= crosses
        limit(ax, item, factor * table[item.columns].to_numpy(dtype=float).ravel(), len(names) if crosses else 0)
    handles = [Line2D([], [], **figures.run_style(place)) for place in range(len(names))]
    labels = [str(line) for line in names]
    if missed:
        handles.append(Line2D([], [], color="#444444", **NOT_REACHED))
        labels.append("runs that did not reach the target")
    return figures.finish(figure, directory, name, handles=handles, labels=labels, caption=caption)


def _scale(table: pd.DataFrame, item: Panel) -> tuple[float, str]:
    """What a panel's values are multiplied by, and the unit after its label."""
    if item.column != "seconds_to_target":
        return (100.0 if item.in_percent else 1.0), ""
    factor, unit = figures.seconds_scale(table[item.column])
    return factor, f" ({unit})"


def _line(ax: Axes, at: pd.Series, part: pd.DataFrame, item: Panel, factor: float, style: dict[str, Any]) -> None:
    """One line in one panel; nothing where half of the runs did not reach the target."""
    middle, low, high = (factor * part[name].to_numpy(dtype=float) for name in item.columns)
    drawn = np.where(np.isfinite(middle), middle, np.nan)
    ax.plot(at, drawn, **style)
    whiskers(ax, at.to_numpy(dtype=float), low, high, style["color"])


def _crosses(ax: Axes, at: pd.Series, part: pd.DataFrame, height: float, color: str) -> None:
    """A cross for each point of a line with runs that did not reach the target, and how many of its runs these are."""
    above = ax.get_xaxis_transform()
    for x, row in zip(at, part.itertuples(), strict=True):
        if row.num_known > row.num_reached:
            ax.plot([x], [height], transform=above, color=color, clip_on=False, **NOT_REACHED)
            text = f"   {row.num_known - row.num_reached}/{row.num_known}"
            ax.text(x, height, text, transform=above, fontsize=6, va="center", color=color)


def whiskers(ax: Axes, at: Any, low: Any, high: Any, color: str) -> None:
    """Vertical lines from the lowest to the highest, where these differ."""
    spread = np.isfinite(low) & np.isfinite(high) & (high > low)
    ax.vlines(np.asarray(at)[spread], low[spread], high[spread], color=color, linewidth=1.0)


def limit(ax: Axes, item: Panel, values: Any, crosses: int) -> None:
    """The y axis of a panel: accuracies as near as they lie, the rest from 0, or logarithmic where wide.

    Above is room for the crosses of so many lines.
    """
    known = values[np.isfinite(values)]
    if not len(known):
        ax.text(0.5, 0.5, "no run reached it" if crosses else "not known", ha="center", transform=ax.transAxes)
        ax.set_yticks([])
        return
    free = min(0.5, CROSS_ROW * crosses)
    if item.column == "utilisation":
        ax.set_ylim(0, max(105.0, 1.05 * known.max()))
    elif item.in_percent:
        reach = max(0.5, known.max() - known.min())
        ax.set_ylim(known.min() - 0.1 * reach, known.max() + 0.1 * reach)
    elif known.min() > 0 and known.max() / known.min() > WIDE:
        figures.log2_axis(ax, "y", known, as_power=item.column == "samples_per_second")
        low, high = ax.get_ylim()
        ax.set_ylim(low, high * (high / low) ** (free / (1 - free)))
    else:
        ax.set_ylim(0, 1.08 * known.max() / (1 - free))


def target_text(target: float) -> str:
    """The target in words; empty where there is none."""
    return "" if math.isnan(target) else f"Target accuracy: {100 * target:g} %."
