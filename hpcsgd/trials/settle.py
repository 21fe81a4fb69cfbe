"""What is settled once for each batch size of a study, and then holds for every start of it: how its trials train.

Trials that train together may pay or not: for small networks and batches what an operation costs by itself is shared,
for large ones nothing is gained, and a group is a large piece of work to share out and to lose. So it is measured.
"""

from __future__ import annotations

import time

import torch

from hpcsgd.trials.batches import GroupBatches
from hpcsgd.trials.groups import SizePlan
from hpcsgd.trials.stack import update_all
from hpcsgd.trials.workshop import Workshop, make_stack

FUSES = (4, 8, 16)
"""Sizes of groups that ``fuse: auto`` tries."""

MUST_GAIN = 1.1
"""How much faster a trial must be in a group to give up the freedom of training it alone."""

MEASURE_SECONDS = 0.05


def settle(shop: Workshop) -> list[SizePlan]:
    """The plan of each batch size, from the recipe and from a few steps of training that count for nothing."""
    config = shop.config
    plans = []
    for size in config.batch_sizes:
        engine, fuse = choose(shop, size)
        budget = config.stop.budget(size, shop.training.num_samples)
        plans.append(SizePlan(size, budget, engine, even_size(config.trials, fuse)))
    return plans


def can_fuse(shop: Workshop) -> bool:
    """Whether there is a way to train networks of this architecture in each operation together."""
    return shop.config.model.name == "fully_connected"


def choose(shop: Workshop, batch_size: int) -> tuple[str, int]:
    """Engine and size of the groups at ``batch_size``."""
    wanted = shop.config.fuse
    if not can_fuse(shop):
        return "loop", 1 if wanted == "auto" else wanted
    if wanted != "auto":
        return ("fused" if wanted > 1 else "loop"), wanted
    alone, engine = min((step_seconds(shop, batch_size, engine, 1), engine) for engine in ("loop", "fused"))
    best, fuse = alone / MUST_GAIN, 1
    for number in sorted({min(number, shop.config.trials) for number in FUSES}):
        seconds = step_seconds(shop, batch_size, "fused", number)
        if seconds < best:
            best, engine, fuse = seconds, "fused", number
    return engine, fuse


def step_seconds(shop: Workshop, batch_size: int, engine: str, number: int) -> float:
    """Seconds that a step of one trial takes among ``number`` that train together."""
    batches = GroupBatches(shop.training, range(number), batch_size, shop.team.rank, shop.team.size)
    stack = make_stack(shop, engine, range(number))
    rates, momenta = shop.tensor(torch.full((number, 1), 1e-3)), shop.tensor(torch.full((number, 1), 0.5))

    def train(steps: int) -> float:
        start = time.perf_counter()
        for step in range(steps):
            losses = stack.add_gradients(*batches.batch(step), None, batch_size)
            update_all(stack, shop.config.optimizer, rates, momenta)
        losses.cpu()
        return time.perf_counter() - start

    train(1)
    steps = max(1, min(batches.steps_per_epoch, round(MEASURE_SECONDS / train(1))))
    return min(train(steps) for _ in range(2)) / steps / number


def even_size(trials: int, fuse: int) -> int:
    """The size of groups of at most ``fuse`` trials that are as even as can be."""
    num_groups = -(-trials // fuse)
    return -(-trials // num_groups)
