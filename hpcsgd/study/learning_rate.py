"""Effective learning rates, and the heuristics for them (Shallue 2019, section 4.7)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from hpcsgd.errors import UsageError
from hpcsgd.study.archive import Study
from hpcsgd.study.result import steps_to_result


def effective(learning_rate: float, momentum: float) -> float:
    """eta / (1 - mu): what a gradient moves the parameters by in all steps that come.

    Raises:
        UsageError: the momentum is not in [0, 1).
    """
    if not 0 <= momentum < 1:
        raise UsageError(f"momentum is {momentum!r}: give one of at least 0 and below 1")
    return learning_rate / (1 - momentum)


def optimal_effective(
    studies: Sequence[Study], metric: str, goal: float, *, higher_is_better: bool = False
) -> dict[int, float]:
    """The effective learning rate of the trial with the least steps to result, by batch size.

    Batch sizes that do not reach the goal, or whose trials have no learning rate, are left out; without a momentum it
    is 0.

    Raises:
        UsageError: nothing is measured of the metric.
    """
    found = {
        study.batch_size: steps_to_result(study, metric, goal, higher_is_better=higher_is_better) for study in studies
    }
    return {
        size: effective(result.trial.parameters["learning_rate"], result.trial.parameters.get("momentum", 0.0))
        for size, result in sorted(found.items())
        if result is not None and "learning_rate" in result.trial.parameters
    }


def heuristics(values: Mapping[int, float]) -> dict[str, dict[int, float]]:
    """``linear`` and ``sqrt``: the value of the smallest batch size times the ratio of batch sizes, or its root.

    Args:
        values: optimal effective learning rates by batch size; of none, both are empty.
    """
    base = min(values, default=1)
    return {
        "linear": {size: values[base] * size / base for size in sorted(values)},
        "sqrt": {size: values[base] * math.sqrt(size / base) for size in sorted(values)},
    }
