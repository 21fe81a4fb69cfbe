"""The figures of Crossbow 2019 by setting: time to accuracy, curves, comparison of methods, the tuner's trace."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from draw import figures
from draw.sweeps import NOT_REACHED, WIDEST
from runs.tasks import Setting, labels
from tables.targets import bands

ROW = 0.24
WRAP = 68
TARGET: dict[str, Any] = {"color": "#555555", "linestyle": (0, (4, 2)), "linewidth": 1.0, "zorder": 1}
MOST_LINES = 14
"""More curves in one panel cannot be followed."""
CUT_SHARE = 0.1
"""The share of the evaluations, the lowest, that may lie below a panel of curves."""
DECISIONS = {
    "start": ("begin with", "#000000", "s"),
    "taken": ("taken", "#0072B2", "o"),
    "refused": ("refused", "#D55E00", "v"),
    "impossible": ("impossible", "#CC79A7", "x"),
}
CHOSEN: dict[str, Any] = {
    "marker": "o",
    "markersize": 12,
    "markerfacecolor": "none",
    "markeredgecolor": "#009E73",
    "markeredgewidth": 1.8,
    "linestyle": "none",
}


def method_styles(methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """One colour and marker a method, in order."""
    return {name: figures.run_style(place) for place, name in enumerate(dict.fromkeys(methods))}


def time_figure(
    settings: Sequence[Setting], table: pd.DataFrame, runs: pd.DataFrame, directory: Path, name: str, caption: str
) -> list[Path]:
    """Time to accuracy: one row a setting, with its runs and their median.

    Args:
        settings: rows from the top.
        table: rows of :func:`crossbow_tables.setting_table`.
        runs: rows of :func:`crossbow_tables.with_target`.
        directory: where to.
        name: of the files.
        caption: below the panel.
    """
    names = [textwrap.fill(text, WRAP) for text in labels(settings)]
    longest = max(len(line) for text in names for line in text.split("\n"))
    height = ROW * sum(0.5 + 0.5 * len(text.split("\n")) for text in names)
    figure, axes = figures.new_figure(1, 1, panel=(3.8 + 0.06 * longest, 0.9 + height))
    ax = axes[0, 0]
    rows = table.set_index("setting")
    styles = method_styles([setting.method for setting in settings])
    factor, unit = figures.seconds_scale(runs["seconds_to_target"])
    for place, setting in enumerate(settings):
        own = runs.loc[(runs["setting"] == setting.name), "seconds_to_target"]
        _time_row(ax, place, factor * own[np.isfinite(own)], rows.loc[setting.name], factor, styles[setting.method])
    ax.set_yticks(range(len(settings)), names)
    ax.set_ylim(len(settings) - 0.4, -0.6)
    ax.grid(visible=True, axis="both")
    finite = factor * runs.loc[np.isfinite(runs["seconds_to_target"]), "seconds_to_target"]
    ax.set_xlim(0, 1.25 * finite.max())
    ax.set_xlabel(f"Training time to target accuracy ({unit})")
    handles = [Line2D([], [], **{**style, "linestyle": "none"}) for style in styles.values()]
    keys = list(styles)
    if (rows["num_known"] > rows["num_reached"]).any():
        handles.append(Line2D([], [], color="#444444", **NOT_REACHED))
        keys.append("runs that did not reach it")
    return figures.finish(figure, directory, name, handles=handles, labels=keys, caption=caption)


def _time_row(ax: Axes, place: int, seconds: pd.Series, row: pd.Series, factor: float, style: dict[str, Any]) -> None:
    """One setting: a line from its fastest to its slowest run, small points for these, a large one for the median."""
    color = style["color"]
    if len(seconds):
        ax.hlines(place, seconds.min(), seconds.max(), color=color, linewidth=1.0)
        if len(seconds) > 1:
            ax.plot(seconds, [place] * len(seconds), color=color, marker=".", markersize=4, linestyle="none")
    median = factor * row["seconds_to_target"]
    if math.isfinite(median):
        ax.plot([median], [place], **{**style, "linestyle": "none", "markersize": 7})
    missed = int(row["num_known"] - row["num_reached"])
    if missed:
        ax.plot([0.96], [place], transform=ax.get_yaxis_transform(), color=color, **NOT_REACHED)
        text = f"{missed} of {int(row['num_known'])}  "
        ax.text(0.95, place, text, transform=ax.get_yaxis_transform(), fontsize=7, va="center", ha="right", color=color)


def curve_panel(
    ax: Axes, settings: Sequence[Setting], curves: pd.DataFrame, x: str, factor: float, target: float
) -> None:
    """Accuracy against epochs or training time: median over runs as a line, lowest to highest as a band.

    Args:
        ax: the panel.
        settings: a line each, in the order of their styles.
        curves: rows of :func:`crossbow_tables.curve_table`.
        x: ``epoch`` or ``train_seconds``.
        factor: what ``x`` is multiplied by.
        target: a dashed line; NaN: none.
    """
    lowest = []
    for place, setting in enumerate(settings):
        table = bands(curves, setting.name)
        style = figures.run_style(place)
        at = factor * table[x]
        ax.plot(at, 100 * table["median"], **style, markevery=max(1, len(table) // 8))
        ax.fill_between(at, 100 * table["min"], 100 * table["max"], color=style["color"], alpha=0.18, linewidth=0)
        lowest.append(100 * table["min"])
    known = pd.concat(lowest)
    if not math.isnan(target):
        ax.axhline(100 * target, **TARGET)
    top = 100 * curves["accuracy"].max()
    bottom = min(float(known.quantile(CUT_SHARE)), 100 * target if not math.isnan(target) else math.inf)
    ax.set_ylim(bottom - 0.08 * (top - bottom) - 0.1, top + 0.08 * (top - bottom) + 0.1)
    ax.set_xlim(left=0)


def curves_legend(
    settings: Sequence[Setting], target: float, others: Sequence[Setting] = ()
) -> tuple[list[Any], list[str]]:
    """What the lines of :func:`curve_panel` are; ``others``: see :func:`crossbow_settings.labels`."""
    handles = [Line2D([], [], **figures.run_style(place)) for place in range(len(settings))]
    names = labels(settings, others)
    if not math.isnan(target):
        handles.append(Line2D([], [], **TARGET))
        names.append(f"target: {100 * target:g} %")
    return handles, names


def legend_room(width: float, names: Sequence[str]) -> float:
    """The width of a figure, in inches, so that its legend has room."""
    return max(width, min(WIDEST, 0.1 + figures.label_width(names)))


def convergence_figure(
    settings: Sequence[Setting],
    curves: pd.DataFrame,
    target: float,
    label: str,
    directory: Path,
    name: str,
    caption: str,
) -> list[Path]:
    """Accuracy against training time; arguments as of :func:`curve_panel`, ``label`` is of the axis of accuracies."""
    handles, names = curves_legend(settings, target)
    figure, axes = figures.new_figure(1, 1, panel=(legend_room(6.0, names), 3.2))
    own = curves[curves["setting"].isin([setting.name for setting in settings])]
    factor, unit = figures.seconds_scale(own["train_seconds"])
    curve_panel(axes[0, 0], settings, own, "train_seconds", factor, target)
    axes[0, 0].set_xlabel(f"Training time ({unit})")
    axes[0, 0].set_ylabel(label)
    return figures.finish(figure, directory, name, handles=handles, labels=names, caption=caption)


def methods_figure(
    settings: Sequence[Setting],
    others: Sequence[Setting],
    curves: pd.DataFrame,
    runs: pd.DataFrame,
    label: str,
    directory: Path,
    name: str,
    caption: str,
) -> list[Path]:
    """Methods against one another: accuracy by epoch at the left, final accuracy of each run at the right.

    Args:
        settings: a line each.
        others: settings that they were chosen from.
        curves: rows of :func:`crossbow_tables.curve_table`.
        runs: rows of :func:`crossbow_tables.run_table`.
        label: of the axes of accuracies.
        directory: where to.
        name: of the files.
        caption: below the panels.
    """
    handles, names = curves_legend(settings, math.nan, others)
    figure, axes = figures.new_figure(1, 2, panel=(legend_room(7.4, names) / 2, 3.0), width_ratios=[3, 2])
    own = curves[curves["setting"].isin([setting.name for setting in settings])]
    curve_panel(axes[0, 0], settings, own, "epoch", 1.0, math.nan)
    axes[0, 0].set_xlabel("Epochs")
    axes[0, 0].set_ylabel(label)
    axes[0, 0].xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    ax = axes[0, 1]
    for place, setting in enumerate(settings):
        style = {**figures.run_style(place), "linestyle": "none"}
        values = 100 * runs.loc[runs["setting"] == setting.name, "final_accuracy"].dropna()
        if values.empty:
            ax.text(place, 0.5, "not known", rotation=90, transform=ax.get_xaxis_transform(), ha="center", fontsize=7)
            continue
        ax.vlines(place, values.min(), values.max(), color=style["color"], linewidth=1.0)
        if len(values) > 1:
            ax.plot([place] * len(values), values, color=style["color"], marker=".", markersize=4, linestyle="none")
        ax.plot([place], [values.median()], **{**style, "markersize": 7})
    ax.set_xlim(-0.6, len(settings) - 0.4)
    ax.margins(y=0.15)
    ax.set_xticks(range(len(settings)), [setting.method for setting in settings], rotation=40, ha="right")
    ax.set_ylabel(f"Final {label[0].lower()}{label[1:]}")
    return figures.finish(figure, directory, name, handles=handles, labels=names, caption=caption)


def tuner_figure(trials: pd.DataFrame, directory: Path, name: str, caption: str) -> list[Path]:
    """The tuner's trials in order: throughput, engine, decision; one panel a run.

    Args:
        trials: rows of :func:`crossbow_tables.tuner_table`.
        directory: where to.
        name: of the files.
        caption: below the panels.
    """
    names = list(dict.fromkeys(trials["run"]))
    longest = int(trials["trial"].max())
    rows, columns = figures.grid_shape(len(names), 2 if longest > 6 else 3)
    figure, axes = figures.new_figure(rows, columns, panel=(max(3.4, 1.0 + 0.45 * longest), 3.0))
    for ax, run in zip(axes.flat, names, strict=False):
        own = trials[trials["run"] == run]
        _trial_panel(ax, own)
        chosen = own[own["chosen"]]
        found = f": {chosen['learners'].iloc[0]} learners a rank" if len(chosen) else ""
        ax.set_title(f"{run}{found}")
    for ax in list(axes.flat)[len(names) :]:
        ax.set_visible(False)
    shown = [decision for decision in DECISIONS if decision in set(trials["decision"])]
    handles: list[Any] = [
        Line2D([], [], color=DECISIONS[key][1], marker=DECISIONS[key][2], linestyle="none") for key in shown
    ]
    handles.append(Line2D([], [], **{**CHOSEN, "markersize": 8}))
    keys = [*(DECISIONS[key][0] for key in shown), "chosen"]
    return figures.finish(figure, directory, name, handles=handles, labels=keys, caption=caption)


def gain_text(gain: float, against: int) -> str:
    """A gain in per cent, over which number of learners."""
    percent = round(100 * gain)
    sign = "+" if percent > 0 else "−" if percent < 0 else "±"
    return f"{sign}{abs(percent)} %\nvs {against}"


def _trial_panel(ax: Axes, trials: pd.DataFrame) -> None:
    """The trials of one run."""
    ax.plot(trials["trial"], trials["samples_per_second"], color="#bbbbbb", linewidth=1.0, zorder=1)
    top = trials[["samples_per_second", "samples_per_second_max"]].max().max()
    for row in trials.itertuples():
        _, color, marker = DECISIONS[row.decision]
        known = math.isfinite(row.samples_per_second)
        at = row.samples_per_second if known else 0.0
        if known:
            ax.vlines(row.trial, row.samples_per_second_min, row.samples_per_second_max, color=color, linewidth=1.0)
        ax.plot([row.trial], [at], color=color, marker=marker, markersize=6, linestyle="none", clip_on=False)
        if row.chosen:
            ax.plot([row.trial], [at], **CHOSEN)
        if math.isfinite(row.gain):
            high = max(at, row.samples_per_second_max)
            ax.annotate(
                gain_text(row.gain, row.against),
                (row.trial, high),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=6.5,
                color=color,
            )
    ax.set_xticks(trials["trial"], [f"{row.learners}\n{row.engine}" for row in trials.itertuples()], fontsize=7)
    ax.set_xlim(trials["trial"].min() - 0.6, trials["trial"].max() + 0.6)
    ax.set_ylim(0, 1.18 * top)
    ax.set_xlabel("Learners a rank tried, in order; engine")
    ax.set_ylabel("Throughput (samples/s)")
