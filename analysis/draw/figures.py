"""How figures look and are saved: one style, one palette, axes in powers of two, PNG and SVG.

The colours are those of Okabe and Ito, which people with any common colour blindness can tell apart. A span of an
iteration has the same colour in every figure. The exposed gradient allreduce and the averaging of replicas never
share a colour or a name: the first is only what the backward pass did not hide.

Figures are made without pyplot, so nothing here starts a display or keeps global state.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.handlelength": 2.6,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
    "hatch.linewidth": 0.6,
    "savefig.dpi": 200,
    "svg.fonttype": "none",
    "svg.hashsalt": "hpcsgd",
}

SPANS = {
    "data_seconds": ("data", "#999999"),
    "forward_seconds": ("forward", "#56B4E9"),
    "backward_seconds": ("backward", "#0072B2"),
    "gradient_allreduce_seconds": ("exposed gradient allreduce", "#D55E00"),
    "update_seconds": ("update", "#009E73"),
    "averaging_seconds": ("averaging of replicas", "#CC79A7"),
    "evaluation_seconds": ("evaluation", "#F0E442"),
    "checkpoint_seconds": ("checkpoint", "#661100"),
    "logging_seconds": ("logging", "#000000"),
}
"""Label and colour of every span, in the order of an iteration."""

SYNCHRONISATIONS = {
    "gradient": ("exposed gradient allreduce", "#D55E00", "#F6CDB0"),
    "block": ("block averaging", "#8E4A72", "#DDBFD0"),
    "global": ("global averaging", "#CC79A7", "#F2DDE8"),
}
"""Label, colour of the transfer and colour of the wait of every kind of synchronisation."""

RUN_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
RUN_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
RUN_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)))
IDEAL: dict[str, Any] = {"color": "#555555", "linestyle": (0, (4, 2)), "linewidth": 1.0, "zorder": 1}

FEW_POWERS = 2
LEGEND_ROW = 0.2
CHARACTER = 0.06
"""Inches of a character of a legend."""
CAPTION_ROW = 0.145
CAPTION_CHARACTERS = 20.0


def run_style(index: int) -> dict[str, Any]:
    """Colour, marker and dashes of the run (or series) number ``index``: 28 can be told apart.

    No two of these have both colour and marker in common, nor both colour and dashes.
    """
    colours = len(RUN_COLORS)
    return {
        "color": RUN_COLORS[index % colours],
        "marker": RUN_MARKERS[(index + index // colours) % colours],
        "linestyle": RUN_DASHES[index // colours % len(RUN_DASHES)],
    }


@contextmanager
def style() -> Iterator[None]:
    """Draw and save inside of this context to get the house's style."""
    with matplotlib.rc_context(STYLE):
        yield


def new_figure(
    nrows: int = 1, ncols: int = 1, *, panel: tuple[float, float] = (3.4, 2.5), **options: Any
) -> tuple[Figure, np.ndarray[Any, Any]]:
    """A figure of ``nrows`` x ``ncols`` panels of about ``panel`` inches each; axes as an array [nrows, ncols]."""
    figure = Figure(figsize=(max(3.6, panel[0] * ncols), panel[1] * nrows), layout="constrained")
    return figure, figure.subplots(nrows, ncols, squeeze=False, **options)


def grid_shape(count: int, most_columns: int = 3) -> tuple[int, int]:
    """Rows and columns for ``count`` panels, as square as ``most_columns`` lets them be."""
    columns = min(count, most_columns) if count != 4 else min(2, most_columns)
    return math.ceil(count / columns), columns


def finish(
    figure: Figure,
    directory: Path,
    name: str,
    *,
    handles: Sequence[Any] = (),
    labels: Sequence[str] = (),
    caption: str = "",
) -> list[Path]:
    """Add legend and caption and save as ``name.png`` and ``name.svg``; returns the files written."""
    engine = surround(figure, handles, labels, caption)
    # Lay out once for both files: it takes longer than the drawing.
    engine.execute(figure)
    figure.set_layout_engine("none")
    files = [directory / f"{name}.png", directory / f"{name}.svg"]
    figure.savefig(files[0], metadata={"Software": None})
    figure.savefig(files[1], metadata={"Date": None})
    return files


def surround(figure: Figure, handles: Sequence[Any], labels: Sequence[str], caption: str) -> ConstrainedLayoutEngine:
    """Put the legend above the panels and the caption below, outside of them; returns what lays the figure out.

    The figure grows by the height of both, so the panels keep their size.
    """
    width, height = figure.get_size_inches()
    if labels:
        texts = [textwrap.fill(label, int((width - 0.7) / CHARACTER)) for label in labels]
        columns = legend_columns(texts, width - 0.1)
        figure.legend(handles, texts, loc="outside upper left", ncols=len(columns), borderaxespad=0.2)
        lines = max(sum(text.count("\n") + 1 for text in column) for column in columns)
        height += LEGEND_ROW * lines + 0.1
    lines = textwrap.wrap(caption, int(CAPTION_CHARACTERS * (width - 0.2)))
    below = CAPTION_ROW * len(lines) + 0.1 if lines else 0.0
    height += below
    figure.set_size_inches(width, height)
    if lines:
        figure.text(0.08 / width, 0.05 / height, "\n".join(lines), fontsize=7, color="#444444", va="bottom", ha="left")
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(rect=(0, below / height, 1, 1 - below / height))
    return engine


