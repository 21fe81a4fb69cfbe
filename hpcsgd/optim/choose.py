"""The optimizer of a run, and which state tensors it needs."""

from __future__ import annotations

import torch

from hpcsgd.config import OptimizerConfig, RunConfig
from hpcsgd.config.check import is_import_path
from hpcsgd.optim.any_torch import TorchRows
from hpcsgd.optim.base import RowOptimizer, Values
from hpcsgd.optim.lamb import RowLAMB
from hpcsgd.optim.lars import RowLARS
from hpcsgd.optim.policies import arranged, policies_of
from hpcsgd.optim.probe import Factory, Kind, probe, probe_factory
from hpcsgd.optim.rows import Rows
from hpcsgd.optim.sgd import RowSGD

MOMENTUM_ROWS = {"sgd": RowSGD, "lars": RowLARS}
"""The package's own that take a momentum of each learner."""


def find_kind(config: RunConfig, device: torch.device, factory: Factory | None = None) -> Kind | None:
    """What is known of the optimizer, if it is one of torch's kind; None: it is the package's own.

    ``factory``: makes the optimizer that a caller brings, in the place of the recipe's.

    Raises:
        UsageError: it cannot be an optimizer of rows.
    """
    dtype = getattr(torch, config.dtype)
    if factory is not None:
        return probe_factory(factory, device, dtype)[0]
    return kind_of(config.optimizer, device, dtype)


def kind_of(config: OptimizerConfig, device: torch.device, dtype: torch.dtype) -> Kind | None:
    """The same of a recipe's section.

    Raises:
        UsageError: it cannot be an optimizer of rows.
    """
    return probe(config, device, dtype) if is_import_path(config.name) else None


def states_of(config: RunConfig, kind: Kind | None) -> tuple[str, ...]:
    """The names of the optimizer's state tensors, in the order in which they are to lie.

    Raises:
        UsageError: it has no state tensor that the recipe names.
    """
    return arranged(policies_of(config.algorithm.state_policy, all_states(config.optimizer, kind)))


def all_states(config: OptimizerConfig, kind: Kind | None) -> tuple[str, ...]:
    """The names of the optimizer's state tensors."""
    if kind is not None:
        return kind.states
    return MOMENTUM_ROWS[config.name].states if config.name in MOMENTUM_ROWS else RowLAMB.states


def make_optimizer(
    config: OptimizerConfig, rows: Rows, kind: Kind | None, momentum: Values | None = None
) -> RowOptimizer:
    """The optimizer that steps ``rows``, which have the states of :func:`all_states`.

    Args:
        config: the recipe's section.
        rows: the learners.
        kind: of an optimizer of torch's kind.
        momentum: of each learner, where the optimizer has one; unset, the recipe's.
    """
    if kind is not None:
        return TorchRows(kind, rows)
    if config.name in MOMENTUM_ROWS:
        return MOMENTUM_ROWS[config.name](config, rows, momentum=momentum)
    return RowLAMB(config, rows)
