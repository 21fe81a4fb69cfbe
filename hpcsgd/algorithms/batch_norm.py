"""BatchNorm running statistics of several replicas as those of one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hpcsgd.algorithms.rows import average_rows_
from hpcsgd.comm.reduce import FlatReducer
from hpcsgd.data.trees import Tree
from hpcsgd.learners.stack import ReplicaStack


@torch.no_grad()
def average_statistics_(learners: ReplicaStack, reducer: FlatReducer) -> int:
    """Merge the running statistics of all learners by the law of total variance, in place.

    mean = average of the means; variance = average of (variance + (own mean - mean)^2), with the mean first, so that
    no cancellation can make a variance negative; batches seen = maximum. Returns the bytes reduced.
    """
    if not learners.counts.numel():
        return 0
    means, variances = learners.means, learners.variances
    own = means.clone()
    num_bytes = average_rows_(means, reducer)
    variances.add_((own - means).square_())
    num_bytes += average_rows_(variances, reducer)
    counts: NDArray[np.int64] = learners.counts.amax(dim=0).cpu().numpy()
    reducer.comm.max_(counts)
    learners.counts.copy_(torch.from_numpy(counts))
    return num_bytes + counts.nbytes


@torch.no_grad()
def recompute_statistics_(
    learners: ReplicaStack,
    forward: Callable[[nn.Module, Tree], Tree],
    batches: Iterable[Sequence[Tree]],
    reducer: FlatReducer,
) -> None:
    """Replace the running statistics by those of the present parameters over ``batches``, in place.

    ``batches`` gives the inputs of each of this rank's learners, step by step; ``forward`` puts them through a module.
    A learner takes the equally weighted average over its batches; all learners' are merged by
    :func:`average_statistics_`. The modules are left in training mode.
    """
    norms = [norm for replica in learners.replicas for norm in replica.norms]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the cumulative average
    learners.train()
    for parts in batches:
        for replica, inputs in zip(learners.replicas, parts, strict=True):
            forward(replica.module, inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    average_statistics_(learners, reducer)
