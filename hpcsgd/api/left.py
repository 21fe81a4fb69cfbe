"""What the ranks of a user's loop have left, which they ask each other before each step."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np

from hpcsgd.comm.communicator import Communicator
from hpcsgd.data.batches import checksum
from hpcsgd.errors import UsageError


class Left(IntEnum):
    """What is left on a rank."""

    BATCH = 0
    NOTHING = 1
    """Of this loader."""
    GONE = 2
    """It has left the session."""


def ask_left(comm: Communicator, left: Left, num_samples: int) -> tuple[Left, int]:
    """What is left on the rank that has least, and the samples of all. Collective."""
    counts = np.zeros(len(Left) + 1, np.int64)
    counts[left], counts[-1] = 1, num_samples
    comm.sum_(counts)
    return max(kind for kind in Left if counts[kind]), int(counts[-1])


def check_first(comm: Communicator, batch: Any) -> None:
    """Look at the first batch of all ranks. Collective.

    Raises:
        UsageError: two have the same.
    """
    sums = comm.allgather_object(checksum(batch))
    for rank, found in enumerate(sums):
        if found in sums[:rank]:
            raise UsageError(
                f"ranks {sums.index(found)} and {rank} have the same first batch: give each rank its own part of "
                "the data, as by sampler=run.sampler(data)"
            )