def legend_columns(labels: Sequence[str], width: float) -> list[Sequence[str]]:
    """As many columns of a legend as ``width`` inches have room for, each as wide as its own labels; at least one.

    They are filled as matplotlib does: one after the other, the first ones by one label more.
    """
    for count in range(len(labels), 1, -1):
        least, longer = divmod(len(labels), count)
        ends = [least * place + min(place, longer) for place in range(count + 1)]
        columns = [labels[start:end] for start, end in zip(ends, ends[1:], strict=False)]
        if sum(map(label_width, columns)) <= width:
            return columns
    return [labels]


def label_width(labels: Sequence[str]) -> float:
    """Inches of one column of a legend."""
    return CHARACTER * max(map(len, labels), default=0) + 0.6


def log2_axis(ax: Axes, which: Literal["x", "y"], values: Iterable[float], *, as_power: bool = False) -> None:
    """Make an axis of ``ax`` logarithmic with a tick at each power of two among ``values``, or at every n-th one.

    Where only few fit, the numbers half-way between (1.5, 3, 6) have ticks too.

    Args:
        ax: the panel.
        which: its x or its y axis.
        values: what is drawn along it; only positive finite values count, and without any nothing is done.
        as_power: label 2^k instead of the number, as is done anyway where a number would be long.
    """
    data = np.log2([v for v in values if v > 0 and math.isfinite(v)])
    if data.size == 0:
        return
    lowest, highest = data.min() - 0.3, data.max() + 0.3
    low, high = math.ceil(lowest), math.floor(highest)
    if high <= low:
        # Too narrow for two powers of two: widen it to the next ones on both sides.
        low, high = math.floor(lowest), math.ceil(highest)
        lowest, highest = low - 0.1, high + 0.1
    exponents = range(low, high + 1, math.ceil((high - low) / 8))
    as_power = as_power or low < -4 or high > 13
    if which == "x":
        axis: Axis = ax.xaxis
        ax.set_xscale("log", base=2, nonpositive="mask")
        ax.set_xlim(2.0**lowest, 2.0**highest)
    else:
        axis = ax.yaxis
        ax.set_yscale("log", base=2, nonpositive="mask")
        ax.set_ylim(2.0**lowest, 2.0**highest)
    ticks = {2.0**k: power_label(k, as_power) for k in exponents}
    if high - low < FEW_POWERS and not as_power:
        between = (1.5 * 2.0**k for k in range(low - 1, high + 1))
        ticks |= {tick: f"{tick:g}" for tick in between if lowest < math.log2(tick) < highest}
    axis.set_major_locator(FixedLocator(sorted(ticks)))
    axis.set_major_formatter(FixedFormatter([ticks[tick] for tick in sorted(ticks)]))
    axis.set_minor_locator(NullLocator())


def size_axis(ax: Axes, sizes: Iterable[float]) -> None:
    """Make the x axis of ``ax`` logarithmic with a whole number at each of ``sizes``, as far as there is room."""
    present = sorted(set(sizes))
    log2_axis(ax, "x", present)
    room = (np.log2(present[-1]) - np.log2(present[0])) / 10
    ticks: list[float] = []
    for size in present:
        if not ticks or np.log2(size) - np.log2(ticks[-1]) >= room:
            ticks.append(size)
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_major_formatter(FixedFormatter([f"{size:g}" for size in ticks]))


def power_label(exponent: int, as_power: bool) -> str:
    """2**exponent as a tick's text."""
    return f"$2^{{{exponent}}}$" if as_power else f"{2.0**exponent:g}"


def seconds_scale(values: Iterable[float]) -> tuple[float, str]:
    """Factor and unit that make times in seconds readable: ``(1e3, "ms")`` for milliseconds."""
    largest = max((abs(v) for v in values if math.isfinite(v)), default=1.0)
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "µs")):
        if largest * factor >= 1:
            return factor, unit
    return 1e6, "µs"


def bytes_scale(values: Iterable[float]) -> tuple[float, str]:
    """Factor and unit that make byte counts readable: ``(1e-6, "MB")`` for megabytes (10^6 bytes)."""
    largest = max((abs(v) for v in values if math.isfinite(v)), default=1.0)
    for factor, unit in ((1e-12, "TB"), (1e-9, "GB"), (1e-6, "MB"), (1e-3, "kB")):
        if largest * factor >= 1:
            return factor, unit
    return 1.0, "B"
