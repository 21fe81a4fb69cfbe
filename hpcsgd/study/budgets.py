"""The best metric within a budget (Shallue 2019, section 4.8)."""

from __future__ import annotations

import math

import numpy as np

from hpcsgd.study.archive import Study
from hpcsgd.study.result import counted_trials, require_metric


def best_under_steps(study: Study, metric: str, max_steps: float, *, higher_is_better: bool = False) -> float | None:
    """The best that a trial has measured at a step <= ``max_steps``; None where nothing was measured by then.

    Its first 100 COMPLETE trials by id count: more would find better ones, and batch sizes are to be compared.

    Raises:
        UsageError: no trial of the study has measured ``metric``.
    """
    return _best(study, metric, max_steps, 1, higher_is_better)


def best_under_epochs(
    study: Study, metric: str, max_epochs: float, num_train_samples: int, *, higher_is_better: bool = False
) -> float | None:
    """The best with B step <= ``max_epochs`` times the size of the training set; else as :func:`best_under_steps`."""
    return _best(study, metric, max_epochs * num_train_samples, study.batch_size, higher_is_better)


def trained_steps(study: Study) -> int:
    """The steps that a study can be asked about: its ``train_steps``.

    Of one that was trained by time, those that all of its trials that count have taken; 0 without any.
    """
    given = int(study.settings.get("train_steps") or 0)
    return given if given > 0 else min((trial.steps for trial in counted_trials(study)), default=0)


def is_trained_for(study: Study, max_steps: float) -> bool:
    """Whether a study's trials were trained for at least so many steps.

    Where they were not, the best under such a budget is not known: training on would have changed it. A part of a step
    is none.
    """
    return trained_steps(study) >= math.floor(max_steps)


def _best(study: Study, metric: str, budget: float, cost: int, higher_is_better: bool) -> float | None:
    """The best while ``cost`` times the step is within the budget."""
    require_metric(study, metric)
    found = [
        trial.measurements[metric][cost * trial.measurements["step"] <= budget]
        for trial in counted_trials(study)
        if metric in trial.measurements
    ]
    values = np.concatenate([np.empty(0), *found])
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    return float(values.max() if higher_is_better else values.min())
