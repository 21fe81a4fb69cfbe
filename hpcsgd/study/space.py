"""Quasi-random points of a search space, in the scales and types of the public archive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

_SEARCH_STREAM = 4
"""First word of the search's seeds, in the count of ``hpcsgd.data.shards``."""


def draw_points(
    space: Mapping[str, Mapping[str, Any]], number: int, seed: int, batch_size: int
) -> list[dict[str, float]]:
    """Points of a scrambled Sobol sequence; those of fewer trials are the first of those of more.

    Args:
        space: ``parameter_configs`` of the archive.
        number: of points.
        seed: of the study.
        batch_size: each has points of its own.
    """
    from scipy.stats import qmc

    generator = np.random.default_rng([_SEARCH_STREAM, seed, batch_size])
    sobol = qmc.Sobol(len(space), scramble=True, rng=generator)
    # Whole powers of two: what is left out of the last is what keeps the sequence balanced.
    unit = sobol.random_base2((number - 1).bit_length())[:number]
    return [
        {name: scale_up(config, float(place)) for place, (name, config) in zip(row, space.items(), strict=True)}
        for row in unit
    ]


def scale_up(config: Mapping[str, Any], place: float) -> float:
    """The value at ``place``, from 0 to 1, of a parameter's range."""
    if config["type"] == "DISCRETE":
        points = config["feasible_points"]
        value: float = points[min(int(place * len(points)), len(points) - 1)]
        return value
    low, high = config["min_value"], config["max_value"]
    if config["type"] == "INTEGER":
        return int(min(low + int(place * (high - low + 1)), high))
    if config["scale"] == "LOG_SCALE":
        value = low * (high / low) ** place
    elif config["scale"] == "REVERSE_LOG_SCALE":
        value = 1 - (1 - low) * ((1 - high) / (1 - low)) ** place
    else:
        value = low + (high - low) * place
    # Rounding may go beyond an end.
    return float(min(max(value, low), high))


def place_of(config: Mapping[str, Any], value: float) -> float | None:
    """Where ``value`` lies in a parameter's range, from 0 to 1; None where there is no range."""
    if config["type"] == "DISCRETE":
        return None
    low, high = config["min_value"], config["max_value"]
    if low == high:
        return None
    if config["scale"] == "LOG_SCALE":
        return float(np.log(value / low) / np.log(high / low))
    if config["scale"] == "REVERSE_LOG_SCALE":
        return float(np.log((1 - value) / (1 - low)) / np.log((1 - high) / (1 - low)))
    return float((value - low) / (high - low))
