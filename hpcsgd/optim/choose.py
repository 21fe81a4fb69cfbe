"""The optimizer of a run, and which state tensors it needs."""

from __future__ import annotations

import torch

from hpcsgd.config import RunConfig
from hpcsgd.optim.any_torch import TorchRows
from hpcsgd.optim.base import RowOptimizer
from hpcsgd.optim.policies import arranged, policies_of
from hpcsgd.optim.probe import probe
from hpcsgd.optim.rows import Rows
from hpcsgd.optim.sgd import RowSGD


def states_of(config: RunConfig, device: torch.device, dtype: torch.dtype) -> tuple[str, ...]:
    """The names of the optimizer's state tensors, in the order in which they are to lie.

    Raises:
        UsageError: it cannot be an optimizer of rows, or has no state tensor that the recipe names.
    """
    own = config.optimizer
    states = RowSGD.states if own.name == "sgd" else probe(own, device, dtype).states
    return arranged(policies_of(config.algorithm.state_policy, states))


def make_optimizer(config: RunConfig, rows: Rows) -> RowOptimizer:
    """The optimizer that steps ``rows``, which have the states of :func:`states_of`."""
    own = config.optimizer
    return RowSGD(own, rows) if own.name == "sgd" else TorchRows(own, rows)
