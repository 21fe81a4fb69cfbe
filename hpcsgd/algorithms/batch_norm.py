"""BatchNorm running statistics of several replicas as those of one."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from hpcsgd.comm.reduce import FlatReducer
from hpcsgd.learners.replica import Replica


@torch.no_grad()
def average_statistics_(replica: Replica, reducer: FlatReducer) -> int:
    """Merge the ranks' running statistics by the law of total variance, in place.

    mean = average of the means; variance = average of (variance + (own mean - mean)^2), with the mean first, so that
    no cancellation can make a variance negative; batches seen = maximum. Returns the bytes reduced.
    """
    if not replica.norms:
        return 0
    own = replica.means.clone()
    reducer.average_(replica.means)
    replica.variances.add_((own - replica.means).square_())
    reducer.average_(replica.variances)
    counts = np.array(replica.counts, np.int64)
    reducer.comm.max_(counts)
    replica.counts = counts.tolist()
    return replica.statistics.numel() * replica.statistics.element_size() + counts.nbytes


@torch.no_grad()
def recompute_statistics_(replica: Replica, batches: Iterable[Tensor], reducer: FlatReducer) -> None:
    """Replace the running statistics by those of the present parameters over ``batches`` of each rank, in place.

    Each rank takes the equally weighted average over its batches; the ranks' are merged by
    :func:`average_statistics_`. The module is left in training mode.
    """
    if not replica.norms:
        return
    momenta = [norm.momentum for norm in replica.norms]
    for norm in replica.norms:
        norm.reset_running_stats()
        norm.momentum = None  # the cumulative average
    replica.module.train()
    for images in batches:
        replica.module(images)
    for norm, momentum in zip(replica.norms, momenta, strict=True):
        norm.momentum = momentum
    average_statistics_(replica, reducer)
