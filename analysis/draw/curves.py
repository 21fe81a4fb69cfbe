"""The figures of Goyal 2017 that are drawn from errors, curves and schedules by setting."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from draw import figures
from runs.settings import ORDER, Setting
from tables.errors import TRAINING, percent_text

BATCH_LABEL = "Minibatch kn (samples)"
BASELINE: dict[str, Any] = {"color": "#555555", "linestyle": (0, (4, 2)), "linewidth": 1.2}
DIVERGED: dict[str, Any] = {"marker": "x", "markersize": 6, "markeredgewidth": 1.6, "linestyle": "none"}
DODGE = 0.05
ROOM_FOR_CROSSES = 1.3
TITLE_CHARACTERS = 44
LABEL_CHARACTERS = 50
MEAN_NOTE = "Lines: mean over the runs of a setting; bands: from the lowest to the highest of them."
DIVERGED_NOTE = "Thin lines that end in a cross: runs that diverged, in no mean."


def kind_styles(kinds: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Colour, marker and dashes of series, by scaling rule and warm-up: the same kind looks alike in all figures."""
    seen: dict[tuple[str, str], int] = {}
    styles = []
    for kind in kinds:
        repeat = seen[kind] = seen.get(kind, -1) + 1
        styles.append(figures.run_style(ORDER.index(kind) + repeat * len(ORDER)))
    return styles


