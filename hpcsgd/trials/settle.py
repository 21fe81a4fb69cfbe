"""What is settled once for each batch size of a study, and then holds for every start of it: how its trials train.

Trials that train together may pay or not: for small networks and batches what an operation costs by itself is shared,
for large ones nothing is gained, and a group is a large piece of work to share out and to lose. So it is measured.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch

from hpcsgd.trials.batches import GroupBatches
from hpcsgd.trials.groups import SizePlan
from hpcsgd.trials.stack import update_all
from hpcsgd.trials.workshop import Workshop, make_stack

FUSES = (1, 2, 4, 8, 16)
"""Sizes of groups that ``fuse: auto`` tries."""

MOST_SAMPLES = 1 << 17
"""Of one step of a group: larger ones are not tried. They take much memory, and fusing does not pay there."""

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


def can_fuse(shop: Workshop) -> bool:
    """Whether networks of this architecture can be trained together in each operation."""
    return shop.config.model.name == "fully_connected"


def choose(shop: Workshop, batch_size: int) -> tuple[str, int]:
    """Engine and size of the groups at ``batch_size``."""
    wanted = shop.config.fuse
    if not can_fuse(shop):
        return "loop", 1 if wanted == "auto" else wanted
    if wanted != "auto":
        return "fused", wanted
    possible = [number for number in FUSES if number <= shop.config.trials and number * batch_size <= MOST_SAMPLES]
    ways = [Way(shop, batch_size, "loop", 1), *(Way(shop, batch_size, "fused", number) for number in possible)]
    measure_in_turn(ways)
    best = min(ways, key=lambda way: way.seconds * (MUST_GAIN if way.number > 1 else 1))
    return best.engine, best.number


@dataclass
class Way:
    """A way to train trials, and the least seconds that a step of one trial took in it so far."""

    shop: Workshop
    batch_size: int
    engine: str
    number: int
    seconds: float = field(default=float("inf"), init=False)

    def __post_init__(self) -> None:
        shop, number = self.shop, self.number
        self._stack = make_stack(shop, self.engine, range(number))
        team = shop.team
        self._batches = GroupBatches(
            shop.training, shop.config.data, range(number), self.batch_size, team.rank, team.size
        )
        self._rates, self._momenta = (shop.tensor(torch.full((number, 1), value)) for value in (1e-3, 0.5))
        self._train(1)
        wanted = round(ROUND_SECONDS / self._train(1))
        self._steps = max(1, min(self._batches.steps_per_epoch, wanted))

    def _train(self, steps: int) -> float:
        """Seconds that some steps take."""
        start = time.perf_counter()
        for step in range(steps):
            images, labels = self._batches.batch(step)
            losses = self._stack.add_gradients(images, labels, None, self.batch_size)
            update_all(self._stack, self.shop.config.optimizer, self._rates, self._momenta)
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
