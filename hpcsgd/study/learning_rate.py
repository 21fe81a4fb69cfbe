"""Effective learning rates, and the heuristics for them (Shallue 2019, section 4.7)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from hpcsgd.study.archive import Study
from hpcsgd.study.result import steps_to_result


def effective(learning_rate: float, momentum: float) -> float:
    """eta / (1 - mu)."""
    return learning_rate / (1 - momentum)


def optimal_effective(studies: Sequence[Study], metric: str, goal: float) -> dict[int, float]:
    """The effective learning rate of the trial with the least steps to result, by batch size.

    Batch sizes that do not reach the goal, or whose trials have no learning rate, are left out; without a momentum it
    is 0.
    """
    found = {study.batch_size: steps_to_result(study, metric, goal) for study in studies}
    return {
        size: effective(result.trial.parameters["learning_rate"], result.trial.parameters.get("momentum", 0.0))
        for size, result in sorted(found.items())
        if result is not None and "learning_rate" in result.trial.parameters
    }


def heuristics(values: Mapping[int, float]) -> dict[str, dict[int, float]]:
    """``linear`` and ``sqrt``: the value of the smallest batch size times the ratio of batch sizes, or its root."""
    base = min(values)
    return {
        "linear": {size: values[base] * size / base for size in values},
        "sqrt": {size: values[base] * math.sqrt(size / base) for size in values},
    }
