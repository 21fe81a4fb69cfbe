"""A user's model and optimizer, lent to the algorithms of hpcsgd for a while."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from hpcsgd.errors import UsageError
from hpcsgd.learners.replica import Replica
from hpcsgd.learners.stack import ReplicaStack
from hpcsgd.optim.base import Values


class BorrowedModel:
    """A module whose trainable parameters are views of one flat row until :meth:`give_back`.

    The ``nn.Parameter`` objects stay what they are, and so does whatever holds them: the optimizer, a scheduler.

    Attributes:
        learners: the one learner that it is.
    """

    def __init__(self, module: nn.Module, shares: Callable[[torch.device], bool] = lambda device: False) -> None:
        """Move the parameters of ``module`` into a row, where they are and of the type that they have.

        ``shares``: whether the other ranks of the node are to reach that row.

        Raises:
            UsageError: they are on several devices or of several types.
        """
        if isinstance(module, nn.parallel.DistributedDataParallel):
            raise UsageError(
                "the model is wrapped in DistributedDataParallel, which averages gradients itself: give the session "
                "the module inside of it, or algorithm=None, to time the loop as it is"
            )
        kinds = {(p.device, p.dtype) for p in module.parameters() if p.requires_grad}
        if len(kinds) != 1:
            found = ", ".join(sorted(f"{dtype} on {device}" for device, dtype in kinds)) or "none"
            raise UsageError(f"the model has trainable parameters of {found}: it must have some, all alike")
        ((device, dtype),) = kinds
        self.replica = Replica(module, device, dtype, channels_last=False)
        self.learners = ReplicaStack([self.replica], own_streams=False, shared=shares(device))

    def collect_gradients(self) -> None:
        """Bring gradients that autograd has put elsewhere into the flat one; those that are not there are zero."""
        for parameter, slot in zip(self.replica.trainable, self.replica.slots, strict=True):
            view = slot.view(self.replica.gradients)
            if parameter.grad is None:
                view.zero_()
            elif parameter.grad.data_ptr() != view.data_ptr():
                if parameter.grad.layout is not torch.strided:
                    raise UsageError("a gradient is sparse: build its layer with sparse=False")
                view.copy_(parameter.grad)
            parameter.grad = view

    def give_back(self) -> None:
        """Let every tensor be one of its own again, with the values that it has."""
        for parameter in self.replica.trainable:
            parameter.data = parameter.data.clone()
            parameter.grad = None
        for norm in self.replica.norms:
            for name in ("running_mean", "running_var", "num_batches_tracked"):
                setattr(norm, name, getattr(norm, name).clone())


class BorrowedOptimizer:
    """A user's optimizer as one of rows (see :class:`~hpcsgd.optim.base.RowOptimizer`): it steps the only learner.

    Its learning rate, state and parameter groups are the user's own.
    """

    states: tuple[str, ...] = ()

    def __init__(self, optimizer: torch.optim.Optimizer, module: nn.Module) -> None:
        """
        Raises:
            UsageError: it steps a parameter that is not of the model.
        """
        known = {id(parameter) for parameter in module.parameters()}
        strange = [p for group in optimizer.param_groups for p in group["params"] if id(p) not in known]
        if strange:
            raise UsageError(
                f"the optimizer has a parameter of shape {list(strange[0].shape)} that is not of the model: make it "
                "from model.parameters()"
            )
        self.optimizer = optimizer

    @property
    def rate(self) -> float:
        """The learning rate of its first group."""
        return float(self.optimizer.param_groups[0]["lr"])

    def step(self, count: int, rate: Values) -> None:
        """Step, by the optimizer's own learning rate."""
        with torch.enable_grad():
            self.optimizer.step()

    def reset(self, states: Sequence[str]) -> None:
        """There are no state tensors in rows."""

    def keep(self, rows: Sequence[int]) -> None:
        """There is one learner."""

    def state_dict(self) -> dict[str, Any]:
        """It is the user's to keep."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """It is the user's to keep."""

    def load_first(self, state: dict[str, Any]) -> None:
        """It is the user's to keep."""
