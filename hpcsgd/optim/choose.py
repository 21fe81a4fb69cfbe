"""The optimizer of a run, and which state tensors it needs."""

from __future__ import annotations

import torch

from hpcsgd.config import RunConfig
from hpcsgd.optim.any_torch import TorchRows
from hpcsgd.optim.base import RowOptimizer
from hpcsgd.optim.policies import arranged, policies_of
from hpcsgd.optim.probe import Factory, Kind, probe, probe_factory
from hpcsgd.optim.rows import Rows
from hpcsgd.optim.sgd import RowSGD


def find_kind(config: RunConfig, device: torch.device, factory: Factory | None = None) -> Kind | None:
    """What is known of the optimizer, if it is one of torch's kind; None: it is the package's own.

    ``factory``: makes the optimizer that a caller brings, in the place of the recipe's.

    Raises:
        UsageError: it cannot be an optimizer of rows.
    """
    dtype = getattr(torch, config.dtype)
    if factory is not None:
        return probe_factory(factory, device, dtype)[0]
    return None if config.optimizer.name == "sgd" else probe(config.optimizer, device, dtype)


def states_of(config: RunConfig, kind: Kind | None) -> tuple[str, ...]:
    """The names of the optimizer's state tensors, in the order in which they are to lie.

    Raises:
        UsageError: it has no state tensor that the recipe names.
    """
    states = RowSGD.states if kind is None else kind.states
    return arranged(policies_of(config.algorithm.state_policy, states))


def make_optimizer(config: RunConfig, rows: Rows, kind: Kind | None) -> RowOptimizer:
    """The optimizer that steps ``rows``, which have the states of :func:`states_of`."""
    return RowSGD(config.optimizer, rows) if kind is None else TorchRows(kind, rows)