def size_styles(sizes: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Styles of minibatches, from dark for the smallest to bright; markers tell them apart too."""
    ordered = sorted(set(sizes))
    shades = colormaps["viridis"](np.linspace(0, 0.88, len(ordered)))
    markers = figures.RUN_MARKERS
    return {
        size: {"color": to_hex(shade), "marker": markers[place % len(markers)]}
        for place, (size, shade) in enumerate(zip(ordered, shades, strict=True))
    }


def error_axis(ax: Axes, values: Any, label: str) -> None:
    """A logarithmic axis of errors or losses."""
    known = np.asarray(values, dtype=float)
    figures.log2_axis(ax, "y", known[np.isfinite(known)])
    ax.set_ylabel(label)


def draw_errors(ax: Axes, table: pd.DataFrame, styles: Sequence[dict[str, Any]]) -> None:
    """Error against minibatch, one line a series with its standard deviations; crosses at the top for diverged runs.

    Args:
        ax: the panel.
        table: rows of :func:`goyal_tables.setting_table`.
        styles: of its series, in order.
    """
    names = list(dict.fromkeys(table["series"]))
    for place, (name, style) in enumerate(zip(names, styles, strict=True)):
        part = table[table["series"] == name].sort_values("global_batch_size")
        x = part["global_batch_size"] * 2.0 ** (DODGE * (place - (len(names) - 1) / 2))
        known = part["error_percent"].notna()
        ax.plot(x[known], part["error_percent"][known], **style)
        spread = known & part["error_std_percent"].notna()
        ax.errorbar(
            x[spread],
            part["error_percent"][spread],
            yerr=part["error_std_percent"][spread],
            fmt="none",
            ecolor=style["color"],
            capsize=2.5,
            linewidth=1.0,
        )
        for at, row in zip(x, part.itertuples(), strict=True):
            if row.num_diverged:
                above = ax.get_xaxis_transform()
                ax.plot([at], [0.96], transform=above, color=style["color"], clip_on=False, **DIVERGED)
                text = f"   {row.num_diverged} of {row.num_runs}"
                ax.text(at, 0.96, text, transform=above, fontsize=6.5, ha="left", va="center", color=style["color"])
    figures.log2_axis(ax, "x", table["global_batch_size"], as_power=True)
    ax.set_xlabel(BATCH_LABEL)


def error_figure(
    table: pd.DataFrame,
    kinds: Sequence[tuple[str, str]],
    published: pd.DataFrame,
    label: str,
    directory: Path,
    caption: str,
) -> list[Path]:
    """Figure 1: error against minibatch, ours at the left, the published one at the right.

    Args:
        table: rows of :func:`goyal_tables.setting_table`.
        kinds: scaling rule and warm-up of each of its series, in order.
        published: the same columns, of the paper.
        label: of the axis of errors.
        directory: where to.
        caption: below the panels.
    """
    named = published.drop_duplicates("series")
    published_styles = kind_styles(list(zip(named["scaling_rule"], named["warmup"], strict=True)))
    panels = (
        (table, kind_styles(kinds), "our runs", label),
        (published, published_styles, "published: ResNet-50 on ImageNet", "Validation error (%)"),
    )
    figure, axes = figures.new_figure(1, len(panels), panel=(3.6, 2.8))
    handles: list[Any] = []
    labels: list[str] = []
    shown: list[dict[str, Any]] = []
    for ax, (rows, styles, title, text) in zip(axes.flat, panels, strict=True):
        draw_errors(ax, rows, styles)
        spread = rows["error_std_percent"].fillna(0)
        error_axis(ax, np.concatenate([rows["error_percent"] - spread, rows["error_percent"] + spread]), text)
        if rows["num_diverged"].any():
            ax.set_ylim(top=ROOM_FOR_CROSSES * ax.get_ylim()[1])
        ax.set_title(title)
        for name, style in zip(dict.fromkeys(rows["series"]), styles, strict=True):
            if style not in shown:
                shown.append(style)
                handles.append(Line2D([], [], **style))
                labels.append(str(name))
    if table["num_diverged"].any():
        handles.append(Line2D([], [], color="#444444", **DIVERGED))
        labels.append("runs that diverged")
    return figures.finish(figure, directory, "goyal_error", handles=handles, labels=labels, caption=caption)


def draw_curve(ax: Axes, curves: pd.DataFrame, setting: Setting, column: str, style: dict[str, Any]) -> None:
    """One setting's curve in a panel: mean and range over its runs, those that diverged on their own.

    Args:
        ax: the panel.
        curves: rows of :func:`goyal_tables.curve_table`.
        setting: whose.
        column: what is drawn.
        style: of the line; a marker stands at its end.
    """
    own = curves[(curves["setting"] == setting.name) & curves[column].notna()]
    by_epoch = own[~own["diverged"]].groupby("epoch")[column].agg(["mean", "min", "max"])
    ax.plot(by_epoch.index, by_epoch["mean"], **{**style, "marker": ""})
    if "marker" in style:
        ax.plot(by_epoch.index[-1:], by_epoch["mean"].iloc[-1:], **{**style, "linestyle": "none"})
    ax.fill_between(by_epoch.index, by_epoch["min"], by_epoch["max"], color=style["color"], alpha=0.2, linewidth=0)
    for _, part in own[own["diverged"]].groupby("run"):
        ax.plot(part["epoch"], part[column], **{**style, "marker": "", "linewidth": 0.7})
        ax.plot(part["epoch"].iloc[-1:], part[column].iloc[-1:], **{**DIVERGED, "color": style["color"]})


def error_text(row: Any) -> str:
    """The final error of a setting, as a row of its table has it."""
    parts = []
    if not math.isnan(row.error_percent):
        parts.append(percent_text(row.error_percent, row.error_std_percent))
    if row.num_diverged:
        parts.append(f"{row.num_diverged} of {row.num_runs} diverged")
    if row.num_unfinished:
        parts.append(f"{row.num_unfinished} of {row.num_runs} unfinished")
    return ", ".join(parts) or "no evaluation"


def versus_figure(
    settings: Sequence[tuple[Setting, str]],
    baseline: Setting | None,
    table: pd.DataFrame,
    curves: pd.DataFrame,
    quantity: str,
    directory: Path,
    name: str,
    caption: str,
) -> list[Path]:
    """Figures 2 and 3: a panel a setting, each with the small minibatch; training curves.

    Args:
        settings: each with what its panel is called.
        baseline: the small minibatch; None: not drawn.
        table: rows of :func:`goyal_tables.setting_table`.
        curves: rows of :func:`goyal_tables.curve_table`.
        quantity: the column of it that is drawn.
        directory: where to.
        name: of the files.
        caption: below the panels.
    """
    columns = 4 if len(settings) % 3 == 1 or len(settings) > 6 else 3
    rows, columns = math.ceil(len(settings) / columns), min(columns, len(settings))
    figure, axes = figures.new_figure(rows, columns, panel=(2.5, 2.2), sharex=True, sharey=True)
    texts = {row.setting: error_text(row) for row in table.itertuples()}
    shown = [setting for setting, _ in settings]
    styles = kind_styles([(setting.rule, setting.warmup) for setting in shown])
    handles, labels = [], []
    if baseline is not None:
        shown.append(baseline)
        handles.append(Line2D([], [], **BASELINE))
        labels.append(f"small minibatch: kn = {baseline.global_batch_size}, {texts[baseline.name]}")
    for ax, (setting, title), style in zip(axes.flat, settings, styles, strict=False):
        if baseline is not None:
            draw_curve(ax, curves, baseline, quantity, BASELINE)
        one_kind = len({(item.rule, item.warmup) for item, _ in settings}) == 1
        draw_curve(ax, curves, setting, quantity, {**(styles[0] if one_kind else style), "linestyle": "-"})
        ax.set_title(f"{title}\n{texts[setting.name]}")
    for ax in list(axes.flat)[len(settings) :]:
        ax.set_visible(False)
    drawn = curves[curves["setting"].isin([setting.name for setting in shown])]
    for ax in axes.flat:
        ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        ax.set_xlim(left=0)
    error_axis(axes[0, 0], drawn[quantity], TRAINING[quantity])
    for row in axes:
        row[0].set_ylabel(TRAINING[quantity])
    for place in range(len(settings)):
        below = place + columns >= len(settings)
        ax = axes.flat[place]
        ax.set_xlabel("Epochs" if below else "")
        ax.tick_params(labelbottom=below)
    return figures.finish(figure, directory, name, handles=handles, labels=labels, caption=caption)


def curves_figure(
    series: Sequence[Setting],
    curves: pd.DataFrame,
    quantity: str,
    label: str,
    directory: Path,
    name: str,
    caption: str,
) -> list[Path]:
    """Figure 4: training curves at the left, those of the held-out set at the right, one colour a minibatch.

    Arguments as of :func:`versus_figure`; ``label`` is of the axis of held-out errors.
    """
    figure, axes = figures.new_figure(1, 2, panel=(3.5, 2.8))
    styles = size_styles([setting.global_batch_size for setting in series])
    drawn = curves[curves["setting"].isin([setting.name for setting in series])]
    for ax, column, text in zip(axes.flat, (quantity, "error_percent"), (TRAINING[quantity], label), strict=True):
        for setting in series:
            draw_curve(ax, curves, setting, column, styles[setting.global_batch_size])
        error_axis(ax, drawn[column], text)
        ax.set_xlabel("Epochs")
        ax.set_xlim(left=0)
        ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    handles = [Line2D([], [], **style) for style in styles.values()]
    labels = [f"kn = {size}" for size in styles]
    return figures.finish(figure, directory, name, handles=handles, labels=labels, caption=caption)


def schedule_figure(
    panels: Sequence[tuple[str, Sequence[tuple[Setting, str]]]], schedules: pd.DataFrame, directory: Path, caption: str
) -> list[Path]:
    """The learning rate as run against epochs: a panel for each group of settings, each with its title and labels."""
    rows, columns = figures.grid_shape(len(panels), 2)
    longest = min(LABEL_CHARACTERS, max(len(text) for _, settings in panels for _, text in settings))
    titles = [textwrap.fill(title, TITLE_CHARACTERS) for title, _ in panels]
    height = 2.5 + figures.LEGEND_ROW * max(title.count("\n") + 1 for title in titles)
    figure, axes = figures.new_figure(rows, columns, panel=(3.4 + figures.CHARACTER * longest, height))
    for ax, title, (_, settings) in zip(axes.flat, titles, panels, strict=False):
        styles = kind_styles([(setting.rule, setting.warmup) for setting, _ in settings])
        sizes = [setting.global_batch_size for setting, _ in settings]
        if len(set(sizes)) == len(sizes) > 1:
            by_size = size_styles(sizes)
            styles = [by_size[size] for size in sizes]
        rates = []
        for place, ((setting, text), style) in enumerate(zip(settings, styles, strict=True)):
            part = schedules[schedules["setting"] == setting.name]
            rates.append(part["learning_rate"])
            # Where schedules coincide, the first ones show on both sides of the later.
            width = 1.4 + 0.8 * (len(settings) - 1 - place) if len(set(sizes)) == 1 else 1.5
            ax.plot(
                part["epoch"],
                part["learning_rate"],
                **style,
                linewidth=width,
                markevery=[len(part) - 1],
                label=textwrap.fill(text, LABEL_CHARACTERS),
            )
        error_axis(ax, np.concatenate(rates), "Learning rate η")
        ax.set_xlabel("Epochs")
        ax.set_xlim(left=0)
        ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        ax.set_title(title)
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=7, handlelength=1.8, labelspacing=0.3)
    for ax in list(axes.flat)[len(panels) :]:
        ax.set_visible(False)
    return figures.finish(figure, directory, "goyal_schedules", caption=caption)
