"""The outer step: what a global averaging makes of the mean of the replicas.

Without one, the mean is the next model. With one, the model of the last global averaging is the anchor, and the mean
difference from it is to the outer step what a gradient is to an optimizer.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from hpcsgd.config import AlgorithmConfig
from hpcsgd.config.imports import call, find_object
from hpcsgd.errors import UsageError

WHOLE = slice(None)
"""All parameters."""


class OuterStep(Protocol):
    """Moves an anchor by mean differences."""

    def apply_(self, anchor: Tensor, difference: Tensor, rate: float, outer_rate: float, part: slice) -> None:
        """Move the flat ``anchor`` in place.

        Args:
            anchor: the model of the last global averaging, or a part of it.
            difference: anchor - mean of the replicas.
            rate: learning rate of the local steps.
            outer_rate: that of this step.
            part: which it is of the whole.
        """

    def state_dict(self) -> dict[str, Any]:
        """What it remembers."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state that :meth:`state_dict` gave."""


class _Momentum:
    """An outer step that remembers one flat tensor.

    Attributes:
        beta: its decay.
        momentum: the tensor.
    """

    def __init__(self, like: Tensor, beta: float) -> None:
        """A momentum of the size of ``like``, at rest."""
        self.beta = beta
        self.momentum = torch.zeros_like(like)

    def state_dict(self) -> dict[str, Any]:
        """The momentum."""
        return {"momentum": self.momentum}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`OuterStep`."""
        self.momentum.copy_(state["momentum"])


class SlowMomentum(_Momentum):
    """u <- beta u + difference / eta;  anchor <- anchor - alpha eta u (SlowMo, Wang et al. 2020).

    beta = 0 and alpha = 1 leave the mean as it is.
    """

    def apply_(self, anchor: Tensor, difference: Tensor, rate: float, outer_rate: float, part: slice) -> None:
        """See :class:`OuterStep`."""
        momentum = self.momentum[part].mul_(self.beta).add_(difference, alpha=1 / rate)
        anchor.add_(momentum, alpha=-outer_rate * rate)


class Nesterov(_Momentum):
    """m <- beta m + difference;  anchor <- anchor - gamma (difference + beta m) (DiLoCo: Douillard et al. 2023).

    With one learner it is SNOO; beta = 0 is the Lookahead optimizer. Unlike in SlowMo the local rate has no part.
    """

    def apply_(self, anchor: Tensor, difference: Tensor, rate: float, outer_rate: float, part: slice) -> None:
        """See :class:`OuterStep`."""
        momentum = self.momentum[part].mul_(self.beta).add_(difference)
        anchor.add_(difference, alpha=-outer_rate).add_(momentum, alpha=-outer_rate * self.beta)


class TorchStep:
    """An optimizer of torch's kind, to which the anchor is one flat parameter and the difference its gradient."""

    def __init__(self, like: Tensor, path: str, arguments: dict[str, Any]) -> None:
        """
        Args:
            like: of the anchor's size, type and device.
            path: import path of the class.
            arguments: of it, but for parameters and learning rate.

        Raises:
            UsageError: there is no such class, or it refuses them.
        """
        factory = find_object(path, "algorithm.outer_step")
        self._parameter = nn.Parameter(torch.zeros_like(like))
        given = {"lr": 1.0, **arguments}
        self.optimizer: Any = call(factory, given, "algorithm.outer_init_args", [self._parameter])
        if not isinstance(self.optimizer, torch.optim.Optimizer):
            raise UsageError(f"algorithm.outer_step is {path!r}, which makes no optimizer of torch's kind")

    def apply_(self, anchor: Tensor, difference: Tensor, rate: float, outer_rate: float, part: slice) -> None:
        """See :class:`OuterStep`; its state is of the whole, so that there are no parts."""
        assert anchor.shape == self._parameter.shape
        self._parameter.data = anchor
        self._parameter.grad = difference
        for group in self.optimizer.param_groups:
            group["lr"] = outer_rate
        self.optimizer.step()
        self._parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's."""
        state: dict[str, Any] = self.optimizer.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`OuterStep`."""
        self.optimizer.load_state_dict(state)


class Anchored:
    """The parameters of the first learner of a rank, their anchor, and the outer step that moves it."""

    def __init__(self, parameters: Tensor, step: OuterStep, outer_rate: Callable[[int], float]) -> None:
        """``parameters`` are flat, and changed in place later; ``outer_rate`` is that after a step."""
        self.parameters = parameters
        self.outer = step
        self.outer_rate = outer_rate
        self.anchor = torch.zeros_like(parameters)
        self.is_placed = False

    def place(self) -> None:
        """Take the present parameters, equal on all ranks, as the anchor, unless there is one."""
        if not self.is_placed:
            self.anchor.copy_(self.parameters)
            self.is_placed = True

    def apply_(self, step: int, rate: float) -> None:
        """Turn the mean after ``step``, in the parameters, into the outer step from the anchor, which moves there."""
        self.parameters.copy_(self.move_(self.parameters, step, rate))

    def move_(self, mean: Tensor, step: int, rate: float, part: slice = WHOLE) -> Tensor:
        """Move a part of the anchor by the outer step to the ``mean`` of the replicas after ``step``; gives it."""
        anchor = self.anchor[part]
        self.outer.apply_(anchor, anchor - mean, rate, self.outer_rate(step), part)
        return anchor

    def moved(self, mean: Tensor, step: int, rate: float, part: slice = WHOLE) -> Tensor:
        """Where :meth:`move_` would move the anchor, which stays."""
        anchor = self.anchor[part].clone()
        copy.deepcopy(self.outer).apply_(anchor, anchor - mean, rate, self.outer_rate(step), part)
        return anchor

    def state_dict(self) -> dict[str, Any]:
        """Anchor, whether it holds, and the state of the outer step."""
        return {"anchor": self.anchor, "is_placed": self.is_placed, "outer": self.outer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state that :meth:`state_dict` gave."""
        self.anchor.copy_(state["anchor"])
        self.is_placed = state["is_placed"]
        self.outer.load_state_dict(state["outer"])


def make_anchored(config: AlgorithmConfig, parameters: Tensor, outer_rate: Callable[[int], float]) -> Anchored | None:
    """The outer step of the recipe; None where the mean is the next model.

    Raises:
        UsageError: it is one of the user's that cannot be made.
    """
    name = config.resolved_outer_step
    if name == "average":
        return None
    step: OuterStep
    if name == "slow_momentum":
        step = SlowMomentum(parameters, config.slow_momentum)
    elif name == "nesterov":
        step = Nesterov(parameters, config.outer_momentum)
    else:
        step = TorchStep(parameters, name, config.outer_init_args)
    return Anchored(parameters, step, outer_rate)
