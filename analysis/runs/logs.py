"""The runs that a figure is drawn from: found, named, told apart, and what is missing said aloud.

Every script of analysis/ starts with :func:`load`: the same error messages, the same labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from hpcsgd.record.reader import FILE_NAME, Run, find_runs
from hpcsgd.record.reduce import logged_labels
from hpcsgd.record.schema import TAKEN
from runs import identity as run_identity
from runs.losses import loss_notes

ALGORITHMS = {
    "sync_sgd": "sync. SGD",
    "local_sgd": "local SGD",
    "post_local_sgd": "post-local SGD",
    "diloco": "DiLoCo",
    "hierarchical_local_sgd": "hierarchical local SGD",
    "sma": "SMA",
    "ea_sgd": "EA-SGD",
}

CENTRAL = ("sma", "ea_sgd")
"""Algorithms with a central model, whose period is called τ."""


@dataclass(frozen=True)
class Entry:
    """One run with the names that figures and tables call it by.

    Attributes:
        run: the log.
        name: the run's directory, with as many parents as tell it from the other runs.
        world_size: ranks of the last segment.
        local_batch_size: samples of one step of one learner.
        logged_ranks: ranks of the last segment that the log has rows of; 0 where it has statistics over the ranks
            instead.
    """

    run: Run
    name: str
    world_size: int
    local_batch_size: float
    logged_ranks: int

    @property
    def global_batch_size(self) -> int:
        """Samples of one step of all learners."""
        return round(self.local_batch_size * self.world_size * self.learners_per_rank)

    @property
    def learners_per_rank(self) -> int:
        """Models that each rank trains."""
        return learners_per_rank(self.run)

    @property
    def first_step(self) -> int:
        """Where the log begins: 0, but after a resume on another number of ranks."""
        return int(self.run.columns.steps[0]) if len(self.run.columns.steps) else 0

    @property
    def world_sizes(self) -> pd.Series:
        """Ranks in each segment, by its number."""
        return self.run.segments["world_size"]

    @property
    def lost_ranks(self) -> list[str]:
        """Ranks that died, and without which the run went on."""
        return [rank for lost in self.run.segments["lost_ranks"] for rank in lost.split(",") if rank]

    @property
    def summary(self) -> bool:
        """Whether the log holds minimum, median and maximum over the ranks instead of the ranks."""
        return self.run.rank_axis == "statistic"

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return self.run.status == "completed"

    @property
    def label(self) -> str:
        """Legend text: directory name; algorithm, ranks, H; the status where the run did not complete."""
        return f"{self.name}: {self.description}"

    @property
    def description(self) -> str:
        """Algorithm, ranks, H; whether the machine was emulated; the status where the run did not complete."""
        status = "" if self.finished else f" [{self.run.status}]"
        learners = f" of {self.learners_per_rank} learners" if self.learners_per_rank > 1 else ""
        emulated = ", emulated" if self.run.emulated else ""
        return f"{algorithm_text(self.run.config)}, {ranks_text(self.world_size)}{learners}{emulated}{status}"

    @property
    def status(self) -> str:
        """The log's status; one that says running may also have been killed, which no log can tell."""
        return "still running, or killed" if self.run.status == "running" else self.run.status


def algorithm_text(config: dict[str, Any]) -> str:
    """The algorithm and its periods, as ``local SGD, H = 8``."""
    algorithm = config.get("algorithm", {})
    name = str(algorithm.get("name", "unknown algorithm"))
    text = ALGORITHMS.get(name, name)
    if name == "sync_sgd":
        return text
    text += f", {'τ' if name in CENTRAL else 'H'} = {algorithm.get('sync_period', '?')}"
    schedule = algorithm.get("period_schedule", {}).get("kind", "constant")
    if schedule != "constant":
        text += f" ({schedule})"
    if name == "hierarchical_local_sgd":
        text += f", H_b = {algorithm.get('block_sync_period', '?')}"
    start = algorithm.get("local_start")
    if start:
        kind, _, number = str(start).partition(":")
        text += " from the first drop" if kind == "first_lr_drop" else f" from {kind} {number}"
    return text


