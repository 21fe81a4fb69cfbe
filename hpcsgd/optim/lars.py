"""LARS: momentum SGD whose step is as long as the layer's own weights allow (You, Gitman and Ginsburg 2017)."""

from __future__ import annotations

from torch import Tensor

from hpcsgd.config import OptimizerConfig
from hpcsgd.optim.base import Factor, Values
from hpcsgd.optim.layers import Layers, trust_ratios
from hpcsgd.optim.rows import Rows
from hpcsgd.optim.sgd import RowSGD


class RowLARS(RowSGD):
    """SGD on g <- r (g + lambda w), with the local rate r = eta |w| / (|g| + lambda |w|) of each layer (equation 6).

    The momentum is that of the recipe's form. The paper's algorithm 1 has the absorbed one without correction:
    v <- mu v + gamma r (g + lambda w), w <- w - v. Where r is 1, this is SGD of the same form, bit by bit.
    """

    def __init__(
        self,
        config: OptimizerConfig,
        rows: Rows,
        *,
        momentum: Values | None = None,
        weight_decay: Values | None = None,
    ) -> None:
        """See :class:`~hpcsgd.optim.sgd.RowSGD`."""
        super().__init__(config, rows, momentum=momentum, weight_decay=weight_decay)
        self._layers = Layers(rows)

    def _prepare(
        self, parameters: Tensor, gradient: Tensor, decayed: tuple[Tensor, Tensor], weight_decay: Factor
    ) -> None:
        """Add weight decay, and scale each layer by its local rate."""
        weights, gradients = self._layers.norms(parameters, gradient)
        steps = gradients + weight_decay * weights
        super()._prepare(parameters, gradient, decayed, weight_decay)
        config = self.config
        self._layers.scale_(gradient, trust_ratios(weights, steps, config.trust_coefficient, config.max_trust_ratio))
