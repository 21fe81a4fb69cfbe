"""The timing figures: tables of timing_tables.py and iteration_tables.py in, files out."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from draw import figures
from hpcsgd.record.schema import NOT_TRAINING
from runs.logs import Entry
from tables.iterations import ALL_RANKS, OF_RECORD

MOST_BARS = 24
TRAINING = [name for name in figures.SPANS if name not in NOT_TRAINING]
WHISKER: dict[str, Any] = {"color": "black", "marker": "o", "markersize": 3, "linestyle": "none", "linewidth": 1.0}
MEDIAN_LABEL = "median, 5th to 95th percentile"


def panels(count: int, share_y: bool) -> tuple[Figure, np.ndarray[Any, Any], list[Axes]]:
    """A figure with ``count`` panels: the figure, its grid of axes, and the axes in use. One panel alone is wide."""
    rows, columns = figures.grid_shape(count)
    figure, axes = figures.new_figure(rows, columns, panel=(7.0, 2.8) if count == 1 else (3.2, 2.5), sharey=share_y)
    for ax in axes.flat[count:]:
        ax.remove()
    return figure, axes, list(axes.flat[:count])


def title(ax: Axes, *texts: str) -> None:
    """A panel's title: each text on a line of its own, or on several where it is long."""
    unbroken = (re.sub(r" = |(?<=\d) (?=rank)", lambda match: match[0].replace(" ", "\u00a0"), t) for t in texts)
    ax.set_title("\n".join(line for text in unbroken for line in textwrap.wrap(text, 44)))


def bar_width(count: int) -> float:
    """Width of ``count`` bars: touching where they are many, slim where they are few."""
    if count > MOST_BARS:
        return 1.0
    return 0.75 if count > 2 else 0.5


def bars(ax: Axes, height: np.ndarray[Any, Any], bottom: np.ndarray[Any, Any], **look: Any) -> None:
    """A bar at each of 0, 1, ... on ``bottom``; many, which touch, are drawn as one area of the same outline."""
    place = np.arange(len(height))
    if len(height) <= MOST_BARS:
        ax.bar(place, height, bar_width(len(height)), bottom=bottom, linewidth=0, **look)
        return
    low, high = (np.append(values, values[-1:]) for values in (bottom, bottom + height))
    ax.fill_between(np.append(place, len(place)) - 0.5, low, high, step="post", linewidth=0, **look)


def by_rank(entries: Sequence[Entry], spans: pd.DataFrame, directory: Path, caption: str) -> list[Path]:
    """Mean time of every span, stacked, for every rank of every run; median and percentiles of the rank's total."""
    drawn = [item for item in entries if item.name in set(spans["run"])]
    factor, unit = figures.seconds_scale(spans.loc[spans["span"] == "train", "p95_seconds"])
    figure, axes, used = panels(len(drawn), share_y=True)
    for ax, item in zip(used, drawn, strict=True):
        _rank_panel(ax, spans[spans["run"] == item.name], factor)
        title(ax, item.name, item.description)
    used[0].set_ylim(bottom=0)
    for ax in axes[:, 0]:
        ax.set_ylabel(f"Time per iteration ({unit})")
    seen = [
        name for name in TRAINING if spans.loc[spans["span"] == name.removesuffix("_seconds"), "mean_seconds"].any()
    ]
    handles: list[Any] = [Patch(color=figures.SPANS[name][1]) for name in seen]
    labels = [figures.SPANS[name][0] for name in seen]
    handles.append(Line2D([], [], **{**WHISKER, "linestyle": "-"}))
    text = (
        "Bars: mean over iterations. Dots and whiskers: median and 5th to 95th percentile over iterations; "
        "max: time of record, the maximum over ranks. " + caption
    )
    return figures.finish(
        figure, directory, "timing_iteration", handles=handles, labels=[*labels, MEDIAN_LABEL], caption=text
    )