def learners_per_rank(run: Run) -> int:
    """Models that each rank trains; where the recipe left the number to the tuner, as the log says it was run."""
    asked = run.config.get("learners_per_rank") or 1
    if not isinstance(asked, str):
        return int(asked)
    known = run.provenance
    if known.get("learners_per_rank"):
        return int(known["learners_per_rank"])
    if known.get("num_learners"):
        return max(1, int(known["num_learners"]) // _first_world_size(run))
    chosen = run.tuner[run.tuner["decision"].isin(TAKEN)]["learners"]
    if len(chosen):
        return int(chosen.iloc[-1])
    # The samples of a rank's fullest step are those of all its learners.
    local = run.config.get("local_batch_size") or known.get("local_batch_size")
    most = max((float(block["num_samples"].max()) for _, block in run.columns.blocks(["num_samples"])), default=0.0)
    return max(1, round(most / float(local))) if local else 1


def _first_world_size(run: Run) -> int:
    """Ranks of the first segment."""
    return int(run.segments["world_size"].iloc[0]) if len(run.segments) else max(1, len(run.ranks))


def ranks_text(count: int) -> str:
    """``1 rank``, ``4 ranks``."""
    return f"{count} rank" if count == 1 else f"{count} ranks"


def entry(run: Run, name: str) -> Entry:
    """Wrap a run, with its sizes taken from its log and resolved recipe."""
    segments = run.segments
    world_size = int(segments["world_size"].iloc[-1]) if len(segments) else max(1, len(run.ranks))
    local = run.config.get("local_batch_size")
    if local is None:
        # Ranks that are lost leave the local batch size of the others as it is.
        given = float(run.config.get("global_batch_size") or float("nan"))
        local = given / _first_world_size(run) / learners_per_rank(run)
    summary = run.rank_axis == "statistic"
    steps = run.per_step
    last = steps[steps["segment"] == steps["segment"].max()]
    logged = 0 if summary else len(logged_labels(run.columns, last))
    return Entry(run, name, world_size, float(local), logged)


def unique_names(paths: Sequence[Path]) -> list[str]:
    """Shortest tails of the paths that differ from one another: ``a/x`` and ``b/x``, but plain ``y``."""
    parts = [path.resolve().parts for path in paths]
    names = []
    for own in parts:
        others = [p for p in parts if p != own]
        depth = next((d for d in range(1, len(own)) if all(p[-d:] != own[-d:] for p in others)), len(own))
        names.append("/".join(own[-depth:]))
    return names


def load(paths: Sequence[str]) -> tuple[list[Entry], list[str]]:
    """Read all runs in ``paths``; returns them and one line for each that could not be read or is missing.

    A run that is reached twice, by its path or by a copy of it, is there once. A log of which nothing can be drawn
    counts as unreadable.
    """
    found, problems = find_runs(paths)
    problems += run_identity.missing_logs(paths)
    reasons = [(run, run_identity.why_not(run)) for run in found]
    problems += [f"{run.path}: {reason}" for run, reason in reasons if reason]
    runs, copies = run_identity.without_copies([run for run, reason in reasons if not reason])
    names = unique_names([run.path.parent if run.path.name == FILE_NAME else run.path for run in runs])
    return [entry(run, name) for run, name in zip(runs, names, strict=True)], problems + copies


def runs_table(entries: Sequence[Entry]) -> pd.DataFrame:
    """One row a run: where it is, what it is, how far it came."""
    rows = []
    for item in entries:
        run = item.run
        rows.append(
            {
                "run": item.name,
                "algorithm": algorithm_text(run.config),
                "status": item.status,
                "num_ranks": item.world_size,
                "logged_ranks": "min, median, max" if item.summary else str(item.logged_ranks),
                "local_batch_size": item.local_batch_size,
                "global_batch_size": item.global_batch_size,
                "model": run.config.get("model", {}).get("name", ""),
                "data": run.config.get("data", {}).get("name", ""),
                "num_steps": len(run.per_step),
                "num_epochs": len(run.epochs),
                "path": str(run.path.parent),
            }
        )
    return pd.DataFrame(rows)


def log_notes(entries: Sequence[Entry], problems: Sequence[str]) -> list[str]:
    """What a reader must know of the logs: unread runs, unfinished runs, ranks that were not logged."""
    notes = [f"Not read: {line}" for line in problems]
    for item in entries:
        if not item.finished:
            notes.append(f"{item.name}: {item.status}; what its log holds so far is used.")
        if item.summary:
            notes.append(
                f"{item.name}: log.ranks is summary: its log has minimum, median and maximum over the ranks, no single "
                "rank; its time of record is the largest wall time less the largest times of evaluation, checkpoints "
                "and logging."
            )
        elif item.logged_ranks < item.world_size:
            notes.append(
                f"{item.name}: log.ranks is node: {item.logged_ranks} of {item.world_size} ranks are in its log; "
                "maxima, minima and waits are over these."
            )
        notes += loss_notes(item)
        notes += _resume_notes(item)
    return notes


def _resume_notes(item: Entry) -> list[str]:
    """Where a run was resumed; a log of another number of ranks before is a file of its own."""
    first_steps = [int(step) for step in item.run.segments["first_step"]]
    notes = []
    if first_steps and first_steps[0] > 0:
        notes.append(
            f"{item.name}: its log and its clocks begin at step {first_steps[0]}, where it was resumed on another "
            "number of ranks."
        )
    lost = [str(ranks) for ranks in item.run.segments["lost_ranks"]]
    again = [str(step) for step, ranks in zip(first_steps, lost, strict=True) if not ranks][1:]
    notes += [f"{item.name}: it was resumed at step {', '.join(again)}."] * bool(again)
    notes += [
        f"{item.name}: from step {step} on it went on without rank {ranks}, which had died; it is no run of one size."
        for step, ranks in zip(first_steps, lost, strict=True)
        if ranks
    ]
    return notes


def caption(entries: Sequence[Entry], problems: Sequence[str]) -> str:
    """What every figure's caption says of the logs, in short; the tables' notes say it in full."""
    texts = []
    unfinished = [item for item in entries if not item.finished]
    if unfinished:
        texts.append("[" + "], [".join(sorted({item.run.status for item in unfinished})) + "]: drawn as far as logged.")
    texts += [f"{item.name}: statistics over the ranks only (log.ranks: summary)." for item in entries if item.summary]
    texts += [
        f"{item.name}: {item.logged_ranks} of {item.world_size} ranks logged."
        for item in entries
        if not item.summary and item.logged_ranks < item.world_size
    ]
    if problems:
        texts.append("Not read (the tables say why): " + ", ".join(line.split(": ")[0] for line in problems) + ".")
    return " ".join(texts)
