"""How far apart replicas are: one number, out of one reduction of two."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hpcsgd.comm.reduce import FlatReducer


@torch.no_grad()
def divergence_of(rows: Tensor, mean: Tensor, reducer: FlatReducer) -> tuple[float, int]:
    """The root mean square distance of all ranks' ``rows`` [m, n] from their ``mean`` [n], over the norm of that.

    Returns:
        The same number on all ranks, without a unit; and the bytes reduced. On a GPU the host waits for it.
    """
    squares = [(rows - mean).square_().sum(dtype=torch.float64), mean.square().sum(dtype=torch.float64)]
    values = torch.stack(squares).cpu().numpy()
    reducer.comm.sum_(values)
    distances, norms = float(values[0]), float(values[1])
    # Each rank has added the one norm.
    spread = distances / (reducer.comm.size * len(rows)) / (norms / reducer.comm.size) if norms else math.inf
    return math.sqrt(spread), values.nbytes
