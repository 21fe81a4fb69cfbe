"""A machine in numbers: how long collectives take on a network, and steps on ranks that are not equally fast.

Networks are told by the alpha-beta model (Hockney 1994): a message of n bytes takes alpha + n / beta seconds, alpha the
latency, beta the bandwidth of a link in each direction. Rings of k ranks send messages of n / k bytes one after
another, k - 1 of them for a reduce-scatter or an allgather (Thakur, Rabenseifner
and Gropp 2005).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK_STEPS = 1024
"""Steps whose random numbers are drawn at once."""


@dataclass(frozen=True)
class Level:
    """Links of one kind.

    Attributes:
        latency_seconds: alpha.
        bytes_per_second: beta; None: so much that no time is to be told.
    """

    latency_seconds: float = 0.0
    bytes_per_second: float | None = None

    def allreduce_seconds(self, num_bytes: float, size: int) -> float:
        """A ring's reduce-scatter and allgather: 2 (k - 1) alpha + 2 (k - 1) / k n / beta."""
        return self._seconds(2 * (size - 1), 2 * num_bytes * (size - 1) / size)

    def broadcast_seconds(self, num_bytes: float, size: int) -> float:
        """A binomial tree's scatter and a ring's allgather: (ceil(log2 k) + k - 1) alpha + 2 (k - 1) / k n / beta."""
        return self._seconds(math.ceil(math.log2(size)) + size - 1, 2 * num_bytes * (size - 1) / size)

    def allgather_seconds(self, num_bytes: float, size: int) -> float:
        """A ring, of ``num_bytes`` of each: (k - 1) (alpha + n / beta)."""
        return self._seconds(size - 1, num_bytes * (size - 1))

    def alltoall_seconds(self, num_bytes: float, size: int) -> float:
        """Pairwise exchanges, of ``num_bytes`` that go from each to all others together: (k - 1) alpha + n / beta."""
        return self._seconds(size - 1, num_bytes)

    def _seconds(self, messages: int, num_bytes: float) -> float:
        """Of messages one after another, with so many bytes in all."""
        return messages * self.latency_seconds + (num_bytes / self.bytes_per_second if self.bytes_per_second else 0.0)


@dataclass(frozen=True)
class Duration:
    """How long a collective is on the links within nodes and on those between nodes, in seconds."""

    within: float
    between: float

    @property
    def seconds(self) -> float:
        """In all: one after the other."""
        return self.within + self.between


@dataclass(frozen=True)
class Network:
    """Nodes with a link each, and ranks in them.

    A collective of ranks on several nodes does its first half within the nodes, then all between one rank of each
    node, then its second half within the nodes: an allreduce is reduce-scatter, allreduce, allgather.

    Attributes:
        within: the links of the ranks of a node.
        between: the links of the nodes.
    """

    within: Level
    between: Level

    def allreduce(self, num_bytes: float, nodes: Sequence[int]) -> Duration:
        """Of ``num_bytes`` over ranks on these ``nodes``, one entry a rank."""
        size, count = most_on_a_node(nodes)
        return Duration(
            self.within.allreduce_seconds(num_bytes, size), self.between.allreduce_seconds(num_bytes, count)
        )

    def broadcast(self, num_bytes: float, nodes: Sequence[int]) -> Duration:
        """Of ``num_bytes`` to ranks on these ``nodes``, one entry a rank."""
        size, count = most_on_a_node(nodes)
        return Duration(
            self.within.broadcast_seconds(num_bytes, size), self.between.broadcast_seconds(num_bytes, count)
        )

    def allgather(self, num_bytes: float, nodes: Sequence[int]) -> Duration:
        """Of ``num_bytes`` of each rank: within the nodes, between them what a node has, and what came, within."""
        size, count = most_on_a_node(nodes)
        within = self.within.allgather_seconds(num_bytes, size)
        if count > 1:
            within += self.within.broadcast_seconds(num_bytes * (len(nodes) - size), size)
        return Duration(within, self.between.allgather_seconds(num_bytes * size, count))

    def alltoall(self, num_bytes: float, nodes: Sequence[int]) -> Duration:
        """Of ``num_bytes`` of each rank, a part for each: those of the other nodes go over the link of the node."""
        size, count = most_on_a_node(nodes)
        part = num_bytes / len(nodes)
        return Duration(
            self.within.alltoall_seconds(part * (size - 1), size),
            self.between.alltoall_seconds(part * size * (len(nodes) - size), count),
        )


def most_on_a_node(nodes: Sequence[int]) -> tuple[int, int]:
    """The ranks on the node that has most of them, and the number of nodes; ``nodes`` has an entry a rank."""
    counts = Counter(nodes)
    return max(counts.values()), len(counts)


class Slowness:
    """How many times as long as usual each step of a rank takes: a function of seed, rank and step alone.

    The product of three factors, of which the last two are lognormal with mean 1: one that stays, one that goes from
    step to step by an autoregression of first order, and one that is drawn for each step alone. Waiting for the slowest
    rank once in H steps averages the last away, and never the first.
    """

    def __init__(
        self,
        seed: int,
        rank: int,
        *,
        lasting: float = 1.0,
        spread: float = 0.0,
        correlated_spread: float = 0.0,
        correlation: float = 0.0,
    ) -> None:
        """
        Args:
            seed: of all ranks.
            rank: this one.
            lasting: the factor that stays.
            spread: standard deviation of the logarithm of the independent factor.
            correlated_spread: that of the autocorrelated one.
            correlation: of the logarithms of that one, from a step to the next.
        """
        self._key = (seed, rank)
        self._lasting = lasting
        self._spread = spread
        self._correlated_spread = correlated_spread
        self._correlation = correlation
        self._block = -1
        self._state: float | None = None
        self._factors: list[float] = []

    def factor(self, step: int) -> float:
        """The factor of a step."""
        if not self._spread and not self._correlated_spread:
            return self._lasting
        block, place = divmod(step, BLOCK_STEPS)
        if block < self._block:
            self._block, self._state = -1, None
        while self._block < block:
            self._draw_next()
        return self._factors[place]

    def _draw_next(self) -> None:
        """Draw the factors of the next block."""
        self._block += 1
        generator = np.random.Generator(np.random.Philox(key=self._key, counter=[0, 0, 0, self._block]))
        own, moves = generator.standard_normal((2, BLOCK_STEPS))
        states, state, rest = [], self._state, math.sqrt(1 - self._correlation**2)
        for move in moves.tolist():
            state = move if state is None else self._correlation * state + rest * move
            states.append(state)
        self._state = state
        logs = _centred(own, self._spread) + _centred(np.array(states), self._correlated_spread)
        self._factors = (self._lasting * np.exp(logs)).tolist()


def _centred(normal: NDArray[np.float64], spread: float) -> NDArray[np.float64]:
    """Logarithms of lognormal numbers of mean 1, from standard normal ones."""
    return spread * normal - spread**2 / 2
