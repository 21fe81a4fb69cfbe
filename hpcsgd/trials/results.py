"""What a study says so far: trials by status, steps to result, and best trials at the edge of their space.

Definitions as in the public archive: among the first 100 COMPLETE trials by id, the smallest measured step whose metric
is strictly better than the goal; ties by id.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcsgd.errors import UsageError
from hpcsgd.trials.points import place_of

COUNTED_TRIALS = 100
EDGE = 0.05
"""A best trial within this part of the range, on its scale, lies at its edge."""

SCALING_TOLERANCE = 0.5
"""In log2 of steps: the perfect-scaling line and the flat end may be missed by so much."""


@dataclass(frozen=True)
class KeptTrial:
    """A trial as the archive holds it."""

    trial_id: int
    status: str
    steps: int
    parameters: Mapping[str, float]
    measurements: Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class KeptStudy:
    """All trials of one batch size, and its ``study.json``."""

    batch_size: int
    settings: Mapping[str, Any]
    trials: Sequence[KeptTrial]

    def count(self, status: str) -> int:
        """Trials of a status."""
        return sum(trial.status == status for trial in self.trials)


def read_studies(archive: Path) -> list[KeptStudy]:
    """The studies of all batch sizes in an archive of one workload, by batch size.

    Raises:
        UsageError: a file cannot be read.
    """
    studies = []
    for path in sorted(archive.glob("*/*/*/*/study.json"), key=lambda path: int(path.parent.name)):
        try:
            settings = json.loads(path.read_text())
            folders = sorted((f for f in path.parent.iterdir() if f.is_dir()), key=lambda f: int(f.name))
            studies.append(KeptStudy(settings["batch_size"], settings, [_read_trial(folder) for folder in folders]))
        except (OSError, ValueError, KeyError) as error:
            raise UsageError(f"{path.parent} is no study of the public layout: {error!r}") from error
    return studies


def _read_trial(folder: Path) -> KeptTrial:
    """One trial."""
    metadata = json.loads((folder / "metadata.json").read_text())
    with (folder / "measurements.csv").open(newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    return KeptTrial(
        int(metadata["trial_id"]), metadata["status"], int(metadata["steps"]), metadata["parameters"], rows
    )


def steps_to_result(study: KeptStudy, metric: str, goal: float) -> tuple[int, KeptTrial] | None:
    """The least steps to the goal, and the trial that took them; None where none reached it."""
    complete = sorted((t for t in study.trials if t.status == "COMPLETE"), key=lambda trial: trial.trial_id)
    reached = [
        (int(row["step"]), trial.trial_id, trial)
        for trial in complete[:COUNTED_TRIALS]
        for row in trial.measurements
        if row[metric] < goal
    ]
    if not reached:
        return None
    steps, _, trial = min(reached, key=lambda found: found[:2])
    return steps, trial


def limits(steps: Mapping[int, int]) -> tuple[int, int]:
    """The largest batch size with perfect scaling, and the smallest from which steps stay flat.

    Args:
        steps: steps to result by batch size.
    """
    sizes = sorted(steps)
    samples = {size: math.log2(steps[size] * size) for size in sizes}
    perfect = sizes[0]
    for size in sizes:
        if samples[size] - samples[sizes[0]] > SCALING_TOLERANCE:
            break
        perfect = size
    least = math.log2(min(steps.values()))
    flat = sizes[-1]
    for size in reversed(sizes):
        if math.log2(steps[size]) - least > SCALING_TOLERANCE:
            break
        flat = size
    return perfect, flat


def edge_warnings(study: KeptStudy, best: KeptTrial) -> list[str]:
    """For each parameter of the best trial that lies at an edge of its range: which, and the wider range proposed."""
    warnings = []
    for name, config in study.settings["parameter_configs"].items():
        place = place_of(config, best.parameters[name])
        if place is None or EDGE <= place <= 1 - EDGE:
            continue
        wider = _widen(config, low=place < EDGE, name=name)
        if wider is not None:
            value, end = best.parameters[name], "min" if place < EDGE else "max"
            warnings.append(
                f"batch size {study.batch_size}: the best trial has {name} {value:.4g}, at the edge of "
                f"{config['min_value']:.4g} to {config['max_value']:.4g}: try {end} {wider:.4g}"
            )
    return warnings


def _widen(config: Mapping[str, Any], *, low: bool, name: str) -> float | None:
    """An end of the range moved outwards by half of the range, on its scale; None where there is nothing beyond."""
    least, greatest = config["min_value"], config["max_value"]
    scale = config["scale"]
    if scale == "LOG_SCALE":
        factor = math.sqrt(greatest / least)
        moved = least / factor if low else greatest * factor
    elif scale == "REVERSE_LOG_SCALE":
        factor = math.sqrt((1 - least) / (1 - greatest))
        moved = 1 - (1 - least) * factor if low else 1 - (1 - greatest) / factor
    else:
        moved = least - (greatest - least) / 2 if low else greatest + (greatest - least) / 2
    moved = max(moved, 0.0)
    if config["type"] == "INTEGER":
        moved = max(round(moved), 1)
    beyond = moved < least if low else moved > greatest
    return moved if beyond and not (name in ("momentum", "label_smoothing") and moved >= 1) else None
