"""The figures of Lin 2020: scenarios, curves, schedules of H, and the grid of two periods."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from draw import figures
from draw.lines import POINT, Axis
from draw.methods import curve_panel, legend_room
from draw.sweeps import whiskers
from runs.tasks import Setting
from tables.scenarios import scenario_label

ROW = 0.3
SPLIT_TITLES = {"train": "training set", "held_out": "held-out set"}
FACES = {"train": "white", "test": "#444444"}
FAR = 2.5
"""Points that the distance to A2 is drawn to."""
LIGHT = 0.6
"""Cells of a grid above this share of its range have dark text."""


def scenario_figure(
    table: pd.DataFrame, published: pd.DataFrame, task: str, label: str, directory: Path, name: str, caption: str
) -> list[Path]:
    """A1 to A5: ours at the left; at the right the distance to A2, ours and the published ones.

    Args:
        table: rows of ``scenarios.scenario_table``.
        published: rows of ``published.scenarios``.
        task: what ours is called.
        label: of the axis of test accuracies.
        directory: where to.
        name: of the files.
        caption: below the panels.
    """
    both = pd.concat([table, published], ignore_index=True)
    both["label"] = [scenario_label(row) for row in both.to_dict("records")]
    both.loc[both["scenario"] == "A1", "label"] = "A1"
    rows = list(dict.fromkeys(both.sort_values(["scenario", "sync_period", "label"])["label"]))
    figure, axes = figures.new_figure(1, 2, panel=(3.9, 1.0 + ROW * len(rows)), sharey=True)
    places = {text: place for place, text in enumerate(rows)}
    ours = both.iloc[: len(table)]
    for split, face in FACES.items():
        at = [places[text] for text in ours["label"]]
        style = {"color": figures.RUN_COLORS[0], "fmt": "o", "capsize": 2.5, "linewidth": 1.0}
        colour = face if split == "train" else figures.RUN_COLORS[0]
        values, spread = ours[f"{split}_percent"], ours[f"{split}_std_percent"].fillna(0)
        axes[0, 0].errorbar(values, at, xerr=spread, markerfacecolor=colour, **style)
    axes[0, 0].set_title(f"our runs: {task}", fontsize=8)
    axes[0, 0].set_xlabel(f"{label}; open: training set")
    handles, texts = [], []
    tasks = [(task, ours), *((f"published: {name}", own) for name, own in both.iloc[len(table) :].groupby("task"))]
    for place, (text, own) in enumerate(tasks):
        style = {**figures.run_style(place), **POINT}
        if _distances(axes[0, 1], own, places, 0.08 * (place - len(tasks) / 2), style):
            handles.append(Line2D([], [], **style))
            texts.append(text)
    axes[0, 1].set_xlim(-1.05 * FAR, 1.05 * FAR)
    axes[0, 1].axvline(0, color="#555555", linewidth=1.0, zorder=1)
    axes[0, 1].set_xlabel("Test accuracy less that of A2 (points)")
    axes[0, 1].set_title("ours and published", fontsize=8)
    axes[0, 0].set_yticks(range(len(rows)), rows)
    axes[0, 0].set_ylim(len(rows) - 0.4, -0.6)
    return figures.finish(figure, directory, name, handles=handles, labels=texts, caption=caption)


def _distances(ax: Axes, own: pd.DataFrame, places: dict[str, int], shift: float, style: dict[str, Any]) -> bool:
    """The distance of each scenario of a task to its A2 of highest accuracy; whether there is such a one.

    What is further than ``FAR`` stands at the border, with its distance.
    """
    large = own.loc[own["scenario"] == "A2", "test_percent"].max()
    if not np.isfinite(large):
        return False
    own = own[own["test_percent"].notna()]
    at = np.array([places[text] + shift for text in own["label"]])
    distances = (own["test_percent"] - large).to_numpy()
    spread = own["test_std_percent"].fillna(0).to_numpy()
    near = np.abs(distances) <= FAR
    ax.hlines(at[near], (distances - spread)[near], (distances + spread)[near], color=style["color"], linewidth=1.0)
    ax.plot(distances[near], at[near], **style)
    for y, distance in zip(at[~near], distances[~near], strict=True):
        text, side = f"{distance:+.1f}", np.sign(distance)
        ax.plot([side * FAR], [y], **{**style, "marker": "<" if side < 0 else ">"})
        ax.text(side * 0.9 * FAR, y, text, va="center", ha="left" if side < 0 else "right", fontsize=7)
    return True


def split_curves(
    settings: Sequence[Setting],
    names: Sequence[str],
    curves: pd.DataFrame,
    xs: Sequence[Axis],
    label: str,
    directory: Path,
    name: str,
    caption: str,
) -> list[Path]:
    """Accuracy along the training: a panel for each x, or for both splits where there is one x.

    Args:
        settings: a line each.
        names: what they are called.
        curves: rows of ``communication.curve_table``.
        xs: what curves are drawn against.
        label: of the axis of held-out accuracies.
        directory: where to.
        name: of the files.
        caption: below the panels.
    """
    own = curves[curves["setting"].isin([setting.name for setting in settings])]
    has_training = bool((own["split"] == "train").any())
    splits = ("train", "held_out") if len(xs) == 1 and has_training else ("held_out",)
    panels = [(x, split) for x in xs for split in splits]
    figure, axes = figures.new_figure(1, len(panels), panel=(legend_room(3.6 * len(panels), names) / len(panels), 3.0))
    for ax, (x, split) in zip(axes.flat, panels, strict=True):
        part = own[own["split"] == split]
        # Curves are drawn against a cost: whichever it is, its median over the runs at an epoch.
        part = part.assign(train_seconds=part[x.column])
        factor, unit = figures.bytes_scale(part["sync_bytes"]) if x.column == "sync_bytes" else (1.0, "")
        curve_panel(ax, settings, part, "train_seconds", factor, np.nan)
        if x.is_log:
            figures.log2_axis(ax, "x", factor * part[x.column])
        ax.set_xlabel(x.label + (f" ({unit})" if unit else ""))
        ax.set_ylabel(label if split == "held_out" else "Training accuracy (%)")
        ax.set_title(SPLIT_TITLES[split] if len(splits) > 1 else "")
    handles = [Line2D([], [], **figures.run_style(place)) for place in range(len(settings))]
    return figures.finish(figure, directory, name, handles=handles, labels=names, caption=caption)


def schedule_figure(
    settings: Sequence[Setting],
    names: Sequence[str],
    schedules: pd.DataFrame,
    table: pd.DataFrame,
    label: str,
    directory: Path,
    name: str,
    caption: str,
) -> list[Path]:
    """H along the training at the left, and what it leads to at the right: accuracy against rounds.

    Args:
        settings: a line, and a point, each.
        names: what they are called.
        schedules: rows of ``communication.schedule_table``.
        table: rows of a sweep over rounds, with ``setting`` as their line.
        label: of the axis of accuracies.
        directory: where to.
        name: of the files.
        caption: below the panels.
    """
    figure, axes = figures.new_figure(1, 2, panel=(legend_room(7.4, names) / 2, 3.0))
    for place, setting in enumerate(settings):
        style = figures.run_style(place)
        own = schedules[schedules["setting"] == setting.name]
        every = max(1, len(own) // 6)
        axes[0, 0].plot(own["epoch"], own["period"], **style, markevery=every, drawstyle="steps-pre")
        point = table[table["line"] == setting.name]
        values = [100 * point[f"final_accuracy{end}"].to_numpy(float) for end in ("", "_min", "_max")]
        axes[0, 1].plot(point["num_rounds"], values[0], **{**style, **POINT, "markersize": 7})
        whiskers(axes[0, 1], point["num_rounds"], values[1], values[2], style["color"])
    figures.log2_axis(axes[0, 0], "y", schedules["period"])
    figures.log2_axis(axes[0, 1], "x", table["num_rounds"])
    axes[0, 0].set_xlim(left=0)
    axes[0, 0].xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    for ax, x, y in zip(axes.flat, ("Epochs", "Rounds"), ("H as run (steps)", f"Final {label.lower()}"), strict=True):
        ax.set_xlabel(x)
        ax.set_ylabel(y)
    handles = [Line2D([], [], **figures.run_style(place)) for place in range(len(settings))]
    return figures.finish(figure, directory, name, handles=handles, labels=names, caption=caption)


def grid_figure(table: pd.DataFrame, label: str, directory: Path, name: str, caption: str) -> list[Path]:
    """Accuracy and rounds of all ranks by H and H_b, as numbers on colours.

    Args:
        table: rows of ``communication.grid_table``.
        label: of the accuracy.
        directory: where to.
        name: of the files.
        caption: below the panels.
    """
    columns, rows = (sorted(table[key].unique()) for key in ("sync_period", "block_sync_period"))
    size = (1.2 + 0.75 * len(columns), 1.1 + 0.5 * len(rows))
    figure, axes = figures.new_figure(1, 2, panel=(max(3.2, size[0]), max(2.4, size[1])))
    for ax, key, title in zip(
        axes.flat,
        ("test_percent", "num_global_rounds"),
        (f"Final {label.lower()}", "Averagings of all ranks"),
        strict=True,
    ):
        cells = table.pivot(index="block_sync_period", columns="sync_period", values=key).to_numpy(float)
        known = cells[np.isfinite(cells)]
        low, reach = known.min(), max(known.max() - known.min(), 1e-9)
        ax.imshow(cells, cmap=colormaps["viridis"], vmin=low, vmax=low + reach, aspect="auto", origin="lower")
        for (row, column), value in np.ndenumerate(cells):
            text = "–" if not np.isfinite(value) else f"{value:.2f}" if key == "test_percent" else f"{value:.0f}"
            color = "black" if not np.isfinite(value) or (value - low) / reach > LIGHT else "white"
            ax.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
        ax.grid(visible=False)
        ax.set_xticks(range(len(columns)), [f"{value:g}" for value in columns])
        ax.set_yticks(range(len(rows)), [f"{value:g}" for value in rows])
        ax.set_xlabel("H (local steps)")
        ax.set_ylabel("H_b (block averagings)")
        ax.set_title(title)
    return figures.finish(figure, directory, name, caption=caption)
