"""The figures of Shallue 2019 (arXiv 1811.03600), drawn from the tables of ``shallue_tables``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from draw import figures

BATCH_LABEL = "Batch size (samples)"
STEPS_LABEL = "Steps to result"
OURS: dict[str, Any] = {"color": figures.RUN_COLORS[0], "marker": "o"}
PUBLISHED: dict[str, Any] = {"color": "#777777", "markerfacecolor": "none", "linewidth": 0.9, "markersize": 4}
SHADES = {
    "perfect scaling": "#DCEBF5",
    "diminishing returns": "#FBF3D5",
    "maximal data parallelism": "#F6E2D8",
}
STATUS_STYLE: dict[str, dict[str, Any]] = {
    "goal reached": {"marker": "o", "color": "#0072B2", "s": 14},
    "goal not reached": {"marker": "s", "facecolor": "none", "edgecolor": "#999999", "s": 14, "linewidth": 0.8},
    "infeasible (diverged)": {"marker": "x", "color": "#D55E00", "s": 18, "linewidth": 1.0},
}
BEST: dict[str, Any] = {
    "marker": "*",
    "color": "#E69F00",
    "s": 90,
    "edgecolor": "#000000",
    "linewidth": 0.5,
    "zorder": 4,
}


def title(text: str, characters: int = 52) -> str:
    """A panel's title, broken at commas where it is long."""
    lines = [""]
    for part in text.split(", "):
        joined = f"{lines[-1]}, {part}" if lines[-1] else part
        if len(joined) > characters:
            lines[-1] += ","
            lines.append(part)
        else:
            lines[-1] = joined
    return "\n".join(lines)


def steps_axes(ax: Axes, sizes: Sequence[float], steps: Sequence[float]) -> None:
    """Both axes in powers of two."""
    figures.log2_axis(ax, "x", sizes, as_power=True)
    figures.log2_axis(ax, "y", steps, as_power=True)
    ax.set_xlabel(BATCH_LABEL)
    ax.set_ylabel(STEPS_LABEL)


def shade_regimes(ax: Axes, perfect_until: float, maximal_from: float) -> None:
    """Shade the three regimes: to the last batch size of the first, from the first of the third (infinite: none)."""
    low, high = ax.get_xlim()
    edges = (low, perfect_until, min(max(perfect_until, maximal_from), high), high)
    for name, left, right in zip(SHADES, edges, edges[1:], strict=False):
        if right > left:
            ax.axvspan(left, right, color=SHADES[name], linewidth=0, zorder=0)
    ax.set_xlim(low, high)


def steps_figure(
    workloads: Sequence[tuple[str, pd.DataFrame, Mapping[str, float], pd.DataFrame]], directory: Path, caption: str
) -> list[Path]:
    """Figure 1: steps to result with the perfect-scaling line, the regimes and the published points.

    Args:
        workloads: name, rows of the result table with ``low_steps`` and ``high_steps``, the row of the regimes (empty:
            none), and the published points of the same data set.
        directory: where to.
        caption: below the figure.
    """
    rows, columns = figures.grid_shape(len(workloads), 2)
    figure, axes = figures.new_figure(rows, columns, panel=(4.6, 3.4))
    handles: dict[str, Any] = {}
    for ax, (name, table, regime, points) in zip(axes.flat, workloads, strict=False):
        known = table[table["steps_to_result"].notna()]
        steps_axes(
            ax,
            [*table["batch_size"], *points["batch_size"]],
            [
                *known["steps_to_result"],
                *known["high_steps"][np.isfinite(known["high_steps"])],
                *known["perfect_steps"].dropna(),
                *points["steps"],
            ],
        )
        for place, (label, series) in enumerate(points.groupby(["model", "optimizer", "goal"], sort=False)):
            model, optimizer, goal = label
            text = f"published: {model}, {optimizer}, goal {goal}"
            style = PUBLISHED | {"marker": figures.RUN_MARKERS[(place + 1) % len(figures.RUN_MARKERS)]}
            handles.setdefault(text, ax.plot(series["batch_size"], series["steps"], **style, zorder=2)[0])
        ideal = known[known["perfect_steps"].notna()]
        handles.setdefault(
            "perfect scaling from the smallest batch",
            ax.plot(ideal["batch_size"], ideal["perfect_steps"], **figures.IDEAL)[0],
        )
        whiskers = [
            (known["steps_to_result"] - known["low_steps"]).clip(lower=0).fillna(0),
            # Infinite where too many draws do not reach the goal: to the edge of the panel.
            (known["high_steps"].clip(upper=ax.get_ylim()[1]) - known["steps_to_result"]).clip(lower=0).fillna(0),
        ]
        drawn = ax.errorbar(known["batch_size"], known["steps_to_result"], yerr=whiskers, capsize=2, zorder=3, **OURS)
        handles.setdefault("measured, with the 95 % interval over trials", drawn)
        if regime:
            shade_regimes(ax, regime["perfect_until"], regime["maximal_from"])
            for text, colour in SHADES.items():
                handles.setdefault(text, Patch(color=colour))
        ax.set_title(title(f"{name}, goal {table['goal'].iloc[0]:g}"))
    hide_rest(axes.flat, len(workloads))
    return figures.finish(
        figure, directory, "shallue_steps", handles=list(handles.values()), labels=list(handles), caption=caption
    )


