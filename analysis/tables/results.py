"""Tables of batch-size studies: steps to result, regimes, learning rates, budgets, as in Shallue 2019.

All definitions are those of ``hpcsgd.study``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

import published
from hpcsgd.study import budgets, learning_rate, regimes, result
from hpcsgd.study.archive import Study, Trial
from runs.workloads import Workload


def own_goal(workload: Workload, metric: str) -> float:
    """A goal for a workload that none is given for: the best that the batch size with the worst best trial did.

    Rounded up to two significant digits, so that it is strictly beaten at every batch size.
    """
    best = [value for study in workload.studies if (value := best_value(study, metric)) is not None]
    if not best:
        return math.nan
    scale = 10.0 ** (1 - math.floor(math.log10(max(best)))) if max(best) > 0 else 100.0
    return (math.floor(max(best) * scale) + 1) / scale


def best_value(study: Study, metric: str) -> float | None:
    """The least value that a COMPLETE trial of a study has measured; None without any."""
    values = [
        float(np.nanmin(trial.measurements[metric]))
        for trial in study.trials
        if trial.status == "COMPLETE" and metric in trial.measurements and np.isfinite(trial.measurements[metric]).any()
    ]
    return min(values, default=None)


def steps_by_batch(workload: Workload, metric: str, goal: float) -> dict[int, int]:
    """Steps to result at each batch size that reaches the goal."""
    found = {study.batch_size: result.steps_to_result(study, metric, goal) for study in workload.studies}
    return {size: item.steps for size, item in found.items() if item is not None}


def result_table(workloads: Sequence[Workload], metric: str, goals: Sequence[float]) -> pd.DataFrame:
    """One row a workload, goal and batch size: trials by status, steps to result and the trial that took them."""
    rows = []
    for workload in workloads:
        for goal in goals or [own_goal(workload, metric)]:
            steps = steps_by_batch(workload, metric, goal)
            ideal = result.perfect_scaling(steps, workload.batch_sizes[0]) if workload.batch_sizes[0] in steps else {}
            rows += [_result_row(workload, study, metric, goal, ideal) for study in workload.studies]
    return pd.DataFrame(rows)


def _result_row(
    workload: Workload, study: Study, metric: str, goal: float, ideal: dict[int, float]
) -> dict[str, object]:
    found = result.steps_to_result(study, metric, goal)
    statuses = [trial.status for trial in study.trials]
    row: dict[str, object] = {
        "workload": workload.name,
        "metric": metric,
        "goal": goal,
        "batch_size": study.batch_size,
        "num_complete": statuses.count("COMPLETE"),
        "num_incomplete": statuses.count("INCOMPLETE"),
        "num_infeasible": statuses.count("INFEASIBLE"),
        "num_reached": sum(reached(trial, metric, goal) for trial in study.trials if trial.status == "COMPLETE"),
        "steps_to_result": math.nan if found is None else float(found.steps),
        "perfect_steps": ideal.get(study.batch_size, math.nan),
        "best_metric": best_value(study, metric),
        "trial_id": None if found is None else str(found.trial.trial_id),
    }
    parameters = {} if found is None else dict(found.trial.parameters)
    if {"learning_rate", "momentum"} <= parameters.keys():
        rate = learning_rate.effective(parameters["learning_rate"], parameters["momentum"])
        parameters["effective_learning_rate"] = rate
    return row | parameters


def open_studies(workload: Workload) -> list[str]:
    """One line where batch sizes have other numbers of COMPLETE trials: of fewer trials, steps to result are more."""
    counts = {study.batch_size: len(result.counted_trials(study)) for study in workload.studies}
    most = max(counts.values())
    fewer = [f"{size} ({count})" for size, count in counts.items() if count < most]
    if not fewer:
        return []
    return [
        f"{workload.name}: fewer than the {most} COMPLETE trials of others at batch size {', '.join(fewer)}: the best "
        "of fewer trials takes more steps."
    ]


def reached(trial: Trial, metric: str, goal: float) -> bool:
    """Whether a trial was strictly better than the goal at any time."""
    return metric in trial.measurements and bool((trial.measurements[metric] < goal).any())


def regime_table(workloads: Sequence[Workload], metric: str, goals: Sequence[float], draws: int) -> pd.DataFrame:
    """One row a workload and goal: both limits with their 95 % intervals over trials."""
    rows = []
    for workload in workloads:
        for goal in goals or [own_goal(workload, metric)]:
            steps = steps_by_batch(workload, metric, goal)
            if len(steps) < 2:
                continue
            limits = regimes.limits(steps)
            spread = regimes.bootstrap(workload.studies, metric, goal, draws=draws)
            rows.append(
                {
                    "workload": workload.name,
                    "metric": metric,
                    "goal": goal,
                    "perfect_until": limits.perfect_until,
                    "perfect_until_low": spread.perfect_until[0],
                    "perfect_until_high": spread.perfect_until[1],
                    # Not reached: beyond all batch sizes.
                    "maximal_from": math.inf if limits.maximal_from is None else limits.maximal_from,
                    "maximal_from_low": spread.maximal_from[0],
                    "maximal_from_high": spread.maximal_from[1],
                    "num_draws": draws,
                    # Passed over: what the regimes are there is not known.
                    "not_reached": ", ".join(str(size) for size in workload.batch_sizes if size not in steps),
                }
            )
    return pd.DataFrame(rows)


def slope_table(workloads: Sequence[Workload], metric: str, goals: Sequence[float]) -> pd.DataFrame:
    """Local slopes, d log2 steps / d log2 batch size, between neighbouring batch sizes: -1 is perfect scaling."""
    rows = []
    for workload in workloads:
        for goal in goals or [own_goal(workload, metric)]:
            steps = steps_by_batch(workload, metric, goal)
            sizes = sorted(steps)
            for (low, high), slope in zip(zip(sizes, sizes[1:], strict=False), slopes(steps), strict=True):
                rows.append({"workload": workload.name, "goal": goal, "from": low, "to": high, "slope": slope})
    return pd.DataFrame(rows)


def slopes(steps: dict[int, int]) -> list[float]:
    """The local slopes in the order of the batch sizes."""
    return [float(slope) for slope in regimes.local_slopes(steps).values()]


def rate_table(workloads: Sequence[Workload], metric: str, goals: Sequence[float]) -> pd.DataFrame:
    """Optimal effective learning rate by batch size, with the linear and the square-root heuristic."""
    rows = []
    for workload in workloads:
        goal = (list(goals) or [own_goal(workload, metric)])[0]
        best = learning_rate.optimal_effective(workload.studies, metric, goal)
        if not best:
            continue
        lines = learning_rate.heuristics(best)
        for size, value in sorted(best.items()):
            rows.append(
                {
                    "workload": workload.name,
                    "goal": goal,
                    "batch_size": size,
                    "optimal_effective_learning_rate": value,
                    "linear": lines["linear"][size],
                    "sqrt": lines["sqrt"][size],
                }
            )
    return pd.DataFrame(rows)


def trial_table(workload: Workload, metric: str, goal: float) -> pd.DataFrame:
    """One row a trial: its metaparameters, its status, whether it reached the goal, and whether it is the best."""
    rows = []
    for study in workload.studies:
        found = result.steps_to_result(study, metric, goal)
        for trial in study.trials:
            best = found is not None and trial.trial_id == found.trial.trial_id
            rows.append(
                {
                    "batch_size": study.batch_size,
                    "trial_id": trial.trial_id,
                    "status": trial.status,
                    "reached": reached(trial, metric, goal),
                    "best": best,
                    **trial.parameters,
                }
            )
    return pd.DataFrame(rows)


def budget_table(workload: Workload, metric: str) -> pd.DataFrame:
    """Best metric of each batch size under four step budgets and four epoch budgets, each the half of the next.

    ``best_metric`` is NaN where a batch size was not trained for as long, or has nothing measured by then: what it
    would have reached is not known.
    """
    rows = []
    samples = workload.train_samples
    lengths = [budgets.trained_steps(study) for study in workload.studies]
    for budget in _halvings(min(lengths), max(lengths)):
        for study in workload.studies:
            best = budgets.best_under_steps(study, metric, budget) if measures(study, metric) else None
            rows.append(_budget_row(workload, "steps", budget, study, budget, best))
    if samples:
        epochs = [steps * study.batch_size / samples for steps, study in zip(lengths, workload.studies, strict=True)]
        for budget in _halvings(min(epochs), max(epochs)):
            for study in workload.studies:
                known = measures(study, metric)
                best = budgets.best_under_epochs(study, metric, budget, samples) if known else None
                rows.append(_budget_row(workload, "epochs", budget, study, budget * samples / study.batch_size, best))
    return pd.DataFrame(rows, columns=["workload", "kind", "budget", "batch_size", "trained_steps", "best_metric"])


def _budget_row(
    workload: Workload, kind: str, budget: float, study: Study, steps: float, best: float | None
) -> dict[str, object]:
    """One batch size under one budget, which is so many of its steps."""
    known = best is not None and budgets.is_trained_for(study, steps)
    return {
        "workload": workload.name,
        "kind": kind,
        "budget": budget,
        "batch_size": study.batch_size,
        "trained_steps": budgets.trained_steps(study),
        "best_metric": best if known else math.nan,
    }


def budgets_left_out(workload: Workload, points: pd.DataFrame) -> list[str]:
    """One line where rows of :func:`budget_table` are not known."""
    unknown = int(points["best_metric"].isna().sum())
    if not unknown:
        return []
    return [
        f"shallue_budgets of {workload.name}: {unknown} of {len(points)} points are left out: batch sizes that were "
        "not trained for so long, or have nothing measured by then."
    ]


def measures(study: Study, metric: str) -> bool:
    """Whether a trial of a study has measured the metric."""
    return any(metric in trial.measurements for trial in study.trials)


def measured(workload: Workload) -> list[str]:
    """What the trials of a workload have measured of the validation split, each once, in the order of the archive."""
    trials = (trial for study in workload.studies for trial in study.trials)
    return list(dict.fromkeys(name for trial in trials for name in trial.measurements if name.startswith("val/")))


def _halvings(low: float, high: float) -> list[float]:
    """Up to four budgets from ``low`` on, each twice the one before, not above ``high``; two digits each."""
    first = float(f"{low:.1g}") or low
    values = [first * 2**power for power in range(4)]
    return [value for value in values if value <= high] or [high]


def published_points(dataset: str) -> pd.DataFrame:
    """The published steps to result of a data set, one row a model, optimizer, goal and batch size."""
    points = published.read("shallue_steps_to_result")
    points = points[points["dataset"] == dataset]
    return points.assign(steps=2.0 ** points["log2_steps_to_result"])


def smoothing_steps(workload: Workload, metric: str, goal: float) -> dict[float, dict[int, int]]:
    """Steps to result with each label smoothing that the trials of a workload have, by batch size."""
    values = sorted(
        {
            t.parameters["label_smoothing"]
            for s in workload.studies
            for t in s.trials
            if "label_smoothing" in t.parameters
        }
    )
    found = {}
    for value in values:
        kept = [
            Study(
                s.dataset,
                s.model,
                s.optimizer,
                s.batch_size,
                s.settings,
                [t for t in s.trials if t.parameters.get("label_smoothing") == value],
            )
            for s in workload.studies
        ]
        part = Workload(workload.dataset, workload.model, workload.optimizer, tuple(kept))
        found[value] = steps_by_batch(part, metric, goal)
    return {value: steps for value, steps in found.items() if steps}
