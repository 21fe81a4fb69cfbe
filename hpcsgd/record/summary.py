"""A run's log on one screen, for ``hpcsgd info``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hpcsgd.record.reader import Run

if TYPE_CHECKING:
    import pandas as pd

UNITS = ("B", "kB", "MB", "GB", "TB")


def summarise(run: Run) -> str:
    """The summary of a run that is done, running or killed: one ``name: text`` a line."""
    lines = list(_lines(run))
    width = max(len(name) for name, _ in lines) + 2
    return "\n".join(f"{name:<{width}}{text}" for name, text in lines)


def _lines(run: Run) -> Iterator[tuple[str, str]]:
    """Names and texts of the lines."""
    yield "run", str(run.path.parent)
    yield "status", "running, or killed" if run.status == "running" else run.status
    yield "recipe", _recipe(run)
    if run.emulated:
        yield "emulated", run.emulated
    yield "ranks", _ranks(run)
    yield "batch", _batch(run)
    if not run.tuner.empty:
        yield "tuner", _tuner(run)
    if (peaks := run.ranks["peak_memory_bytes"].dropna()).any():
        yield (
            "memory",
            f"at most {quantity(peaks.max())} of a GPU at once (rank {run.ranks.at[peaks.idxmax(), 'rank']})",
        )
    yield "progress", _progress(run)
    yield from _metrics(run)
    yield "clocks", _clocks(run)
    if not run.iterations.empty:
        yield from _timing(run)
    yield "file", f"{quantity(run.path.stat().st_size)}, {run.path.name}"


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
    devices = ", ".join(f"{count} on {name}" for name, count in run.ranks["device"].value_counts().items())
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
    done = int(run.iterations["step"].max()) + 1 if len(run.iterations) else 0
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


_CLOCKS = (("training", "train"), ("evaluation", "evaluation"), ("logging", "logging"))


def _timing(run: Run) -> Iterator[tuple[str, str]]:
    """Throughput, spans, synchronisations and bytes."""
    from hpcsgd.record.frames import rank_axis, span_shares, throughput, training_seconds

    frame = run.iterations
    yield "throughput", f"{throughput(run):,.0f} samples/s of training time"
    axis = rank_axis(frame)
    rows = frame if axis == "rank" else frame[frame["statistic"] == "median"]
    median = training_seconds(rows).groupby(rows["step"]).mean().median()
    shares = span_shares(frame)
    spans = ", ".join(f"{str(name).removesuffix('_seconds')} {share:.1%}" for name, share in shares.items())
    yield "iteration", f"median {seconds(median)} of training time"
    yield "spans", spans
    per_step = frame.drop_duplicates("step")
    yield "synchronisations", _synchronisations(run, per_step)
    yield "communicated", f"{quantity(int(per_step['sync_bytes'].sum()))} a rank (payload)"


def _synchronisations(run: Run, per_step: pd.DataFrame) -> str:
    """How many of each kind; their wait and transfer."""
    from hpcsgd.record.frames import wait_and_transfer

    counts = per_step.loc[per_step["action"] != "none", "action"].value_counts()
    text = ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"
    if run.rank_axis == "statistic":
        return text
    calls = wait_and_transfer(run.iterations, run.ranks)
    for action, rows in calls.groupby("action", sort=False):
        wait, transfer = rows["wait_seconds"].median(), rows["transfer_seconds"].median()
        text += f"; {action}: median wait {seconds(wait)}, transfer {seconds(transfer)}"
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
