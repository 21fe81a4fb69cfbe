"""The figures over sizes: panels against the global batch or the ranks, every series with its ideal line."""

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
from tables.sizes import BATCH, STRONG, WEAK

DODGE = 0.07
REPEAT_SIZE = 2.8


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        column: what is drawn, of :func:`size_tables.size_table`; shares and efficiencies in per cent.
        label: of its axis, without the unit of seconds.
        ideal: the column of the ideal line.
        percentiles: the columns of the whiskers.
    """

    column: str
    label: str
    ideal: str | None = None
    percentiles: tuple[str, str] | None = None

    @property
    def columns(self) -> list[str]:
        """All that is drawn in it."""
        return [self.column, *([self.ideal] if self.ideal else []), *(self.percentiles or ())]

    @property
    def in_percent(self) -> bool:
        """Whether it is a part of a whole."""
        return self.column.endswith(("efficiency", "share"))


ITERATION = Panel(
    "iteration_seconds",
    "Time per iteration",
    "ideal_iteration_seconds",
    ("iteration_p5_seconds", "iteration_p95_seconds"),
)
EPOCH = Panel("epoch_seconds", "Time per epoch", "ideal_epoch_seconds")
EFFICIENCY = Panel("iteration_efficiency", "Efficiency (%)")
ENERGY = Panel("joules_per_sample", "Energy (J/sample)")
RANK_PANELS = (
    ITERATION,
    EPOCH,
    Panel("samples_per_second", "Throughput (samples/s)", "ideal_samples_per_second"),
    EFFICIENCY,
)
BATCH_PANELS = (ITERATION, EPOCH, EFFICIENCY)
MEANING = (
    "Time of record (maximum over ranks); per iteration the median and 5th to 95th percentile over synchronisation "
    "periods. Ideal: the smallest size's time for one sample on one rank, kept at every size. Efficiency: ideal time "
    "per iteration over the measured. Open markers: estimated from iterations. "
)


def rank_label(on_gpus: bool) -> str:
    """The label of an axis of ranks."""
    return "GPUs (one rank each)" if on_gpus else "Ranks"


def against_ranks(sizes: pd.DataFrame, on_gpus: bool, directory: Path, caption: str) -> list[Path]:
    """Weak and strong scaling: times, throughput and efficiency against the number of ranks."""
    part = sizes[sizes["scaling"].isin((WEAK, STRONG))]
    return draw(part, "num_ranks", rank_label(on_gpus), RANK_PANELS, directory, "timing_ranks", MEANING + caption)


def against_batch(sizes: pd.DataFrame, directory: Path, caption: str) -> list[Path]:
    """Weak scaling and growing batches: times and efficiency against the global batch (Goyal, figure 7)."""
    part = sizes[sizes["scaling"].isin((WEAK, BATCH))]
    axis = "Global batch (samples)"
    return draw(part, "global_batch_size", axis, BATCH_PANELS, directory, "timing_batch", MEANING + caption)


def draw(
    sizes: pd.DataFrame,
    x: str,
    x_label: str,
    panels: Sequence[Panel],
    directory: Path,
    name: str,
    caption: str,
    *,
    columns: int = 3,
    panel: tuple[float, float] | None = None,
) -> list[Path]:
    """All panels of a figure: every series in its own colour, runs as points, their median as a line.

    Args:
        sizes: rows of :func:`size_tables.size_table`, with the panels' columns.
        x: ``num_ranks`` or ``global_batch_size``.
        x_label: of its axis.
        panels: what is drawn.
        directory: where to.
        name: of the files.
        caption: below the panels.
        columns: the most panels beside one another.
        panel: inches of one; unset, for a figure across a page.

    Returns:
        the files; none without rows.
    """
    if sizes.empty:
        return []
    rows, columns = figures.grid_shape(len(panels), columns)
    figure, axes = figures.new_figure(rows, columns, panel=panel or ((3.4, 2.5) if columns == 2 else (2.5, 2.6)))
    for ax in axes.flat[len(panels) :]:
        ax.remove()
    places = axes.flat[: len(panels)]
    handles: list[Any] = []
    labels: list[str] = []
    factors = [_factor(sizes, item) for item in panels]
    sizes = sizes.assign(place=_dodged(sizes, x))
    size = REPEAT_SIZE if sizes.duplicated(["series", x]).any() else figures.STYLE["lines.markersize"]
    shared = [item for item in panels if item.ideal and _is_shared(sizes, x, item.ideal)]
    for place, (series, part) in enumerate(sizes.groupby("series", sort=False)):
        style = figures.run_style(place)
        for ax, item, (factor, _) in zip(places, panels, factors, strict=True):
            _series(ax, part, x, item, factor, {**style, "markersize": size})
            _ideal(ax, part, x, item, factor, figures.IDEAL["color"] if item in shared else style["color"])
        handles.append(Line2D([], [], **style))
        labels.append(str(series))
    for ax, item, (factor, unit) in zip(places, panels, factors, strict=True):
        ax.set_xlabel(x_label)
        ax.set_ylabel(item.label + unit)
        if x == "num_ranks":
            figures.size_axis(ax, sizes[x])
        else:
            figures.log2_axis(ax, "x", sizes[x], as_power=True)
        _limit(ax, item, factor * sizes[item.columns].to_numpy(dtype=float).ravel())
    handles.append(Line2D([], [], **figures.IDEAL))
    labels.append("ideal")
    return figures.finish(figure, directory, name, handles=handles, labels=labels, caption=caption)


def _dodged(sizes: pd.DataFrame, x: str) -> pd.Series:
    """Where the points stand: those of one size side by side, none far from it."""
    number, count = sizes.groupby(x).cumcount(), sizes.groupby(x)[x].transform("size")
    return sizes[x] * 2.0 ** ((number - (count - 1) / 2) * np.minimum(DODGE, 0.4 / count))


def _factor(sizes: pd.DataFrame, item: Panel) -> tuple[float, str]:
    """What a panel's values are multiplied by to be drawn, and the unit after the axis' label."""
    if not item.column.endswith("_seconds"):
        return (100.0 if item.in_percent else 1.0), ""
    factor, unit = figures.seconds_scale(sizes[item.column])
    return factor, f" ({unit})"


def _limit(ax: Axes, item: Panel, values: Any) -> None:
    """The panel's y axis: from 0 in per cent, else logarithmic."""
    known = values[np.isfinite(values)]
    if not len(known):
        ax.text(0.5, 0.5, "not known", ha="center", transform=ax.transAxes)
        ax.set_yticks([])
    elif item.column.endswith("efficiency"):
        ax.axhline(100, **figures.IDEAL)
        ax.set_ylim(0, max(110, 1.05 * known.max()))
    elif item.in_percent:
        top = max(1.0, 1.1 * known.max())
        ax.set_ylim(-0.03 * top, top)  # a point at 0 is whole
    else:
        figures.log2_axis(ax, "y", values, as_power=item.column == "samples_per_second")


