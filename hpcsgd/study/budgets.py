"""The best metric within a budget (Shallue 2019, section 4.8)."""

from __future__ import annotations

import numpy as np

from hpcsgd.study.archive import Study


def best_under_steps(study: Study, metric: str, max_steps: float, *, higher_is_better: bool = False) -> float | None:
    """The best measurement of any COMPLETE trial at a step <= ``max_steps``; None where there is none."""
    found = [
        values[known]
        for trial in study.trials
        if trial.status == "COMPLETE" and (values := trial.measurements.get(metric)) is not None
        if (known := (trial.measurements["step"] <= max_steps) & np.isfinite(values)).any()
    ]
    if not found:
        return None
    every = np.concatenate(found)
    return float(every.max() if higher_is_better else every.min())


def best_under_epochs(
    study: Study, metric: str, max_epochs: float, num_train_samples: int, *, higher_is_better: bool = False
) -> float | None:
    """The best measurement of any COMPLETE trial with B step <= ``max_epochs`` times the training set's size."""
    most = max_epochs * num_train_samples / study.batch_size
    return best_under_steps(study, metric, most, higher_is_better=higher_is_better)
