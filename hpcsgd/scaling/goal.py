"""How many epochs a run took to a target, which is what time to the target is counted in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpcsgd.errors import UsageError, nearest
from hpcsgd.record.frames import by_metric
from hpcsgd.record.reader import Run

FALLING = ("loss", "error", "perplexity")
"""Words in the names of metrics of which less is better."""


@dataclass(frozen=True)
class Target:
    """A value of a metric on the held-out data."""

    metric: str
    value: float

    @property
    def text(self) -> str:
        """As users write it."""
        return f"{self.metric}={self.value:g}"


def parse_target(text: str) -> Target:
    """``0.92`` (of accuracy) or ``METRIC=VALUE``.

    Raises:
        UsageError: it is neither.
    """
    name, _, value = text.rpartition("=")
    try:
        return Target(name or "accuracy", float(value))
    except ValueError:
        raise UsageError(f"--target {text!r}: write METRIC=VALUE, or the value of an accuracy, as in 0.92") from None


def epochs_to(run: Run, target: Target) -> float | None:
    """Epochs after which the run's metric first was at or beyond the target; None: it never was.

    Raises:
        UsageError: the log has evaluations, but none of such a metric.
    """
    if run.evaluations.empty:
        return None
    table = by_metric(run.evaluations)
    names = [str(name) for name in run.evaluations["metric"].unique()]
    if target.metric not in names:
        raise UsageError(f"--target {target.metric}: {nearest(target.metric, names, f'the log has {names}')}")
    split = next((name for name in ("test", "val") if name in set(table["split"])), None)
    rows = table[table["split"] == split] if split else table[table["split"] != "train"]
    falls = any(word in target.metric for word in FALLING)
    reached = rows[rows[target.metric] <= target.value if falls else rows[target.metric] >= target.value]
    return None if reached.empty else float(reached["epoch_fraction"].iloc[0])


def epochs_of(runs: Sequence[Run], target: Target | None) -> tuple[float | None, str]:
    """Epochs that a run is predicted to take, and what is assumed in that, in words.

    Without a target, those of the recipe; with one, those of the run that took the fewest.

    Raises:
        UsageError: no run has reached the target.
    """
    if target is None:
        epochs = max((run.config.get("epochs") or 0 for run in runs), default=0)
        return (float(epochs), f"{epochs} epoch{'s' * (epochs != 1)}, as in the recipe") if epochs else (None, "")
    found = [(epochs, run) for run in runs if (epochs := epochs_to(run, target)) is not None]
    if not found:
        raise UsageError(f"--target {target.text}: no run has reached it: time to it cannot be told from these logs")
    epochs, run = min(found, key=lambda pair: pair[0])
    batch = run.provenance.get("global_batch_size", "?")
    return epochs, (
        f"{target.text} after {epochs:g} epochs, as {run.path.parent.name} took with a global batch of {batch}: that "
        "other batches and algorithms take as many is assumed, not predicted"
    )
