"""What many systems have in common: the prior of a curve, by the largest likelihood of their points."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from hpcsgd.scaling.curve import KIN_LIKELY, Points, Prior, evidence, log_mean

Kinds = Mapping[Hashable, Sequence[Points]]
"""The systems of each kind."""

GUESS = {"power": (0.5, 0.5), "spread": (-1.5, 0.7), "kinship": (-1.2, 0.7), "transfer": (-1.5, 1.0)}
GUESS |= {"latency": (-5.0, 1.0), "noise": (-3.5, 0.5), "care": (-0.5, 0.5)}
"""Before any data: middle and standard deviation of ``power`` and the logarithms of the others."""
TELLING = 4
FEW_DRAWS = 256
LEVEL_SPREAD = 1.5
"""Of the level, about a fixed part that is a tenth of the median system's step."""


def learn(workloads: Mapping[str, Kinds], max_rounds: int = 4) -> dict[str, Prior]:
    """The prior of each workload: they share all but their levels.

    Args:
        workloads: by name, the systems of each kind; each has one with several points at least.
        max_rounds: of the search.

    Returns:
        By name, the prior whose parameters are the most likely (empirical Bayes), each held by a wide guess.
    """
    from scipy.optimize import minimize

    names = list(workloads)
    middles = [_middle(workloads[name]) for name in names]
    workloads = {name: {kind: telling(systems) for kind, systems in kinds.items()} for name, kinds in workloads.items()}
    start = np.array([*middles, *(middle for middle, _ in GUESS.values())])
    scale = np.array([LEVEL_SPREAD] * len(names) + [width for _, width in GUESS.values()])

    def cost(offsets: Any) -> float:
        values = start + scale * offsets
        total = float(offsets @ offsets) / 2
        for place, name in enumerate(names):
            total -= _log_likelihood(workloads[name], make(values, place, len(names)))
        return total

    options = {"xtol": 0.05, "ftol": 1e-5, "maxiter": max_rounds}
    found = minimize(cost, np.zeros(len(start)), method="Powell", bounds=[(-3, 3)] * len(start), options=options)
    values = start + scale * found.x
    return {name: make(values, place, len(names)) for place, name in enumerate(names)}


def telling(systems: Sequence[Points]) -> list[Points]:
    """Those that tell compute from what is fixed: with local batches that differ ``TELLING`` times."""
    return [points for points in systems if points.local_batch.max() >= TELLING * points.local_batch.min()]


def make(values: Any, place: int, num_levels: int) -> Prior:
    """The prior of the parameters: levels first, then the others, as logarithms but for the power."""
    power, *logarithms = values[num_levels:]
    return Prior(float(values[place]), float(power), *(math.exp(value) for value in logarithms))


def _middle(kinds: Kinds) -> float:
    """The logarithm of a tenth of the median system's step, where the power is the guess's."""
    middle = GUESS["power"][0]
    systems = [points for systems in kinds.values() for points in systems]
    levels = [math.log(0.1 * points.seconds.min()) - middle * math.log(points.pace) for points in systems]
    return float(np.median(levels))


def _log_likelihood(kinds: Kinds, prior: Prior) -> float:
    """Of all points of a workload."""
    total = 0.0
    for systems in kinds.values():
        chances = KIN_LIKELY + sum(evidence(points, prior, FEW_DRAWS) for points in systems)
        total += float(log_mean(chances))
    return total
