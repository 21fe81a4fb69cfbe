"""Loss and other metrics of runs against what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from draw import figures
from runs.logs import Entry
from tables.learning import ACCURACY, X_AXES, metrics_of

TRAINING: dict[str, Any] = {"marker": "", "linewidth": 0.8, "alpha": 0.6}
LOG_RATIO = 4.0
MEANINGS = {
    "train_seconds": "The training clock is the maximum over ranks, without evaluation, checkpoints and logging. ",
    "sync_bytes": "Bytes are the payload of all synchronisations so far (gradients and averagings) on each rank. ",
}
CROSS_ENTROPY = "cross_entropy"


def draw_curve(
    entries: Sequence[Entry],
    evaluations: pd.DataFrame,
    losses: pd.DataFrame,
    x: str,
    directory: Path,
    name: str,
    caption: str,
) -> list[Path]:
    """The loss (left) and each further metric against one measure of cost; [] where no run has it."""
    evaluations, losses = (frame[frame[x].notna()] for frame in (evaluations, losses))
    if x == "sync_bytes":
        silent = [item.name for item in entries if not item.run.columns.column("sync_bytes").any()]
        evaluations, losses = (frame[~frame["run"].isin(silent)] for frame in (evaluations, losses))
    if evaluations.empty and losses.empty:
        return []
    is_log = x == "sync_bytes" and spread(losses, x) >= LOG_RATIO
    scale, unit = axis_unit(losses, x, is_log)
    metrics = metrics_of(entries)
    figure, axes = figures.new_figure(1, len(metrics), panel=(3.5, 2.8), sharex=not is_log)
    panels = dict(zip(metrics, axes[0], strict=True))
    for place, item in enumerate(entries):
        style = figures.run_style(place)
        training = losses[losses["run"] == item.name]
        panels["loss"].plot(training[x] * scale, training["loss"], **{**style, **TRAINING})
        for split, part in evaluations[evaluations["run"] == item.name].groupby("split"):
            options = {**style, "markerfacecolor": style["color"] if split == "test" else "white"}
            for metric, ax in panels.items():
                ax.plot(part[x] * scale, (100 if metric == ACCURACY else 1) * part[metric], **options)
    figures.log2_axis(panels["loss"], "y", np.concatenate([losses["loss"], evaluations["loss"]]))
    costs_of_evaluations = scale * evaluations[x].to_numpy(dtype=float)
    for metric, ax in panels.items():
        # A name of a user's own is text, whatever is in it.
        ax.set_ylabel(metric_label(metric, entries), parse_math=False)
        ax.set_xlabel(X_AXES[x] + (f" ({unit})" if unit else ""))
        if is_log:
            costs = [costs_of_evaluations, *([scale * losses[x]] if metric == "loss" else [])]
            figures.log2_axis(ax, "x", np.concatenate(costs))
        if metric != "loss" and evaluations[metric].isna().all():
            ax.text(0.5, 0.5, "no evaluation yet", ha="center", transform=ax.transAxes)
            ax.set_yticks([])
        elif metric == ACCURACY and ax.get_ylim()[1] > 100:
            ax.set_ylim(top=100.5)
    if not is_log:
        panels["loss"].set_xlim(left=0)
        panels["loss"].xaxis.set_major_locator(MaxNLocator("auto", integer=x in ("epoch", "step")))
    handles, labels = legend(entries, evaluations)
    text = "Thin lines: training loss, each batch before its update. " + MEANINGS.get(x, "") + caption
    if is_log:
        text = "Logarithmic axis: what stands at 0 bytes, before the first synchronisation, is not on it. " + text
    return figures.finish(figure, directory, name, handles=handles, labels=labels, caption=text)


def metric_label(metric: str, entries: Sequence[Entry]) -> str:
    """The label of a metric's axis; a metric of a user's own is called as its log calls it."""
    if metric == "loss":
        losses = {item.run.config.get("loss", {}).get("name", CROSS_ENTROPY) for item in entries}
        return "Loss (cross-entropy, nats)" if losses == {CROSS_ENTROPY} else "Loss"
    return "Accuracy (%)" if metric == ACCURACY else metric


def spread(losses: pd.DataFrame, x: str) -> float:
    """How many times further the run with the largest cost goes than that with the smallest."""
    ends = losses.groupby("run")[x].max()
    ends = ends[ends > 0]
    return float(ends.max() / ends.min()) if len(ends) else 1.0


def axis_unit(losses: pd.DataFrame, x: str, is_log: bool) -> tuple[float, str]:
    """Factor and unit of the x axis; of bytes on a logarithmic axis, the unit that suits the middle of it."""
    if x != "sync_bytes":
        return 1.0, ""
    positive = losses.loc[losses[x] > 0, x]
    if is_log:
        return figures.bytes_scale([float(np.sqrt(positive.min() * positive.max()))])
    return figures.bytes_scale(positive)


def legend(entries: Sequence[Entry], evaluations: pd.DataFrame) -> tuple[list[Line2D], list[str]]:
    """The runs by colour and marker, then what filled, open and no markers are."""
    handles = [Line2D([], [], **figures.run_style(place)) for place in range(len(entries))]
    labels = [item.label for item in entries]
    for split in sorted(evaluations["split"].unique(), reverse=True):
        fill = "white" if split == "train" else "#444444"
        handles.append(Line2D([], [], color="#444444", marker="o", markerfacecolor=fill))
        labels.append(f"{split} set, consensus model")
    handles.append(Line2D([], [], color="#444444", **TRAINING))
    labels.append("training loss")
    return handles, labels
