"""Buffers that are not BatchNorm statistics, of several replicas as those of one."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from hpcsgd.algorithms.rows import average_rows_
from hpcsgd.comm.communicator import Communicator
from hpcsgd.comm.reduce import FlatReducer
from hpcsgd.learners.stack import ReplicaStack


@torch.no_grad()
def average_buffers_(learners: ReplicaStack, reducer: FlatReducer) -> int:
    """Average the float buffers that a learner has changed, in place; return the bytes reduced. Collective.

    A table of constants stays as it is, to the last bit: rounding would change it.
    """
    each = [replica.buffers.tensors(floats=True) for replica in learners.replicas]
    if not each[0]:
        return 0
    own = [replica.buffers.changed() for replica in learners.replicas]
    changed: NDArray[np.int64] = np.array(own, dtype=np.int64).max(axis=0)
    reducer.comm.max_(changed)
    names = [name for name, moved in zip(each[0], changed, strict=True) if moved]
    num_bytes = changed.nbytes
    for name in names:
        rows = torch.stack([tensors[name].flatten() for tensors in each])
        num_bytes += average_rows_(rows, reducer)
        for tensors, row in zip(each, rows, strict=True):
            tensors[name].copy_(row.view(tensors[name].shape))
    return num_bytes


@torch.no_grad()
def unite_buffers_(learners: ReplicaStack, reducer: FlatReducer) -> None:
    """Make all buffers those of the one model: float ones averaged, others those of rank 0's first learner."""
    average_buffers_(learners, reducer)
    each = [replica.buffers.tensors(floats=False) for replica in learners.replicas]
    for name in each[0]:
        broadcast_(each[0][name], reducer.comm)
        for tensors in each[1:]:
            tensors[name].copy_(each[0][name])


@torch.no_grad()
def broadcast_(tensor: torch.Tensor, comm: Communicator) -> None:
    """Give all ranks rank 0's ``tensor``, of any type, byte by byte."""
    host = tensor.detach().cpu().contiguous().clone()
    comm.broadcast_(host.view(-1).view(torch.uint8).numpy())
    tensor.copy_(host)
