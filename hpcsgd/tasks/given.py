"""What a caller brings with it, in the place of what a recipe names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from hpcsgd.config import RunConfig
from hpcsgd.optim.probe import Factory
from hpcsgd.tasks.losses import Figure
from hpcsgd.tasks.metrics import Metric


@dataclass(frozen=True)
class Given:
    """Parts of a task; what is None is the recipe's.

    Attributes:
        model: makes the network with its initial parameters; it is called for each learner, after torch's generator was
            seeded.
        loss: one number a sample, or a sum and its weight, from outputs and targets.
        metrics: by name: a figure of each sample, of which the mean is taken, or a metric.
        optimizer: makes the optimizer of one learner, from groups of parameters as torch's optimizers take them.
        data: the splits, or a function that makes them: see :mod:`hpcsgd.data.own`.
    """

    model: Callable[[], nn.Module] | None = None
    loss: Figure | None = None
    metrics: Mapping[str, Figure | Metric] | None = None
    optimizer: Factory | None = None
    data: Any = None

    def applied(self, config: RunConfig) -> RunConfig:
        """``config`` as the run has it: data that is brought is that of no recipe."""
        if self.data is None:
            return config
        return replace(config, data=replace(config.data, name="given", init_args={}))


NOTHING = Given()
