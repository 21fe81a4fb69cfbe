"""``hpcsgd study status``: how far a study is and what it says so far, from its files alone."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpcsgd.config.recipe import read_recipe
from hpcsgd.errors import UsageError
from hpcsgd.study.archive import Study, read_archive
from hpcsgd.study.regimes import Regimes, Spread, bootstrap, limits
from hpcsgd.study.result import Result, edge_warnings, first_step, steps_to_result
from hpcsgd.trials.directory import ARCHIVE, GROUPS, RECIPE, WORK

HEADER = ("batch", "COMPLETE", "INCOMPLETE", "INFEASIBLE", "left", "reached", "steps", "best trial")


def describe(directory: Path) -> str:
    """A table of a study, one row a batch size, and what is to be said below it.

    Raises:
        UsageError: there is no study, or one whose recipe or trials are damaged.
    """
    metric, goal, num_trials = _read_recipe(directory)
    studies = read_archive(directory / ARCHIVE)
    results = {} if goal is None else {s.batch_size: steps_to_result(s, metric, goal) for s in studies}
    rows = [_row(study, metric, goal, num_trials, results.get(study.batch_size)) for study in studies]
    lines = [f"goal: {metric} below {goal}" if goal is not None else "no goal", "", *_table([HEADER, *rows]), ""]
    steps = {size: found.steps for size, found in results.items() if found is not None}
    if goal is not None and len(steps) > 1:
        lines += describe_regimes(limits(steps), bootstrap(studies, metric, goal))
    for study in studies:
        best = results.get(study.batch_size)
        lines += [f"warning: {text}" for text in (edge_warnings(study, best.trial) if best else [])]
    return "\n".join([*lines, *_pace(directory)])


def _read_recipe(directory: Path) -> tuple[str, float | None, int]:
    """Metric, goal and trials of a study, as any version has written its recipe."""
    path = directory / RECIPE
    if not path.exists():
        raise UsageError(f"{directory} holds no study: there is no {RECIPE}")
    recipe = read_recipe(path)
    match recipe:
        case {"goal": {"metric": str(metric), "value": float() | int() | None as goal}, "trials": int(num_trials)}:
            return metric, goal, num_trials
    raise UsageError(f"{path} is not what a study has written: goal and trials are not in it")


def describe_regimes(found: Regimes, spread: Spread) -> list[str]:
    """Both limits with their intervals over trials, one a line."""
    low, high = spread.perfect_until
    perfect = f"perfect scaling up to batch size {found.perfect_until} (95 % over trials: {low:g} to {high:g})"
    first, last = (f"{end:g}" if math.isfinite(end) else "none" for end in spread.maximal_from)
    if found.maximal_from is None:
        flat = "at the largest batch size steps are not within 2^0.5 of the least: no flat end"
        return [perfect, f"{flat} ({first} to {last})"]
    return [perfect, f"from {found.maximal_from} on ({first} to {last}) steps stay within 2^0.5 of the least"]


def _row(study: Study, metric: str, goal: float | None, num_trials: int, found: Result | None) -> tuple[str, ...]:
    """One batch size."""
    counts = [study.count(status) for status in HEADER[1:4]]
    left = num_trials - len(study.trials)
    reached = sum(
        goal is not None and trial.status == "COMPLETE" and first_step(trial, metric, goal) is not None
        for trial in study.trials
    )
    steps, best = "-", "-"
    if found is not None:
        steps = str(found.steps)
        values = (f"{name} {value:.4g}" for name, value in found.trial.parameters.items())
        best = f"{found.trial.trial_id}: {', '.join(values)}"
    return (str(study.batch_size), *map(str, counts), str(left), str(reached), steps, best)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows in columns: the last one to the left, all others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join([*(cell.rjust(width) for cell, width in zip(row[:-1], widths[:-1], strict=True)), row[-1]])
        for row in rows
    ]


def _read_record(path: Path) -> dict[str, Any] | None:
    """What is kept of a finished group; None where it is damaged."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        sound = all(record[f"{name}_seconds"] >= 0 for name in ("setup", "training", "evaluation", "bookkeeping"))
        sound = sound and record["wall_seconds"] > 0 and len(record["trials"]) > 0 and isinstance(record["group"], str)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return record if sound else None


def _pace(directory: Path) -> list[str]:
    """How fast it goes, and what takes the time."""
    read = {path.name: _read_record(path) for path in sorted((directory / GROUPS).glob("*.json"))}
    lines = [f"not used: {GROUPS}/{name} is damaged" for name, record in read.items() if record is None]
    records = [record for record in read.values() if record is not None]
    if records:
        busy = sum(record["wall_seconds"] for record in records)
        kept = sum(record["bookkeeping_seconds"] for record in records)
        trials = sum(len(record["trials"]) for record in records)
        share = {name: sum(r[f"{name}_seconds"] for r in records) for name in ("setup", "training", "evaluation")}
        lines.append(
            f"{trials} trials in {busy + kept:.0f} s of the teams: training {share['training'] / (busy + kept):.1%}, "
            f"evaluation {share['evaluation'] / (busy + kept):.1%}, bookkeeping {kept / (busy + kept):.2%}; "
            f"starting a trial takes {1e3 * share['setup'] / trials:.1f} ms"
        )
    work = directory / WORK
    claims = [path for path in work.glob("*/*") if path.is_file() and path.name != "stop"] if work.exists() else []
    done = {record["group"] for record in records}
    running = sorted((path for path in claims if path.name not in done), key=lambda path: path.stat().st_mtime)
    lines += [
        f"group {path.name} was taken by {path.read_text().strip()} {time.time() - path.stat().st_mtime:.0f} s ago"
        for path in running
    ]
    return lines
