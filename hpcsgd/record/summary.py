"""A run's log on one screen, for ``hpcsgd info``."""

from __future__ import annotations

import shlex
import textwrap
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hpcsgd.record.look import in_words
from hpcsgd.record.reader import Run

if TYPE_CHECKING:
    import pandas as pd

UNITS = ("B", "kB", "MB", "GB", "TB")
BAR_COLUMNS = 30
LEAST_WIDTH = 40


def summarise(run: Run, width: int | None = None) -> str:
    """The summary of a run that is done, running or killed: one ``name  text`` a line, and a line a span.

    Args:
        run: its log.
        width: of the screen, where longer texts go on below; None: each stays in its line.
    """
    lines = list(_lines(run))
    margin = max(len(name) for name, _ in lines) + 2
    if width is None:
        return "\n".join(f"{name:<{margin}}{text}" for name, text in lines)
    room = max(width, LEAST_WIDTH) - margin
    parts = [
        (name if first else "", part)
        for name, text in lines
        for first, part in zip((True, *[False] * len(text)), textwrap.wrap(text, room) or [""], strict=False)
    ]
    return "\n".join(f"{name:<{margin}}{part}" for name, part in parts)


def _lines(run: Run) -> Iterator[tuple[str, str]]:
    """Names and texts of the lines."""
    yield "run", str(run.path.parent)
    yield "status", _status(run)
    yield "recipe", _recipe(run)
    if run.emulated:
        yield "emulated", run.emulated
    yield "ranks", _ranks(run)
    yield "batch", _batch(run)
    if not run.tuner.empty:
        yield "tuner", _tuner(run)
    yield "progress", _progress(run)
    yield from _metrics(run)
    yield "clocks", _clocks(run)
    if len(run.columns.steps):
        yield from _timing(run)
    yield from _devices(run)
    yield "file", f"{quantity(run.path.stat().st_size)}, {run.path.name}"
    yield "next", _next(run)


def _status(run: Run) -> str:
    """How it ended, or when it was last heard of, and how long it took."""
    parts = [run.status]
    if run.status == "running":
        age = max(0.0, time.time() - run.path.stat().st_mtime)
        parts = ["running" if age < STILL_SECONDS else "running, or killed", f"last written {in_words(age)} ago"]
    end = run.per_step["end_seconds"].max()
    if end > 0:
        parts.append(f"{in_words(end)} long")
    if len(run.segments) and run.segments["started"].iloc[0]:
        parts.append(f"begun {run.segments['started'].iloc[0]}")
    return ", ".join(parts)


STILL_SECONDS = 60.0
"""A log that was written so lately is that of a run that goes on."""


def _next(run: Run) -> str:
    """What to do with it now."""
    path = shlex.quote(str(run.path.parent))
    if run.status == "running":
        return f"hpcsgd watch {path}"
    figures = "learning" if run.status == "diverged" or len(run.evaluations) else "timing"
    again = "go on with --resume auto, or " * (run.status in ("failed", "preempted"))
    return f"{again}hpcsgd figures {figures} {path}"


def _devices(run: Run) -> Iterator[tuple[str, str]]:
    """How busy the devices were, their clock, memory and energy, as far as the log tells."""
    from hpcsgd.record.frames import energy_per_sample
    from hpcsgd.record.reduce import known_mean, known_median, largest

    busy, clock = known_mean(run.columns, "utilisation"), known_median(run.columns, "clock_hertz")
    texts = [f"{busy:.0%} of the time" if busy == busy else "", f"at {clock / 1e9:.2f} GHz" if clock == clock else ""]
    if any(texts):
        yield "devices", f"busy {', '.join(text for text in texts if text)}"
    peaks = run.ranks.set_index("rank")["peak_memory_bytes"].dropna()
    if peaks.empty and run.rank_axis == "rank":
        # It has not come to its end.
        peaks = largest(run.columns, "memory_bytes").dropna()
    if len(peaks):
        yield "memory", f"at most {quantity(peaks.max())} of a GPU at once (rank {peaks.idxmax()})"
    joules, who = energy_per_sample(run)
    if who:
        yield "energy", f"{joules:.3g} J a sample ({who})"


