"""What is settled once for each batch size of a study, and then holds for every start of it."""

from __future__ import annotations

from hpcsgd.trials.groups import SizePlan
from hpcsgd.trials.workshop import Workshop

LARGEST_FUSE = 16


def settle(shop: Workshop) -> list[SizePlan]:
    config = shop.config
    plans = []
    for size in config.batch_sizes:
        fuse = LARGEST_FUSE if config.fuse == "auto" else config.fuse
        plans.append(SizePlan(size, config.stop.budget(size, shop.training.num_samples), "fused", even(config.trials, fuse)))
    return plans


def even(trials: int, fuse: int) -> int:
    """The size of groups of at most ``fuse`` trials that are as even as can be."""
    num_groups = -(-trials // fuse)
    return -(-trials // num_groups)
