"""Steps to result, the line of perfect scaling, and best trials at the edge of their space.

Definitions as in the public archive: among the first 100 COMPLETE trials by id, the smallest measured step whose metric
is strictly better than the goal; ties by id.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hpcsgd.errors import UsageError
from hpcsgd.study.archive import Study, Trial
from hpcsgd.study.space import place_of

COUNTED_TRIALS = 100
EDGE = 0.05
"""A best trial within this part of the range, on its scale, lies at its edge."""


@dataclass(frozen=True)
class Result:
    """The least steps to a goal, and the trial that took them."""

    steps: int
    trial: Trial


def counted_trials(study: Study) -> list[Trial]:
    """The trials that count: the first 100 COMPLETE ones by id. More would find better ones."""
    complete = (trial for trial in study.trials if trial.status == "COMPLETE")
    return sorted(complete, key=lambda trial: trial.trial_id)[:COUNTED_TRIALS]


def steps_to_result(study: Study, metric: str, goal: float, *, higher_is_better: bool = False) -> Result | None:
    """The least steps to the goal (Shallue 2019, section 3); None where no trial that counts reached it.

    Raises:
        UsageError: no trial of the study has measured ``metric``.
    """
    require_metric(study, metric)
    best: Result | None = None
    for trial in counted_trials(study):
        step = first_step(trial, metric, goal, higher_is_better=higher_is_better)
        if step is not None and (best is None or step < best.steps):
            best = Result(step, trial)
    return best


def require_metric(study: Study, metric: str) -> None:
    """Refuse a metric that no trial of the study has; one without trials has none to be wrong.

    Raises:
        UsageError: the text names those that there are.
    """
    if study.trials and not any(metric in trial.measurements for trial in study.trials):
        names = dict.fromkeys(name for trial in study.trials for name in trial.measurements if name != "step")
        where = f"{'/'.join(study.workload)}/{study.batch_size}"
        raise UsageError(f"{where}: {metric} is not measured: there are {', '.join(names) or 'no metrics at all'}")


def first_step(trial: Trial, metric: str, goal: float, *, higher_is_better: bool = False) -> int | None:
    """The smallest step at which a trial was measured strictly better than the goal; None: at none."""
    values = trial.measurements.get(metric)
    if values is None:
        return None
    better = values > goal if higher_is_better else values < goal
    return int(trial.measurements["step"][better].min()) if better.any() else None


def perfect_scaling(steps: Mapping[int, float], base: int | None = None) -> dict[int, float]:
    """The line steps(B_0) B_0 / B through the batch size ``base``; unset, the smallest.

    Args:
        steps: steps to result by batch size.
        base: one of its batch sizes.

    Raises:
        UsageError: there are no steps at ``base``, or nowhere.
    """
    if not steps or (base is not None and base not in steps):
        known = ", ".join(map(str, sorted(steps))) or "none"
        raise UsageError(f"no steps to result at batch size {base}: the goal is reached at {known}")
    start = min(steps) if base is None else base
    return {size: steps[start] * start / size for size in sorted(steps)}


def edge_warnings(study: Study, best: Trial) -> list[str]:
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
    """An end of the range moved outwards by half of the range, on its scale, or half of it, so that it stays positive.

    None where there is nothing beyond.
    """
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
    if moved <= 0:
        moved = least / 2
    if config["type"] == "INTEGER":
        moved = max(round(moved), 1)
    beyond = moved < least if low else moved > greatest
    return moved if beyond and not (name in ("momentum", "label_smoothing") and moved >= 1) else None
