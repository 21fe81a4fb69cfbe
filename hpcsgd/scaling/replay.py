"""The cost model as a simulator: K ranks for T steps of an algorithm, all ranks at once.

Each rank computes on its own, and waits where ranks meet: at a gradient allreduce, at an averaging of its block or of
all. What is drawn are the steps' durations, so that distributions come out, and not only means. Leading axes of the
arrays (``...``) are machines that are replayed side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcsgd.scaling.methods import Method
from hpcsgd.scaling.ranks import Slowdown

Array = NDArray[np.float64]

CHUNK_NUMBERS = 1 << 23
"""Steps of ranks whose durations are drawn at once: 32 MB."""


@dataclass(frozen=True)
class Passes:
    """Parts of a rank's compute.

    Attributes:
        backward: the share of the backward pass, under which gradients are sent.
        update: the share of what comes after a gradient allreduce, and before an averaging.
    """

    backward: float = 2 / 3
    update: float = 0.0


@dataclass(frozen=True)
class Meetings:
    """Seconds of each synchronisation after the last arrival, if nothing hid it, [...] each.

    Attributes:
        gradient: of an allreduce of the gradient.
        last_bucket: the part of it that no backward pass can hide.
        block: of an averaging within a block.
        world: of one of all ranks.
    """

    gradient: Array
    last_bucket: float
    block: Array
    world: Array


@dataclass(frozen=True)
class Replayed:
    """What came out.

    Attributes:
        ends: when the last rank has done each step, [T, ...], in seconds.
        exposed_seconds: synchronisation that compute did not hide, of all steps, mean over ranks, [...].
        waited_seconds: the part of it before the last arrival.
        compute, enter, leave: of each step and rank, [T, ..., K], as a log has them (NaN: none); empty unless kept.
    """

    ends: Array
    exposed_seconds: Array
    waited_seconds: Array
    compute: Array
    enter: Array
    leave: Array

    @property
    def step_seconds(self) -> Array:
        """Of a step, mean over all, [...]."""
        return np.asarray(self.ends[-1] / len(self.ends))


class Durations:
    """Draws the compute of ranks, step by step."""

    def __init__(
        self,
        machines: Sequence[Slowdown],
        usual_seconds: Sequence[float],
        num_ranks: int,
        per_node: int,
        generator: np.random.Generator,
    ) -> None:
        """
        Args:
            machines: how unequally fast the ranks of each are.
            usual_seconds: of a step on each.
            num_ranks: of each.
            per_node: ranks on a node.
            generator: all is drawn from it.
        """
        self._machines = machines
        self._generator = generator
        lasting = [one.effects.draw(num_ranks, per_node, generator) for one in machines]
        self._usual = (np.log(np.asarray(usual_seconds))[:, None] + lasting).astype(np.float32)
        spreads = np.array([[m.noise.correlated, m.noise.correlation, m.noise.independent] for m in machines])
        self._correlated, self._correlation, self._independent = spreads.astype(np.float32).T[:, :, None]
        self._state = self._normal(self._usual.shape)

    def _normal(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        return self._generator.standard_normal(shape, dtype=np.float32)

    def draw(self, num_steps: int) -> NDArray[np.float32]:
        """The next steps, [num_steps, machines, ranks], in seconds."""
        logs = np.broadcast_to(self._usual, (num_steps, *self._usual.shape)).copy()
        for place, machine in enumerate(self._machines):
            if machine.noise.independent:
                own = machine.independent.draw((num_steps, self._usual.shape[1]), self._generator)
                logs[:, place] += self._independent[place] * own
        if self._correlated.any():
            rest = np.sqrt(1 - self._correlation**2)
            for moves, step in zip(self._normal(logs.shape), logs, strict=True):
                step += self._correlated * self._state
                self._state = self._correlation * self._state + rest * moves
        return np.asarray(np.exp(logs, out=logs))

    def chunks(self, num_steps: int) -> Iterator[NDArray[np.float32]]:
        """So many steps, in pieces that memory has room for."""
        length = max(1, CHUNK_NUMBERS // self._usual.size)
        for begin in range(0, num_steps, length):
            yield self.draw(min(length, num_steps - begin))


def replay(
    chunks: Iterable[NDArray[np.floating]],
    method: Method,
    meetings: Meetings,
    per_block: int,
    passes: Passes | None = None,
    *,
    keep: bool = False,
) -> Replayed:
    """Ranks that compute as long as ``chunks`` [steps, ..., ranks] say, and meet as ``method`` does.

    Args:
        chunks: seconds.
        method: the algorithm.
        meetings: what synchronisations take.
        per_block: ranks of a block, in rank order.
        passes: parts of the compute; unset, as :class:`Passes` says.
        keep: give the durations and times of entry and exit too.
    """
    ranks = _Ranks(method, meetings, per_block, passes or Passes())
    ends, kept = [], []
    for chunk in chunks:
        for compute in chunk:
            enter, leave = ranks.step(compute)
            ends.append(ranks.now.max(axis=-1))
            if keep:
                kept.append((compute, enter, leave))
    columns = [np.array(column, float) for column in zip(*kept, strict=True)] if keep else [np.zeros(0)] * 3
    return Replayed(np.array(ends), ranks.exposed, ranks.waited, *columns)


class _Ranks:
    """Where all ranks are."""

    def __init__(self, method: Method, meetings: Meetings, per_block: int, passes: Passes) -> None:
        self.method, self.meetings, self.per_block, self.passes = method, meetings, per_block, passes
        self.now: Array = np.zeros(0)
        self.exposed: Array = np.zeros(())
        self.waited: Array = np.zeros(())
        self._step = -1
        self._late: tuple[int, Array] | None = None

    def step(self, compute: NDArray[np.floating]) -> tuple[Array, Array]:
        """Do the next step, of so many seconds [..., ranks]; when each rank entered and left its synchronisation."""
        self._step += 1
        begin = self.now if self._step else np.zeros(compute.shape)
        action, none = self.method.action(self._step), np.full(compute.shape, np.nan)
        if action == "gradient":
            after = compute * self.passes.update
            there = begin + compute - after
            leave = np.broadcast_to(self._gradients_there(there, compute)[..., None], there.shape)
            self.now = leave + after
            return self._met(there, leave, there.max(axis=-1, keepdims=True))
        there = begin + compute
        enter, leave = none, none
        if self._late is not None and self._late[0] == self._step:
            leave = np.maximum(there, self._late[1][..., None])
            self._late = None
            enter, leave = self._met(there, leave, there.max(axis=-1, keepdims=True))
            there = leave
        self.now = there
        if action == "world" and self.method.late_steps:
            self._late = (self._step + self.method.late_steps, there.max(axis=-1) + self.meetings.world)
        elif action != "none":
            last = self._last(there) if action == "block" else there.max(axis=-1, keepdims=True)
            took = self.meetings.block if action == "block" else self.meetings.world
            self.now = np.broadcast_to(last + took[..., None], there.shape)
            enter, leave = self._met(there, self.now, last)
        return enter, leave

    def _gradients_there(self, there: Array, compute: NDArray[np.floating]) -> Array:
        """When the gradient's sum is there: the first bucket is sent within the backward pass, the last after it.

        Of equal buckets either the network is busy from the first on, or it waits for the last: those between do not
        decide, as what is ready and what is left to send are linear in their number.
        """
        last = self.meetings.last_bucket
        first = (there - compute * (self.passes.backward * (1 - last))).max(axis=-1)
        found: Array = np.maximum(first + self.meetings.gradient, there.max(axis=-1) + last * self.meetings.gradient)
        return found

    def _last(self, there: Array) -> Array:
        """When the last rank of each rank's block has come."""
        starts = np.arange(0, there.shape[-1], self.per_block)
        lasts = np.repeat(np.maximum.reduceat(there, starts, axis=-1), self.per_block, axis=-1)
        return np.asarray(lasts[..., : there.shape[-1]])

    def _met(self, there: Array, leave: Array, last: Array) -> tuple[Array, Array]:
        """Count what a synchronisation took."""
        self.exposed = self.exposed + (leave - there).mean(axis=-1)
        self.waited = self.waited + (np.minimum(last, leave) - there).mean(axis=-1)
        return there, leave
