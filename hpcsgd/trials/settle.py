"""What is settled once for each batch size of a study, and then holds for every start of it: how its trials train.

Trials that train together may pay or not: for small networks and batches what an operation costs by itself is shared,
for large ones nothing is gained, and a group is a large piece of work to share out and to lose. So it is measured.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from hpcsgd.errors import is_out_of_memory
from hpcsgd.learners.engines.base import NotPossibleError
from hpcsgd.trials.batches import GroupBatches
from hpcsgd.trials.groups import SizePlan
from hpcsgd.trials.workshop import Workshop

FUSES = (1, 2, 4, 8, 16)
"""Sizes of groups that ``fuse: auto`` tries."""

MOST_SAMPLES = 1 << 17
"""Of one step of a group: larger ones are not tried. They take much memory, and fusing does not pay there."""

LONGEST_STEP = 0.25
"""Seconds of a step from which on no larger group is tried: what takes long then is no start of an operation."""

MUST_GAIN = 1.1
"""How much faster a trial must be in a group to give up the freedom of training it alone."""

ROUND_SECONDS = 0.02
ROUNDS = 7
MEASURE_SECONDS = 1.5
"""All ways are measured in turn, so often, or until this is over: another process slows down a round, not a way."""


def settle(shop: Workshop) -> list[SizePlan]:
    """The plan of each batch size, from the recipe and from a few steps of training that count for nothing."""
    config = shop.config
    plans = []
    for size in config.batch_sizes:
        engine, fuse = choose(shop, size)
        budget = config.stop.budget(size, len(shop.training))
        plans.append(SizePlan(size, budget, engine, even_size(config.trials, fuse)))
    return plans


def fusing_engine(shop: Workshop) -> str | None:
    """The engine that takes the passes of a whole group at once; None: no one can take this model.

    Where ``dense`` can, it does what ``fused`` does with fewer operations.
    """
    stack = shop.make_stack([0])
    for name in ("dense", "fused"):
        with contextlib.suppress(NotPossibleError):
            return shop.make_engine(name, stack, torch.zeros(1)).name
    return None


def choose(shop: Workshop, batch_size: int) -> tuple[str, int]:
    """Engine and size of the groups at ``batch_size``."""
    wanted, engine = shop.config.fuse, fusing_engine(shop)
    if engine is None:
        return "loop", 1 if wanted == "auto" else wanted
    if wanted == "auto":
        possible = [number for number in FUSES if number <= shop.config.trials and number * batch_size <= MOST_SAMPLES]
        best = fastest(make_ways(shop, batch_size, engine, possible), MUST_GAIN)
        return best.engine, best.number
    if engine == "dense":
        return engine, wanted
    return fastest(make_ways(shop, batch_size, engine, [min(wanted, shop.config.trials)]), 1.0).engine, wanted


def make_ways(shop: Workshop, batch_size: int, engine: str, numbers: Sequence[int]) -> list[Way]:
    """One trial by ``loop``, and groups of so many by ``engine``, as far as time and memory allow."""
    ways = [Way(shop, batch_size, "loop", 1)]
    for number in numbers:
        if ways[-1].step_seconds > LONGEST_STEP:
            break
        try:
            ways.append(Way(shop, batch_size, engine, number))
        except RuntimeError as error:
            if not is_out_of_memory(error, tried=True):
                raise
            break
    return ways


def fastest(ways: list[Way], must_gain: float) -> Way:
    """Measure ``ways``, and choose; a group must be faster by a factor than a trial alone."""
    measure_in_turn(ways)
    return min(ways, key=lambda way: way.seconds * (must_gain if way.number > 1 else 1))


@dataclass
class Way:
    """A way to train trials, and the least seconds that a step of one trial took in it so far.

    Attributes:
        step_seconds: what a first step of all its trials took.
    """

    shop: Workshop
    batch_size: int
    engine: str
    number: int
    seconds: float = field(default=float("inf"), init=False)
    step_seconds: float = field(init=False)

    def __post_init__(self) -> None:
        shop, number = self.shop, self.number
        team = shop.team
        self._stack = shop.make_stack(range(number))
        self._engine = shop.make_engine(self.engine, self._stack, torch.zeros(number))
        self._optimizer = shop.make_optimizer(self._stack, shop.tensor(torch.full((number,), 0.5)))
        self._rates = shop.tensor(torch.full((number, 1), 1e-3))
        self._batches = GroupBatches(
            shop.training, shop.config.data, range(number), self.batch_size, team.rank, team.size
        )
        self._train(1)
        self.step_seconds = self._train(1)
        self._steps = max(1, min(self._batches.steps_per_epoch, round(ROUND_SECONDS / self.step_seconds)))

    def _train(self, steps: int) -> float:
        """Seconds that some steps take."""
        start = time.perf_counter()
        normalisers, size = [float(self.batch_size)] * self.number, self.batch_size // self.shop.team.size
        for step in range(steps):
            losses = self._engine.passes(self._batches.batch(step), normalisers, size, fresh=True)
            self._optimizer.step(self.number, self._rates)
        losses.cpu()
        return time.perf_counter() - start

    def measure(self) -> float:
        """Take one more round; gives its seconds a step of one trial."""
        seconds = self._train(self._steps) / self._steps / self.number
        self.seconds = min(self.seconds, seconds)
        return seconds


def measure_in_turn(ways: list[Way]) -> None:
    """Measure all ways several times, one after another."""
    start = time.perf_counter()
    for number in range(ROUNDS):
        if number and time.perf_counter() - start > MEASURE_SECONDS:
            return
        for way in ways:
            way.measure()


def even_size(trials: int, fuse: int) -> int:
    """The size of groups of at most ``fuse`` trials that are as even as can be."""
    num_groups = -(-trials // fuse)
    return -(-trials // num_groups)
