"""Momentum SGD of all learners at once, in both momentum forms (Goyal 2017, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hpcsgd.config import OptimizerConfig
from hpcsgd.optim.base import Factor, Values
from hpcsgd.optim.factors import Factors, add_scaled_, chosen
from hpcsgd.optim.rows import Rows

MOMENTUM = "momentum"
"""The name of its state tensor."""


def decayed_parameters(module: nn.Module) -> set[int]:
    """Ids of the parameters that weight decay is for: weights of linear, convolution, embedding and recurrent layers.

    BatchNorm parameters and biases are left out (Goyal, section 5.1), by the type of their module.
    """
    kinds = (nn.Linear, nn.modules.conv._ConvNd, nn.Embedding)
    recurrent = [part for part in module.modules() if isinstance(part, nn.RNNBase)]
    matrices = {id(p) for part in recurrent for p in part.parameters(recurse=False) if p.dim() == 2}
    return matrices | {id(part.weight) for part in module.modules() if isinstance(part, kinds)}


class RowSGD:
    """SGD with momentum on the rows of several learners, each with its own numbers, in one kernel for all rows.

    Reference form: u <- mu u + g, w <- w - eta u. Absorbed form: v <- mu (eta_now/eta_before) v + eta g, w <- w - v,
    where momentum correction gives the ratio and without it the ratio is 1. g includes lambda w. With ``sign`` the step
    of the reference form goes by the sign of its direction: w <- w - eta sign(u), or sign(g + mu u) of Nesterov's form.

    Where all learners have the same numbers, a row is updated to the same bits as it would be alone, else to rounding.
    With tensors of numbers it always is, as it would be with tensors alone.
    """

    states: tuple[str, ...] = (MOMENTUM,)

    def __init__(
        self,
        config: OptimizerConfig,
        rows: Rows,
        *,
        momentum: Values | None = None,
        weight_decay: Values | None = None,
    ) -> None:
        """
        Args:
            config: the form of the update, and what the others leave open.
            rows: the learners; changed in place, the gradients too, which weight decay is added to.
            momentum: mu, for all or of each learner; unset, ``config``'s.
            weight_decay: lambda, in the same way.
        """
        self.config = config
        self.rows = rows
        self._is_absorbed = config.momentum_form == "absorbed"
        self._previous_rate: Factor | None = None
        self._bind()
        self.mu = self._factor(config.momentum if momentum is None else momentum)
        self.weight_decay = self._factor(config.weight_decay if weight_decay is None else weight_decay)

    def _bind(self) -> None:
        """Take the buffers of the rows."""
        rows, plain = self.rows, self.rows.decay_from
        self._factor = Factors(rows.buffer, len(rows))
        self._buffers = (rows.parameters, rows.gradients, rows[MOMENTUM])
        self._decayed = (rows.gradients[:, plain:], rows.parameters[:, plain:])

    @torch.no_grad()
    def step(self, count: int, rate: Values) -> None:
        """See :class:`~hpcsgd.optim.base.RowOptimizer`."""
        factor, previous = self._factor(rate), self._previous_rate
        if count == len(self.rows):
            self._update(*self._buffers, self._decayed, self.mu, self.weight_decay, factor, previous)
        else:
            first = range(count)
            parameters, gradients, momentum = (buffer[:count] for buffer in self._buffers)
            decayed = (self._decayed[0][:count], self._decayed[1][:count])
            mu, weight_decay, now = (chosen(f, first) for f in (self.mu, self.weight_decay, factor))
            before = None if previous is None else chosen(previous, first)
            self._update(parameters, gradients, momentum, decayed, mu, weight_decay, now, before)
        if self._is_absorbed:
            self._remember(count, factor)

    def _remember(self, count: int, rate: Factor) -> None:
        """The first ``count`` learners have stepped with ``rate``; the others go on from the rate that they know."""
        previous = self._previous_rate
        if previous is None or count == len(self.rows):
            self._previous_rate = rate
            return
        like = self.rows.parameters
        each = torch.as_tensor(previous, dtype=like.dtype, device=like.device).expand(len(self.rows), 1).clone()
        each[:count] = chosen(rate, range(count))
        self._previous_rate = each

    def _update(
        self,
        parameters: Tensor,
        gradient: Tensor,
        momentum: Tensor,
        decayed: tuple[Tensor, Tensor],
        mu: Factor,
        weight_decay: Factor,
        rate: Factor,
        previous: Factor | None,
    ) -> None:
        """One update of some rows with learning rate ``rate``, after one with ``previous``."""
        self._prepare(parameters, gradient, decayed, weight_decay)
        if not isinstance(mu, Tensor) and not mu:
            add_scaled_(parameters, _sign_(gradient) if self.config.sign else gradient, -rate)
            return
        absorbed = self._is_absorbed
        if absorbed:
            momentum.mul_(mu * self._correction(rate, previous))
            add_scaled_(momentum, gradient, rate)
        elif isinstance(mu, Tensor):
            torch.addcmul(gradient, momentum, mu, out=momentum)
        else:
            # mu u + g in one pass over the memory, in place of two.
            torch.add(gradient, momentum, alpha=mu, out=momentum)
        if self.config.sign:
            if self.config.nesterov:
                add_scaled_(gradient, momentum, mu)
            else:
                gradient.copy_(momentum)
            add_scaled_(parameters, _sign_(gradient), -rate)
            return
        scale = 1.0 if absorbed else rate
        if self.config.nesterov:
            add_scaled_(parameters, gradient, -rate)
            add_scaled_(parameters, momentum, -scale * mu)
        else:
            add_scaled_(parameters, momentum, -scale)

    def _prepare(
        self, parameters: Tensor, gradient: Tensor, decayed: tuple[Tensor, Tensor], weight_decay: Factor
    ) -> None:
        """Make of the gradient of some rows what the momentum takes."""
        if isinstance(weight_decay, Tensor) or weight_decay:
            add_scaled_(*decayed, weight_decay)

    def _correction(self, rate: Factor, previous: Factor | None) -> Factor:
        """The ratio of learning rates that the absorbed momentum is scaled by."""
        if previous is None or not self.config.momentum_correction:
            return 1.0
        if bool((previous == 0).any() if isinstance(previous, Tensor) else previous == 0):
            raise ValueError("momentum_form: absorbed cannot go on from a learning rate of 0")
        return rate / previous

    def reset(self, states: Sequence[str]) -> None:
        """See :class:`~hpcsgd.optim.base.RowOptimizer`."""
        for name in states:
            self.rows[name].zero_()

    def keep(self, rows: Sequence[int]) -> None:
        """See :class:`~hpcsgd.optim.base.RowOptimizer`."""
        self.mu, self.weight_decay = chosen(self.mu, rows), chosen(self.weight_decay, rows)
        if self._previous_rate is not None:
            self._previous_rate = chosen(self._previous_rate, rows)
        self._bind()

    def state_dict(self) -> dict[str, Any]:
        """The learning rate of the step before: the absorbed form asks for it."""
        return {"previous_rate": self._previous_rate}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`~hpcsgd.optim.base.RowOptimizer`."""
        self._previous_rate = state["previous_rate"]

    def load_first(self, state: dict[str, Any]) -> None:
        """The momentum is taken as it is: of which learning rate it is, the learners need not agree."""


def _sign_(values: Tensor) -> Tensor:
    """Replace ``values`` by their signs; what is not finite becomes NaN, of which torch's sign makes 0 or 1."""
    return torch.add(values.sign(), values, alpha=0, out=values)
