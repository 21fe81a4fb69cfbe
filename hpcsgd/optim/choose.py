"""The optimizer of a run, and which state tensors it needs."""

from __future__ import annotations

from hpcsgd.config import RunConfig
from hpcsgd.optim.base import RowOptimizer
from hpcsgd.optim.rows import Rows
from hpcsgd.optim.sgd import RowSGD


def states_of(config: RunConfig) -> tuple[str, ...]:
    """The names of the optimizer's state tensors, in the order in which they are to lie."""
    return RowSGD.states


def make_optimizer(config: RunConfig, rows: Rows) -> RowOptimizer:
    """The optimizer that steps ``rows``, which have the states of :func:`states_of`."""
    return RowSGD(config.optimizer, rows)
