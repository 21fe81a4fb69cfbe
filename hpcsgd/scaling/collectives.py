"""What collectives cost by their size and the levels of the network that they cross, from few measurements.

The cost is linear in five numbers (alpha and 1 / beta of the links within nodes and of those between nodes, and what a
rank does itself each time), so that they are found by least squares with none below zero. :mod:`hpcsgd.study.machine`
says how many messages and bytes an allreduce has on each level. A message's knee, where its time begins to grow with
its size, is at alpha beta bytes. What the measurements leave open is held by priors, which a table of many sizes
outweighs; the intervals draw both anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hpcsgd.study.machine import Duration, Level, Network, most_on_a_node

Kind = Literal["allreduce", "allgather", "alltoall"]

MESSAGES = Network(Level(1.0), Level(1.0))
"""Durations on it are numbers of messages."""

BYTES = Network(Level(0.0, 1.0), Level(0.0, 1.0))
"""Durations on it are bytes."""

NUM_NUMBERS = 5
PRIOR_LATENCY_SECONDS = np.array([5e-6, 20e-6])
PRIOR_LATENCY_ERRORS = np.array([20e-6, 100e-6])
"""What is thought of latencies within and between nodes before anything is measured."""

WITHIN_PER_BETWEEN = (1.0, 10.0)
"""How many times as fast links within nodes may be, where no run crosses nodes."""


@dataclass(frozen=True)
class Timing:
    """A measured collective.

    Attributes:
        kind: which.
        num_bytes: of each rank.
        nodes: the node of each rank.
        seconds: what remains after the last arrival, with what compute hid.
        error: standard error of that.
        parts: messages in which it goes, one after another.
    """

    kind: Kind
    num_bytes: float
    nodes: tuple[int, ...]
    seconds: float
    error: float
    parts: int = 1


@dataclass(frozen=True)
class Costs:
    """What collectives cost.

    Attributes:
        own_seconds: what a rank does itself at each synchronisation, or waits for a library.
        network: the links.
    """

    own_seconds: float
    network: Network

    def seconds(self, kind: Kind, num_bytes: float, nodes: Sequence[int], parts: int = 1) -> float:
        """A collective, in so many parts, of ranks on these ``nodes``, one entry a rank."""
        return self.own_seconds + parts * duration(self.network, kind, num_bytes / parts, nodes).seconds


def duration(network: Network, kind: Kind, num_bytes: float, nodes: Sequence[int]) -> Duration:
    """On the links alone; a rank alone needs none."""
    if len(nodes) < 2:
        return Duration(0.0, 0.0)
    formulas: dict[Kind, Callable[[float, Sequence[int]], Duration]] = {
        "allreduce": network.allreduce,
        "allgather": network.allgather,
        "alltoall": network.alltoall,
    }
    return formulas[kind](num_bytes, nodes)


def features(timing: Timing) -> NDArray[np.float64]:
    """What the five numbers are multiplied by: 1, messages and bytes within nodes, messages and bytes between them."""
    messages, num = (
        duration(MESSAGES, timing.kind, 0.0, timing.nodes),
        duration(BYTES, timing.kind, timing.num_bytes, timing.nodes),
    )
    return np.array([1.0, timing.parts * messages.within, num.within, timing.parts * messages.between, num.between])


def levels_of(nodes: Sequence[int]) -> set[str]:
    """The levels that a collective of ranks on these nodes crosses: of ``within`` and ``between``."""
    size, count = most_on_a_node(nodes)
    return {name for name, several in (("within", size > 1), ("between", count > 1)) if several}


@dataclass(frozen=True)
class Unknown:
    """The least squares of :func:`fit_costs`, to be solved again with measurements drawn anew.

    Attributes:
        rows: features of the timings and priors, each over its error, [n, 5].
        values: seconds, each over its error, [n].
        known: a network that is given, in the place of what is fitted.
        crosses: the levels that the timings cross.
    """

    rows: NDArray[np.float64]
    values: NDArray[np.float64]
    known: Network | None
    crosses: frozenset[str]

    def solve(self, generator: np.random.Generator | None = None) -> Costs:
        """The costs; with a generator, by measurements drawn anew from what they may have been."""
        values = self.values if generator is None else self.values + generator.standard_normal(len(self.values))
        found = non_negative(self.rows, values)
        if self.known is not None:
            return Costs(float(found[0]), self.known)
        return Costs(float(found[0]), self._network(found, generator))

    def _network(self, found: NDArray[np.float64], generator: np.random.Generator | None) -> Network:
        """Of what was found; a level that nothing has crossed is like the other, or some times as slow."""
        within, between = (Level(float(a), 1.0 / b if b > 0 else None) for a, b in (found[1:3], found[3:5]))
        low, high = np.log(WITHIN_PER_BETWEEN)
        factor = float(np.exp((low + high) / 2 if generator is None else generator.uniform(low, high)))
        if "between" not in self.crosses and "within" in self.crosses:
            between = Level(within.latency_seconds * factor, _scaled(within.bytes_per_second, 1 / factor))
        elif "within" not in self.crosses and "between" in self.crosses:
            within = Level(between.latency_seconds / factor, _scaled(between.bytes_per_second, factor))
        return Network(within, between)


def _scaled(bytes_per_second: float | None, factor: float) -> float | None:
    return None if bytes_per_second is None else bytes_per_second * factor


def fit_costs(timings: Sequence[Timing], known: Network | None = None) -> Unknown:
    """The costs of collectives from timings; with a ``known`` network, only what a rank does itself.

    Weighted least squares with rows for the priors of the latencies, as if these had been measured.
    """
    rows, values = [], []
    for timing in timings:
        row, seconds = features(timing), timing.seconds
        if known is not None:
            seconds -= Costs(0.0, known).seconds(timing.kind, timing.num_bytes, timing.nodes, timing.parts)
            row = np.eye(NUM_NUMBERS)[0]
        rows.append(row / timing.error)
        values.append(seconds / timing.error)
    for place, mean, error in zip((1, 3), PRIOR_LATENCY_SECONDS, PRIOR_LATENCY_ERRORS, strict=True):
        rows.append(np.eye(NUM_NUMBERS)[place] / error)
        values.append(mean / error)
    crosses = frozenset().union(*(levels_of(timing.nodes) for timing in timings))
    if known is not None:
        crosses = frozenset(("within", "between"))
    return Unknown(np.array(rows), np.array(values), known, crosses)


def non_negative(rows: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """``x`` of least |rows x - values| with no number below zero; 0 where a column has nothing but zeros.

    Five numbers have 32 sets that may be above zero: the best of those whose solution is so is the answer.
    """
    scale = np.linalg.norm(rows, axis=0)
    there = np.flatnonzero(scale > 0)
    scaled = rows[:, there] / scale[there]
    best, least = np.zeros(rows.shape[1]), float(values @ values)
    for mask in range(1, 1 << len(there)):
        chosen = [place for place in range(len(there)) if mask >> place & 1]
        part = scaled[:, chosen]
        solution = np.linalg.lstsq(part, values, rcond=1e-12)[0]
        rest = float(np.sum((part @ solution - values) ** 2))
        if solution.min() >= 0 and rest < least * (1 - 1e-12):
            best, least = np.zeros(rows.shape[1]), rest
            best[there[chosen]] = solution / scale[there[chosen]]
    return best
