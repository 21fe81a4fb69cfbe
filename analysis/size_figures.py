"""The figures over sizes: time per iteration and epoch against the global batch and the ranks, with the ideal line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

import figures
from size_tables import BATCH, STRONG, WEAK

RANK_PANELS = (
    ("iteration_seconds", "ideal_iteration_seconds", "Time per iteration"),
    ("epoch_seconds", "ideal_epoch_seconds", "Time per epoch"),
    ("samples_per_second", "ideal_samples_per_second", "Throughput (samples/s)"),
    ("iteration_efficiency", None, "Efficiency (%)"),
)
PERCENTILES = ("iteration_p5_seconds", "iteration_p95_seconds")
BATCH_PANELS = (*RANK_PANELS[:2], RANK_PANELS[3])
MEANING = (
    "Time of record (maximum over ranks); per iteration the median and 5th to 95th percentile over synchronisation "
    "periods. Ideal: the smallest size's time for one sample on one rank, kept at every size. Efficiency: ideal time "
    "per iteration over the measured. "
)


def against_ranks(sizes: pd.DataFrame, on_gpus: bool, directory: Path, caption: str) -> list[Path]:
    """Weak and strong scaling: times, throughput and efficiency against the number of ranks."""
    axis = "GPUs (one rank each)" if on_gpus else "Ranks"
    part = sizes[sizes["scaling"].isin((WEAK, STRONG))]
    return _draw(part, "num_ranks", axis, RANK_PANELS, directory, "timing_ranks", caption)


def against_batch(sizes: pd.DataFrame, directory: Path, caption: str) -> list[Path]:
    """Weak scaling and growing batches: times and efficiency against the global batch (Goyal, figure 7)."""
    part = sizes[sizes["scaling"].isin((WEAK, BATCH))]
    axis = "Global batch (samples)"
    return _draw(part, "global_batch_size", axis, BATCH_PANELS, directory, "timing_batch", caption)


def _draw(
    sizes: pd.DataFrame,
    x: str,
    x_label: str,
    panels: tuple[tuple[str, str | None, str], ...],
    directory: Path,
    name: str,
    caption: str,
) -> list[Path]:
    """All panels of a figure: every series in its own colour, runs as points, their median as a line."""
    if sizes.empty:
        return []
    rows, columns = figures.grid_shape(len(panels))
    figure, axes = figures.new_figure(rows, columns, panel=(3.4, 2.5) if columns == 2 else (2.5, 2.6))
    handles: list[Any] = []
    labels: list[str] = []
    factors = {column: _factor(sizes, column) for column, _, _ in panels}
    for place, (series, part) in enumerate(sizes.groupby("series", sort=False)):
        style = figures.run_style(place)
        for ax, (column, ideal, _) in zip(axes.flat, panels, strict=True):
            _series(ax, part, x, column, ideal, factors[column][0], style)
        handles.append(Line2D([], [], **style))
        labels.append(str(series))
    for ax, (column, ideal, y_label) in zip(axes.flat, panels, strict=True):
        ax.set_xlabel(x_label)
        factor, unit = factors[column]
        ax.set_ylabel(y_label + unit)
        figures.log2_axis(ax, "x", sizes[x], as_power=x == "global_batch_size")
        if ideal:
            names = [column, ideal, *(PERCENTILES if column == "iteration_seconds" else ())]
            as_power = column == "samples_per_second"
            figures.log2_axis(ax, "y", factor * sizes[names].to_numpy().ravel(), as_power=as_power)
        else:
            ax.axhline(100, **figures.IDEAL)
            ax.set_ylim(0, max(110, 105 * sizes[column].max()))
    handles.append(Line2D([], [], **figures.IDEAL))
    labels.append("ideal")
    return figures.finish(figure, directory, name, handles=handles, labels=labels, caption=MEANING + caption)


def _factor(sizes: pd.DataFrame, column: str) -> tuple[float, str]:
    """What a column's values are multiplied by to be drawn, and the unit after the axis' label."""
    if not column.endswith("_seconds"):
        return (100.0, "") if column.endswith("efficiency") else (1.0, "")
    factor, unit = figures.seconds_scale(sizes[column])
    return factor, f" ({unit})"


def _series(
    ax: Axes, part: pd.DataFrame, x: str, column: str, ideal: str | None, factor: float, style: dict[str, Any]
) -> None:
    """One series in one panel; where nothing was measured (no whole epoch) nothing is drawn."""
    line = part.groupby(x)[column].median() * factor
    ax.plot(line.index, line, color=style["color"], linestyle=style["linestyle"])
    ax.plot(part[x], part[column] * factor, **{**style, "linestyle": "none"})
    if ideal is not None:
        expected = part.groupby(x)[ideal].median() * factor
        ax.plot(expected.index, expected, **{**figures.IDEAL, "color": style["color"]})
    if column == "iteration_seconds":
        middle, low, high = (part[name] * factor for name in (column, *PERCENTILES))
        ax.errorbar(
            part[x], middle, yerr=[middle - low, high - middle], fmt="none", ecolor=style["color"], linewidth=0.9
        )
