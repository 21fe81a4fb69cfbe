"""The optimizer of a run, and which state tensors it needs."""

from __future__ import annotations

import torch

from hpcsgd.config import OptimizerConfig
from hpcsgd.optim.any_torch import TorchRows
from hpcsgd.optim.base import RowOptimizer
from hpcsgd.optim.probe import probe
from hpcsgd.optim.rows import Rows
from hpcsgd.optim.sgd import RowSGD


def states_of(config: OptimizerConfig, device: torch.device, dtype: torch.dtype) -> tuple[str, ...]:
    """The names of the optimizer's state tensors.

    Raises:
        UsageError: it cannot be an optimizer of rows.
    """
    return RowSGD.states if config.name == "sgd" else probe(config, device, dtype).states


def make_optimizer(config: OptimizerConfig, rows: Rows) -> RowOptimizer:
    """The optimizer that steps ``rows``, which have the states of :func:`states_of`."""
    return RowSGD(config, rows) if config.name == "sgd" else TorchRows(config, rows)
