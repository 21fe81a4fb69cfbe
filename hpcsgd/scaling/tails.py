"""A distribution as it was seen, with a tail that goes on above: to be drawn from quickly, and in large numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CELLS = 1024
"""Equally likely parts of a distribution, each drawn as its middle; in the topmost the tail is drawn as it is."""

TAIL_BEGINS = 0.9
LEAST_TAIL = 10
"""Values that a tail is fitted on, at least."""

SHAPES = (-0.5, 0.3)
"""Of the tails that are believed: from one that ends to one that is longer than exponential."""


@dataclass(frozen=True)
class Independent:
    """Of variance 1 and mean 0.

    Attributes:
        cells: the middles of equally likely parts, rising, [CELLS].
        begin: where the tail begins, the quantile ``TAIL_BEGINS``.
        scale: of the tail, a generalised Pareto distribution; 0: nothing is above ``begin``.
        shape: likewise; below 0 it ends.
    """

    cells: NDArray[np.float64]
    begin: float
    scale: float
    shape: float

    def draw(self, shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[np.float32]:
        """So many numbers."""
        uniform = generator.random(shape, dtype=np.float32)
        places = (uniform * CELLS).astype(np.int32)
        found = self.cells.astype(np.float32)[places]
        top = places == CELLS - 1
        # Within the topmost cell a number of 24 bits has too few values left.
        found[top] = self._tail(1 - generator.random(int(top.sum())) / CELLS)
        return found

    def _tail(self, probability: NDArray[np.float64]) -> NDArray[np.float64]:
        """The quantiles of probabilities above ``TAIL_BEGINS``."""
        return self.begin + pareto((1 - probability) / (1 - TAIL_BEGINS), self.scale, self.shape)


def pareto(above: NDArray[np.float64], scale: float, shape: float) -> NDArray[np.float64]:
    """What a generalised Pareto number exceeds with the probability ``above``."""
    if abs(shape) < 1e-6:
        return np.asarray(-scale * np.log(above))
    return np.asarray(scale / shape * (above**-shape - 1))


def fit_independent(values: NDArray[np.float64]) -> Independent:
    """From numbers, which are brought to mean 0 and variance 1; normal, where they are few or all the same."""
    data = np.sort(np.asarray(values, float).ravel())
    if len(data) < LEAST_TAIL / (1 - TAIL_BEGINS) / 2 or data[0] == data[-1]:
        data = normal_sample()
    data = (data - data.mean()) / data.std()
    middles = (np.arange(CELLS) + 0.5) / CELLS
    begin = float(np.quantile(data, TAIL_BEGINS))
    scale, shape = _fit_pareto(data[data > begin] - begin)
    cells = np.quantile(data, middles)
    above = middles > TAIL_BEGINS
    cells[above] = begin + pareto((1 - middles[above]) / (1 - TAIL_BEGINS), scale, shape)
    return Independent(cells, begin, scale, shape)


def normal_sample() -> NDArray[np.float64]:
    """Normal quantiles, in the place of numbers that are not there."""
    from statistics import NormalDist

    normal = NormalDist()
    return np.array([normal.inv_cdf((place + 0.5) / CELLS) for place in range(CELLS)])


def _fit_pareto(excesses: NDArray[np.float64]) -> tuple[float, float]:
    """Scale and shape by the first two L-moments (Hosking and Wallis 1987), of sorted numbers above 0."""
    count = len(excesses)
    first = float(excesses.mean())
    second = float(np.sum((2 * np.arange(count) - count + 1) * excesses)) / (count * (count - 1))
    if second <= 0:
        return 0.0, 0.0
    shape = float(np.clip(2 - first / second, *SHAPES))
    return first * (1 - shape), shape