def _recipe(run: Run) -> str:
    """Recipe's name, algorithm, model and data."""
    names = [Path(a).stem for a in map(str, run.provenance.get("argv", [])) if a.endswith((".yaml", ".yml"))]
    config = run.config
    algorithm = config.get("algorithm", {})
    parts = [str(algorithm.get("name", "?"))]
    if parts[0] != "sync_sgd":
        parts.append(f"sync_period {algorithm.get('sync_period', '?')}")
    schedule = algorithm.get("period_schedule", {}).get("kind", "constant")
    if schedule != "constant":
        parts.append(f"period_schedule {schedule}")
    if parts[0] == "hierarchical_local_sgd":
        parts.append(f"block_sync_period {algorithm.get('block_sync_period', '?')}")
    if algorithm.get("local_start"):
        parts.append(f"local_start {algorithm['local_start']}")
    what = f"{config.get('model', {}).get('name', '?')} on {config.get('data', {}).get('name', '?')}"
    return f"{names[0] if names else '(unnamed)'}: {', '.join(parts)}; {what}"


def _ranks(run: Run) -> str:
    """Ranks, nodes, devices and how gradients are reduced."""
    # A GPU's name ends with what no other one is called.
    kinds = run.ranks["device"].map(lambda name: name.rpartition(" ")[0] or name)
    devices = ", ".join(f"{count} on {name}" for name, count in kinds.value_counts().items())
    text = f"{counted(len(run.ranks), 'rank')} on {counted(run.ranks['node'].nunique(), 'node')}; {devices}"
    reduction = run.provenance.get("gradient_allreduce")
    return f"{text}; allreduce {reduction}" if reduction else text


def _batch(run: Run) -> str:
    """Batch sizes."""
    local = run.provenance.get("local_batch_size", run.config.get("local_batch_size"))
    whole = run.provenance.get("global_batch_size", run.config.get("global_batch_size"))
    return f"{local or '?'} a learner, {whole or '?'} all together"


def _tuner(run: Run) -> str:
    """What ``learners_per_rank: auto`` tried, and took."""
    learners = int(run.provenance["learners_per_rank"])
    rate = run.tuner.loc[run.tuner["learners"] == learners, "samples_per_second"].iloc[-1]
    tried = ", ".join(map(str, run.tuner["learners"]))
    return f"{counted(learners, 'learner')} a rank, {rate:,.0f} samples/s; tried {tried}"


def _progress(run: Run) -> str:
    """Steps and epochs done."""
    done = int(run.columns.steps.max(initial=-1)) + 1
    steps, epochs = run.provenance.get("total_steps"), run.config.get("epochs")
    return (
        f"{done}{f' of {steps}' if steps else ''} steps, {len(run.epochs)}{f' of {epochs}' if epochs else ''} epochs"
        + (f", {len(run.segments) - 1} resumes" if len(run.segments) > 1 else "")
    )


def _metrics(run: Run) -> Iterator[tuple[str, str]]:
    """The last value of each metric of each split, with the loss beside it; of accuracy, the best too."""
    from hpcsgd.record.frames import by_metric

    for split, part in run.evaluations.groupby("split", sort=False):
        rows = by_metric(part, "loss")
        last = rows.iloc[-1]
        at = f"at epoch {last['epoch_fraction']:g}"
        for metric in main_metrics(part["metric"]):
            text = f"last {last[metric]:.4f}" + (f" (loss {last['loss']:.4f})" if metric != "loss" else "") + f" {at}"
            known = rows.dropna(subset=[metric])
            # Of other metrics nobody knows whether more of it is better.
            if metric == "accuracy" and len(known):
                best = known.loc[known[metric].idxmax()]
                text = f"best {best[metric]:.4f} at epoch {best['epoch_fraction']:g}, {text}"
            yield f"{split} {metric}", text


def main_metrics(metrics: Iterable[str]) -> list[str]:
    """Of a log's metrics those to tell: all but the loss, accuracy first; the loss where there is no other."""
    others = sorted(dict.fromkeys(m for m in metrics if m != "loss"), key=lambda metric: metric != "accuracy")
    return others or ["loss"]


