"""An optimizer as a user may write one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch


class NormalizedMomentum(torch.optim.Optimizer):
    """Steps along a running mean of the gradient divided by its norm, tensor by tensor; makes its state anew."""

    def __init__(self, params: Iterable[Any], lr: float, beta: float = 0.9, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "beta": beta, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update."""
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                state["steps"] = state.get("steps", 0) + 1
                gradient = p.grad + group["weight_decay"] * p
                mean = state.get("mean", torch.zeros_like(p))
                state["mean"] = group["beta"] * mean + (1 - group["beta"]) * gradient
                correction = 1 - group["beta"] ** state["steps"]
                p.sub_(state["mean"] / correction / (1 + state["mean"].norm()), alpha=group["lr"])