def lines_figure(
    panels: Sequence[tuple[str, Sequence[tuple[str, Mapping[int, float]]]]], directory: Path, name: str, caption: str
) -> list[Path]:
    """Figures 2 to 7: steps to result against batch size, one line for each of several goals, models, ...

    Args:
        panels: title and the labelled lines of each.
        directory: where to.
        name: of the files.
        caption: below the figure.
    """
    rows, columns = figures.grid_shape(len(panels), 2)
    figure, axes = figures.new_figure(rows, columns, panel=(4.4, 3.2))
    labels = list(dict.fromkeys(label for _, lines in panels for label, _ in lines))
    styles = {label: figures.run_style(place) for place, label in enumerate(labels)}
    for ax, (text, lines) in zip(axes.flat, panels, strict=False):
        for label, steps in lines:
            sizes = sorted(steps)
            ax.plot(sizes, [steps[size] for size in sizes], **styles[label])
        every = [steps for _, steps in lines]
        steps_axes(
            ax, [size for steps in every for size in steps], [value for steps in every for value in steps.values()]
        )
        ax.set_title(title(text))
    hide_rest(axes.flat, len(panels))
    handles = [Line2D([], [], **styles[label]) for label in labels]
    return figures.finish(figure, directory, name, handles=handles, labels=labels, caption=caption)


def rates_figure(table: pd.DataFrame, directory: Path, caption: str) -> list[Path]:
    """Figure 8: the optimal effective learning rate against the batch size, with both heuristics."""
    names = list(dict.fromkeys(table["workload"]))
    rows, columns = figures.grid_shape(len(names), 2)
    figure, axes = figures.new_figure(rows, columns, panel=(4.4, 3.2))
    lines = {
        "optimal_effective_learning_rate": ("optimal", OURS),
        "linear": ("linear heuristic", {"color": "#D55E00", "linestyle": (0, (5, 1.5)), "linewidth": 1.1}),
        "sqrt": ("square-root heuristic", {"color": "#009E73", "linestyle": (0, (1, 1)), "linewidth": 1.3}),
    }
    handles: dict[str, Any] = {}
    for ax, name in zip(axes.flat, names, strict=False):
        own = table[table["workload"] == name]
        for column, (label, style) in lines.items():
            handles.setdefault(label, ax.plot(own["batch_size"], own[column], **style)[0])
        figures.log2_axis(ax, "x", own["batch_size"], as_power=True)
        figures.log2_axis(ax, "y", [value for column in lines for value in own[column]], as_power=True)
        ax.set_xlabel(BATCH_LABEL)
        ax.set_ylabel("Effective learning rate η / (1 − μ)")
        ax.set_title(title(f"{name}, goal {own['goal'].iloc[0]:g}"))
    hide_rest(axes.flat, len(names))
    return figures.finish(
        figure, directory, "shallue_rates", handles=list(handles.values()), labels=list(handles), caption=caption
    )