def metric_text(metric: str, value: float) -> str:
    """A value of a metric: accuracy in per cent, others as plain numbers."""
    return f"{100 * value:.2f} %" if metric == "accuracy" else f"{value:.4f}"


def _clocks(run: Run) -> str:
    """The three clocks of the epochs that are complete."""
    epochs = run.epochs
    return ", ".join(f"{name} {epochs[f'{key}_seconds'].sum():.1f} s" for name, key in _CLOCKS) + (
        "" if len(epochs) else " (no epoch is complete yet)"
    )


_CLOCKS = (
    ("training", "train"),
    ("evaluation", "evaluation"),
    ("checkpoints", "checkpoint"),
    ("logging", "logging"),
)
LEAST_SHARE = 0.0005
"""Of the training time: a span of less is not told."""


def _timing(run: Run) -> Iterator[tuple[str, str]]:
    """Throughput, spans, synchronisations and bytes."""
    from hpcsgd.record.frames import span_shares, throughput

    steps = run.per_step
    yield "throughput", f"{throughput(run):,.0f} samples/s of training time"
    yield "iteration", f"median {seconds(steps['mean_seconds'].median())} of training time"
    name = "spans"
    for span, share in span_shares(run.columns).items():
        if share >= LEAST_SHARE:
            bar = "█" * round(BAR_COLUMNS * share)
            yield name, f"{str(span).removesuffix('_seconds'):<19}{100 * share:4.1f} %  {bar}".rstrip()
            name = ""
    if run.rank_axis == "rank" and steps["num_ranks"].max() > 1:
        yield "slowest rank", _slowest(run)
    yield "synchronisations", _synchronisations(run, steps)
    yield "communicated", f"{quantity(int(steps['sync_bytes'].sum()))} a rank (payload)"


def _slowest(run: Run) -> str:
    """The rank whose own work takes longest, by how much, and how often it comes last to a synchronisation."""
    from hpcsgd.record.reduce import last_to_enter, own_work

    work = own_work(run.columns)
    rank = work.idxmax()
    node = run.ranks.set_index("rank")["node"].get(rank, "?")
    text = f"{rank} on {node}: its own work takes {100 * (work[rank] / work.median() - 1):.1f} % longer than the median"
    last = last_to_enter(run.columns).value_counts(normalize=True)
    if last.empty:
        return text
    return f"{text}; last to synchronise is most often {last.index[0]} ({last.iloc[0]:.0%})"


def _synchronisations(run: Run, steps: pd.DataFrame) -> str:
    """How many of each kind; their wait and transfer."""
    import numpy as np

    from hpcsgd.record.reduce import synchronisations
    from hpcsgd.record.schema import ACTIONS

    counts = steps.loc[steps["action"] != "none", "action"].value_counts()
    text = ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"
    if run.rank_axis == "statistic":
        return text
    waits: dict[int, list[np.ndarray]] = {}
    transfers: dict[int, list[np.ndarray]] = {}
    for calls in synchronisations(run.columns, run.ranks):
        for action in dict.fromkeys(calls.action.tolist()):
            kind = calls.action == action
            done = ~np.isnan(calls.sync_seconds[kind])
            waits.setdefault(action, []).append(calls.wait_seconds[kind][done])
            transfers.setdefault(action, []).append(calls.transfer_seconds[kind][done])
    for action, values in waits.items():
        if sum(map(len, values)):
            wait, transfer = (float(np.median(np.concatenate(v))) for v in (values, transfers[action]))
            text += f"; {ACTIONS[action]}: median wait {seconds(wait)}, transfer {seconds(transfer)}"
    return text


def counted(number: int, noun: str) -> str:
    """``1 rank``, ``2 ranks``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def seconds(value: float) -> str:
    """A duration in the unit that suits it."""
    for limit, factor, unit in ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms")):
        if abs(value) < limit:
            return f"{value * factor:.3g} {unit}"
    return f"{value:.2f} s"


def quantity(num_bytes: float) -> str:
    """A number of bytes in the unit that suits it, by powers of 1000."""
    for unit in UNITS:
        if num_bytes < 1000 or unit == UNITS[-1]:
            break
        num_bytes /= 1000
    return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
