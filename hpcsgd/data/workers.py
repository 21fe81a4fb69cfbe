"""How many processes or threads of a rank bring its data."""

from __future__ import annotations

import os
from dataclasses import replace

from hpcsgd.config import DataConfig

MOST_PROCESSES = 4
MOST_THREADS = 16
"""Of a rank, where the recipe does not say how many: processes that read a ``Dataset``, threads that decode a pack."""


def num_workers(config: DataConfig, cores: int | None = None) -> int:
    """``data.workers``; unset, the cores of this rank but one, which trains.

    Args:
        config: the recipe's section.
        cores: this rank's; None: those that this process may run on, which other ranks may share.
    """
    if config.workers is not None:
        return config.workers
    most = MOST_THREADS if config.name == "pack" else MOST_PROCESSES
    return min(most, max(1, (cores or len(os.sched_getaffinity(0))) - 1))


def with_workers(config: DataConfig, cores: int) -> DataConfig:
    """``config`` with the workers of a rank that has so many cores to itself, where it is of data that takes some."""
    return replace(config, workers=num_workers(config, cores)) if config.is_own or config.name == "pack" else config
