"""The order of an epoch for data that is read from a disk: blocks at random places, shuffled together some at a time.

Samples that follow each other in the order are then near each other in the file, in few blocks, which the operating
system reads once for all ranks of a node.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BLOCK_STREAM = 6
"""First word of the seeds, in the count of ``hpcsgd.data.shards``."""

WINDOW_BLOCKS = 64
"""Blocks that are shuffled together."""


def block_permutation(seed: int, epoch: int, num_samples: int, block_size: int) -> NDArray[np.int64]:
    """The order of the samples in an epoch, int64 [num_samples]: a permutation, the same on every rank.

    Args:
        seed: of the run.
        epoch: epoch.
        num_samples: samples of the split.
        block_size: samples of a block; the last one may be smaller.
    """
    generator = np.random.default_rng([_BLOCK_STREAM, seed, epoch])
    blocks = generator.permutation(-(-num_samples // block_size))
    parts = []
    for first in range(0, len(blocks), WINDOW_BLOCKS):
        starts = blocks[first : first + WINDOW_BLOCKS, None] * block_size
        window = (starts + np.arange(block_size)).ravel()
        parts.append(generator.permutation(window[window < num_samples]))
    return np.concatenate(parts).astype(np.int64, copy=False)