def scatter_figure(name: str, trials: pd.DataFrame, directory: Path, file: str, caption: str) -> list[Path]:
    """Figure 9: learning rate and momentum of all trials, one panel a batch size."""
    sizes = sorted(set(trials["batch_size"]))
    rows, columns = figures.grid_shape(len(sizes), 4)
    figure, axes = figures.new_figure(rows, columns, panel=(2.2, 2.0), sharex=True, sharey=True)
    gap = 1 - trials["momentum"]
    for ax, size in zip(axes.flat, sizes, strict=False):
        own = trials[trials["batch_size"] == size]
        for kind, part in outcome_groups(own):
            ax.scatter(part["learning_rate"], gap[part.index], **STATUS_STYLE[kind], zorder=3)
        best = own[own["best"]]
        ax.scatter(best["learning_rate"], gap[best.index], **BEST)
        ax.set_title(f"batch size {size}")
    for ax in axes.flat:
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.grid(True, axis="both")
    axes.flat[0].invert_yaxis()
    for ax in axes[:, 0]:
        ax.set_ylabel("1 − momentum")
    hide_rest(axes.flat, len(sizes))
    label_lowest(figure, axes, len(sizes), "Learning rate η")
    handles: list[Any] = [Line2D([], [], linestyle="none", **legend_style(style)) for style in STATUS_STYLE.values()]
    handles.append(
        Line2D([], [], linestyle="none", marker="*", color="#E69F00", markeredgecolor="#000000", markersize=9)
    )
    return figures.finish(
        figure, directory, file, handles=handles, labels=[*STATUS_STYLE, "best trial"], caption=f"{name}. {caption}"
    )


def outcome_groups(trials: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Trials that reached the goal, did not, and diverged."""
    diverged = trials["status"] == "INFEASIBLE"
    reached = trials["reached"] & ~diverged
    names = list(STATUS_STYLE)
    return [(names[1], trials[~reached & ~diverged]), (names[2], trials[diverged]), (names[0], trials[reached])]


def legend_style(style: Mapping[str, Any]) -> dict[str, Any]:
    """A scatter's style for a legend's line."""
    colour = style.get("color", style.get("edgecolor"))
    filled = style.get("facecolor", colour)
    return {"marker": style["marker"], "color": colour, "markerfacecolor": filled, "markersize": 5}


def label_lowest(figure: Figure, axes: Any, count: int, text: str) -> None:
    """Label the x axis of the lowest panel of each column, also where the last row is not full."""
    rows, columns = axes.shape
    for column in range(columns):
        lowest = max((row for row in range(rows) if row * columns + column < count), default=None)
        if lowest is not None:
            axes[lowest, column].set_xlabel(text)
            axes[lowest, column].tick_params(labelbottom=True)


def budgets_figure(table: pd.DataFrame, metric: str, directory: Path, file: str, caption: str) -> list[Path]:
    """Figure 11: the best metric against the batch size under step budgets and under epoch budgets."""
    kinds = [kind for kind in ("steps", "epochs") if (table["kind"] == kind).any()]
    figure, axes = figures.new_figure(1, len(kinds), panel=(4.4, 3.2))
    handles: dict[str, Any] = {}
    for ax, kind in zip(axes.flat, kinds, strict=True):
        own = table[table["kind"] == kind]
        for budget, line in own.groupby("budget"):
            style = figures.run_style(len(handles))
            handles[f"{budget:g} {kind}"] = ax.plot(line["batch_size"], line["best_metric"], **style)[0]
        figures.log2_axis(ax, "x", own["batch_size"], as_power=True)
        ax.set_xlabel(BATCH_LABEL)
        ax.set_ylabel(f"Best {metric}")
        ax.set_title("step budgets" if kind == "steps" else "epoch budgets")
    return figures.finish(
        figure, directory, file, handles=list(handles.values()), labels=list(handles), caption=caption
    )


def hide_rest(axes: Any, count: int) -> None:
    """Hide the panels that nothing is drawn in."""
    for ax in list(axes)[count:]:
        ax.set_visible(False)
