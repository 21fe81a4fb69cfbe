"""All learners in one pass, their parameters stacked along a learner axis."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hpcsgd.learners.engines.base import Normaliser
from hpcsgd.learners.engines.convert import convert
from hpcsgd.learners.engines.ops import memory_order
from hpcsgd.learners.stack import ReplicaStack


class FusedEngine:
    """Grouped convolutions and batched products; see :class:`~hpcsgd.learners.engines.base.Engine`."""

    name = "fused"

    def __init__(self, stack: ReplicaStack, label_smoothing: float = 0.0) -> None:
        """Convert the model of ``stack``.

        Raises:
            NotPossibleError: the model has a part that has no fused form.
        """
        self.stack = stack
        self.label_smoothing = label_smoothing
        self._convert(memory_order(stack.state.device, num_images=2))

    def _convert(self, order: torch.memory_format) -> None:
        self._program = convert(self.stack, order)
        self._size = len(self.stack)

    def forward_backward(self, images: Tensor, labels: Tensor, normaliser: Normaliser) -> Tensor:
        """See :class:`~hpcsgd.learners.engines.base.Engine`."""
        order = memory_order(images.device, labels.shape[1])
        if len(self.stack) != self._size or order is not self._program.copies.order:
            self._convert(order)
        if not self.stack.module.training:
            self.stack.module.train()
        logits = self._program(images)
        smoothing = self.label_smoothing
        each = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none", label_smoothing=smoothing)
        losses = each.detach().view_as(labels).sum(1)
        if isinstance(normaliser, Tensor) and normaliser.dim():
            each = each.view_as(labels) / normaliser.unsqueeze(1)
            normaliser = 1.0
        self._program.backward(each.sum() / normaliser)
        if self.stack.counts.numel():
            self.stack.counts.add_(1)
        return losses

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """See :class:`~hpcsgd.learners.engines.base.Engine`."""
        if len(self.stack) != self._size:
            self._convert(self._program.copies.order)
        module = self.stack.module
        training = module.training
        module.eval()
        result = self._program(images if images.dim() == 5 else images.expand(self._size, *images.shape))
        module.train(training)
        return result