def _series(ax: Axes, part: pd.DataFrame, x: str, item: Panel, factor: float, style: dict[str, Any]) -> None:
    """One series in one panel; where nothing was measured (no whole epoch) nothing is drawn."""
    line = part.groupby(x)[item.column].median() * factor
    ax.plot(line.index, line, color=style["color"], linestyle=style["linestyle"])
    points = {**style, "linestyle": "none"}
    measured = part["epoch_source"].str.startswith("median") | (item.column != "epoch_seconds")
    for rows, fill in ((part[measured], style["color"]), (part[~measured], "white")):
        ax.plot(rows["place"], rows[item.column] * factor, **points, markerfacecolor=fill)
    if item.percentiles is not None:
        middle, low, high = (part[name] * factor for name in (item.column, *item.percentiles))
        reach = [middle - low, high - middle]
        ax.errorbar(part["place"], middle, yerr=reach, fmt="none", ecolor=style["color"], linewidth=0.9)


def _ideal(ax: Axes, part: pd.DataFrame, x: str, item: Panel, factor: float, color: str) -> None:
    """The ideal line of one series in one panel."""
    if item.ideal is not None:
        expected = part.groupby(x)[item.ideal].median() * factor
        ax.plot(expected.index, expected, **{**figures.IDEAL, "color": color})


def _is_shared(sizes: pd.DataFrame, x: str, ideal: str) -> bool:
    """Whether all series have the same ideal line."""
    values = sizes.groupby(x)[ideal]
    return bool(np.allclose(values.min(), values.max(), rtol=1e-9))