def _rank_panel(ax: Axes, spans: pd.DataFrame, factor: float) -> None:
    """One run's bars: a bar a rank, and the time of record at the right."""
    ranks = [label for label in spans["rank"].unique() if label not in (ALL_RANKS, OF_RECORD)]
    place = np.arange(len(ranks))
    many = len(ranks) > MOST_BARS
    bottom = np.zeros(len(ranks))
    table = spans.pivot(index="span", columns="rank", values="mean_seconds")
    for name in TRAINING:
        height = table.loc[name.removesuffix("_seconds"), ranks].to_numpy(dtype=float) * factor
        bars(ax, height, bottom, facecolor=figures.SPANS[name][1])
        bottom = bottom + height
    total = spans[spans["span"] == "train"].set_index("rank")
    if many:
        for name, dashes in (("median", "-"), ("p5", ":"), ("p95", ":")):
            ax.plot(place, total.loc[ranks, f"{name}_seconds"] * factor, color="black", linestyle=dashes, linewidth=0.8)
    else:
        whiskers(ax, place, total.loc[ranks], factor)
    beside = len(ranks) + (0.04 * len(ranks) if many else 0.0)
    whiskers(ax, np.array([beside]), total.loc[[OF_RECORD]], factor)
    step = max(1, -(-len(ranks) // 8))
    ax.set_xticks([*place[::step], beside], [*ranks[::step], OF_RECORD])
    ax.set_xlabel("Statistic over ranks" if ranks == ["median"] else "Rank")


def whiskers(ax: Axes, x: Any, stats: pd.DataFrame, factor: float, prefix: str = "", **options: Any) -> None:
    """Dots at the medians with whiskers from the 5th to the 95th percentile."""
    middle, low, high = (stats[f"{prefix}{p}_seconds"].to_numpy() * factor for p in ("median", "p5", "p95"))
    ax.errorbar(x, middle, yerr=[middle - low, high - middle], **{**WHISKER, **options})


def along_run(entries: Sequence[Entry], windows: pd.DataFrame, directory: Path, caption: str) -> list[Path]:
    """Time of record per iteration along the run: median and percentiles of each window."""
    factor, unit = figures.seconds_scale(windows["median_seconds"])
    figure, axes, used = panels(len(entries), share_y=True)
    for place, (ax, item) in enumerate(zip(used, entries, strict=True)):
        part = windows[windows["run"] == item.name]
        style = figures.run_style(place)
        middle = (part["first_step"] + part["last_step"]) / 2
        low, high = (part[f"{p}_seconds"] * factor for p in ("p5", "p95"))
        ax.fill_between(middle, low, high, color=style["color"], alpha=0.25, linewidth=0)
        marker = style["marker"] if len(part) == 1 else ""
        ax.plot(middle, part["median_seconds"] * factor, color=style["color"], marker=marker)
        title(ax, item.name, item.description)
        ax.set_xlabel("Optimizer step")
        ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    top, cut = upper_limit(windows)
    used[0].set_ylim(0, top * factor)
    for ax in axes[:, 0]:
        ax.set_ylabel(f"Time per iteration ({unit})")
    handles = [Line2D([], [], color="#444444"), Patch(color="#444444", alpha=0.25, linewidth=0)]
    text = f"Time of record (maximum over ranks), in windows of iterations; no iteration is left out. {cut}{caption}"
    return figures.finish(
        figure,
        directory,
        "timing_along_run",
        handles=handles,
        labels=["median", "5th to 95th percentile"],
        caption=text,
    )


def upper_limit(windows: pd.DataFrame) -> tuple[float, str]:
    """The largest seconds to draw, and what to say where that cuts something off.

    A few windows, as the first with its slow first iterations, would flatten all the rest: these reach out of the axis.
    """
    largest = float(windows["p95_seconds"].max())
    top = max(1.2 * float(windows["median_seconds"].max()), 1.2 * float(windows["p95_seconds"].quantile(0.95)))
    if largest <= top:
        return 1.05 * largest, ""
    return top, f"Percentiles of some windows reach out of the axis, up to {largest:.3g} s. "


def per_epoch(entries: Sequence[Entry], epochs: pd.DataFrame, directory: Path, caption: str) -> list[Path]:
    """The clocks of every epoch: training, evaluation, checkpoints where there are any, logging."""
    clocks = {name: name.removesuffix("_seconds").capitalize() for name in ("train_seconds", *NOT_TRAINING)}
    if not epochs["checkpoint_seconds"].any():
        del clocks["checkpoint_seconds"]
    figure, axes = figures.new_figure(1, len(clocks), panel=(2.5, 2.5))
    handles = []
    for ax, (name, text) in zip(axes.flat, clocks.items(), strict=True):
        factor, unit = figures.seconds_scale(epochs[name])
        for place, item in enumerate(entries):
            style = figures.run_style(place)
            part = epochs[epochs["run"] == item.name]
            whole, cut = part[part["complete"]], part[~part["complete"]]
            ax.plot(part["epoch"], part[name] * factor, color=style["color"], linestyle=style["linestyle"])
            ax.plot(whole["epoch"], whole[name] * factor, **{**style, "linestyle": "none"})
            ax.plot(cut["epoch"], cut[name] * factor, **{**style, "linestyle": "none", "markerfacecolor": "white"})
            if ax is axes.flat[0]:
                handles.append(Line2D([], [], **style))
        ax.set_title(text)
        ax.set_xlabel("Epoch")
        ax.set_ylabel(f"Time per epoch ({unit})")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        ax.set_ylim(bottom=0)
    text = "Each clock is the maximum over ranks; no epoch is left out."
    if not epochs["complete"].all():
        text += " Open markers: epochs that are not whole in the log (cut by max_steps, or begun before it)."
    labels = [item.label for item in entries]
    return figures.finish(
        figure, directory, "timing_epoch", handles=handles, labels=labels, caption=f"{text} {caption}"
    )


def wait_and_transfer(entries: Sequence[Entry], waits: pd.DataFrame, directory: Path, caption: str) -> list[Path]:
    """Mean wait on mean transfer of every synchronisation, for every rank; one panel a run and kind."""
    chosen = [
        (item, kind)
        for item in entries
        for kind in figures.SYNCHRONISATIONS
        if ((waits["run"] == item.name) & (waits["synchronisation"] == kind)).any()
    ]
    figure, _, used = panels(len(chosen), share_y=False)
    for ax, (item, kind) in zip(used, chosen, strict=True):
        part = waits[(waits["run"] == item.name) & (waits["synchronisation"] == kind)]
        _wait_panel(ax, part, kind)
        title(ax, item.name, item.description, figures.SYNCHRONISATIONS[kind][0])
    handles: list[Any] = []
    labels = []
    for kind, (name, dark, light) in figures.SYNCHRONISATIONS.items():
        if (waits["synchronisation"] == kind).any():
            handles += [Patch(color=dark), Patch(facecolor=light, edgecolor=dark, hatch="////", linewidth=0)]
            labels += [f"{name}: transfer", f"{name}: wait"]
    handles.append(Line2D([], [], **{**WHISKER, "linestyle": "-"}))
    text = (
        "Transfer: the shortest duration over the ranks of the same call. Wait: a rank's own duration less the "
        "transfer. Bars: means; dots and whiskers: own duration. The panels' scales differ. " + caption
    )
    labels.append(f"own duration: {MEDIAN_LABEL}")
    return figures.finish(figure, directory, "timing_wait_transfer", handles=handles, labels=labels, caption=text)


def _wait_panel(ax: Axes, part: pd.DataFrame, kind: str) -> None:
    """One run's synchronisations of one kind: a bar a rank."""
    _, dark, light = figures.SYNCHRONISATIONS[kind]
    factor, unit = figures.seconds_scale(part["sync_p95_seconds"])
    place = np.arange(len(part))
    transfer, wait = (part[f"{name}_mean_seconds"].to_numpy() * factor for name in ("transfer", "wait"))
    bars(ax, transfer, np.zeros(len(part)), facecolor=dark)
    hatch = "" if len(part) > MOST_BARS else "////"
    bars(ax, wait, transfer, facecolor=light, edgecolor=dark, hatch=hatch)
    if len(part) <= MOST_BARS:
        whiskers(ax, place, part, factor, prefix="sync_")
    step = max(1, -(-len(part) // 8))
    ax.set_xticks(place[::step], part["rank"].iloc[::step])
    ax.set_xlim(-0.6, max(len(part), 2) - 0.4)
    ax.set_xlabel("Rank" if part["rank"].str.isdigit().all() else "Statistic over ranks")
    ax.set_ylabel(f"Time per call ({unit})")
    ax.set_ylim(bottom=0)


def throughput(
    entries: Sequence[Entry], windows: pd.DataFrame, overall: pd.DataFrame, directory: Path, caption: str
) -> list[Path]:
    """Samples a second along each run, and over the whole of it."""
    height = max(2.6, 0.3 + 0.2 * len(entries))
    figure, axes = figures.new_figure(1, 2, panel=(3.6, height), width_ratios=(1.7, 1))
    left, right = axes[0]
    handles = []
    values = overall.set_index("run")["samples_per_second"]
    for place, item in enumerate(entries):
        style = figures.run_style(place)
        part = windows[windows["run"] == item.name]
        middle = (part["first_step"] + part["last_step"]) / 2
        left.plot(middle, part["samples_per_second"], **{**style, "marker": style["marker"] if len(part) == 1 else ""})
        right.barh(place, values[item.name], 0.7, color=style["color"])
        text = f"{values[item.name]:,.0f}"
        right.annotate(text, (values[item.name], place), (3, 0), textcoords="offset points", va="center", fontsize=7)
        handles.append(Line2D([], [], **style))
    left.set_xlabel("Optimizer step")
    left.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    left.set_ylabel("Throughput (samples/s)")
    left.set_title("Along the run")
    left.set_ylim(bottom=0)
    left.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    right.set_title("Whole run (samples/s)")
    right.set_yticks(range(len(entries)), [item.name for item in entries], fontsize=7)
    right.set_ylim(len(entries) - 0.4, -0.6)
    right.set_xlim(0, 1.3 * values.max())
    right.set_xticks([])
    right.grid(visible=False)
    caption = "Samples of all ranks over the training clock (maximum over ranks); no iteration is left out. " + caption
    labels = [item.label for item in entries]
    return figures.finish(figure, directory, "timing_throughput", handles=handles, labels=labels, caption=caption)
