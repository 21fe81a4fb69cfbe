"""LARS and LAMB as their papers write them, parameter by parameter, for ordinary networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hpcsgd.config import OptimizerConfig


def make_plain(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimizer of ``config`` for all parameters; biases and those of norms neither decay nor have a ratio."""
    others = [p for p in model.parameters() if p.dim() == 1]
    groups: list[dict[str, Any]] = [{"params": [p for p in model.parameters() if p.dim() > 1], "layerwise": True}]
    groups += [{"params": others, "layerwise": False}] if others else []
    return {"lars": LARS, "lamb": LAMB}[config.name](groups, config)


class Layerwise(torch.optim.Optimizer):
    """What both share."""

    def __init__(self, groups: list[dict[str, Any]], config: OptimizerConfig) -> None:
        super().__init__(groups, {"lr": 0.0})
        self.config = config

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update."""
        for group in self.param_groups:
            for p in group["params"]:
                self.update(p, p.grad, self.state[p], group["lr"], group["layerwise"])

    def update(self, p: Tensor, g: Tensor, state: dict[str, Any], lr: float, layerwise: bool) -> None:
        """That of one parameter."""
        raise NotImplementedError

    def ratio(self, weight: float, step: float, coefficient: float = 1.0) -> float:
        """The trust ratio."""
        found = coefficient * weight / step if weight and step else 1.0
        return min(found, self.config.max_trust_ratio or found)


class LARS(Layerwise):
    """You 2017, algorithm 1, where the learning rate is within the momentum; and with it outside."""

    def update(self, p: Tensor, g: Tensor, state: dict[str, Any], lr: float, layerwise: bool) -> None:
        config, decay = self.config, self.config.weight_decay
        if layerwise:
            w_norm, g_norm = p.norm().item(), g.norm().item()
            g = self.ratio(w_norm, g_norm + decay * w_norm, config.trust_coefficient) * (g + decay * p)
        inside = config.momentum_form == "absorbed"
        move = lr * g if inside else g
        v = config.momentum * state.get("momentum_buffer", torch.zeros_like(p)) + move
        state["momentum_buffer"] = v
        step = move + config.momentum * v if config.nesterov else v
        p.sub_(step if inside else lr * step)


class LAMB(Layerwise):
    """You 2020, algorithm 2."""

    def update(self, p: Tensor, g: Tensor, state: dict[str, Any], lr: float, layerwise: bool) -> None:
        config, (b1, b2) = self.config, self.config.betas
        state["steps"] = state.get("steps", 0) + 1
        state["exp_avg"] = b1 * state.get("exp_avg", torch.zeros_like(p)) + (1 - b1) * g
        state["exp_avg_sq"] = b2 * state.get("exp_avg_sq", torch.zeros_like(p)) + (1 - b2) * g**2
        first, second = state["exp_avg"] / (1 - b1 ** state["steps"]), state["exp_avg_sq"] / (1 - b2 ** state["steps"])
        u = first / (second.sqrt() + config.eps)
        if layerwise:
            u = u + config.weight_decay * p
            u = self.ratio(p.norm().item(), u.norm().item()) * u
        p.sub_(lr * u)
